"""Whether there is a scheduler at all, before anything is started."""

import grpc

from gsched.errors import InputError
from gsched.live.loadgen.sut import Connection


def require_scheduler(connection: Connection, seconds: float) -> None:
    """Wait until the scheduler accepts connections.

    Raises:
        InputError: it does not within so many seconds.
    """
    if connection.authority is None:
        channel = grpc.insecure_channel(connection.url)
    else:
        channel = grpc.secure_channel(connection.url, grpc.ssl_channel_credentials(connection.authority))
    with channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            hint = "start one with gsched serve, or check --scheduler-url and TLS"
            raise InputError.one(connection.url, "", f"no scheduler answers within {seconds:g} s", hint) from None
