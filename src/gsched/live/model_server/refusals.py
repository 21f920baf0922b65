"""What the server does not do, and the HTTP status that says so."""


class RefusedError(Exception):
    """A request is refused; the message is for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class GoneError(Exception):
    """The client has left before its turn."""
