"""The standalone model server: models loaded, served and called over HTTP."""
