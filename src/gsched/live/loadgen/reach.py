"""Whether there is a scheduler at all, before anything is started."""

import asyncio

from gsched.errors import InputError
from gsched.live.loadgen.sut import Connection


def require_scheduler(connection: Connection, seconds: float) -> None:
    """Wait until the scheduler accepts connections.

    Raises:
        InputError: it does not within so many seconds.
    """

    async def connect() -> None:
        async with connection.channel() as channel:
            await asyncio.wait_for(channel.channel_ready(), seconds)

    try:
        asyncio.run(connect())
    except TimeoutError:
        hint = "start one with gsched serve, or check --scheduler-url and TLS"
        raise InputError.one(connection.url, "", f"no scheduler answers within {seconds:g} s", hint) from None
