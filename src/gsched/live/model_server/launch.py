"""A model server from start to end: socket, HTTP, signals."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from gsched.errors import InputError
from gsched.live.model_server.app import build_app
from gsched.live.model_server.service import Service

KEEP_ALIVE = 75  # seconds that an idle connection stays, longer than clients keep theirs
LAST_ANSWERS = 1  # seconds for what is left when the grace is over
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server listens.

    Args:
        host: name or address; loopback unless others are to reach it.
        port: 0 for any.
        token: what clients must send; empty for no check.
        grace: seconds for which calls may finish at the end.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    grace: float = 10.0

    def address(self, port: int) -> str:
        """Return where a port of this host is found."""
        host = self.host.strip("[]")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(access: Access) -> socket.socket:
    """Return a socket that listens.

    Raises:
        InputError: there can be none at this address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            access.host.strip("[]"), access.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _unusable(access, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _unusable(access, error) from error
    return listener


def _unusable(access: Access, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    hint = "choose another --port or --host, or end what uses it"
    return InputError.one(access.address(access.port), "", f"cannot be listened on ({reason})", hint)


async def serve(
    new_service: Callable[[], Service], access: Access, ready: Callable[[int], None], stop: asyncio.Event
) -> bool:
    """Serve until `stop` is set, then drain; tell whether everything has ended in time.

    Args:
        new_service: makes the service, in the event loop.
        access: where.
        ready: called with the port once requests are accepted.
        stop: ends it.

    Raises:
        InputError: the port cannot be had.
    """
    listener = listen(access)
    service = new_service()
    config = uvicorn.Config(
        build_app(service, access.token),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=LAST_ANSWERS,
    )
    server = _Server(config, lambda: ready(listener.getsockname()[1]))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    ended = await service.drain(access.grace)
    server.should_exit = True
    await serving
    return ended


class _Server(uvicorn.Server):
    """Leaves signals alone, and tells when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def run(new_service: Callable[[], Service], access: Access, ready: Callable[[int], None]) -> bool:
    """Serve until the process is asked to end; tell whether everything has ended in time."""

    async def main() -> bool:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        return await serve(new_service, access, ready, stop)

    return asyncio.run(main())
