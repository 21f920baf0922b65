"""The live half: a scheduler that serves requests over gRPC, and the load generator that tests it."""
