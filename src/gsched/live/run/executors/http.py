"""Model servers over HTTP: each owns some GPUs, and speaks the wire format of `gsched model-server`.

Existing servers of that format answer their own refusals with status 500 and may not tell what they own; whatever is
not a success counts as a failed attempt.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from gsched.errors import InputError, one_line
from gsched.live.run.executors import Answer, Call, ExecutorError, LostError, owner
from gsched.workload import Model

_CONNECT = 5.0  # wall-clock seconds
_PATIENCE, _LOOK = 10.0, 0.2  # for a server that has just been started, and between two looks
_HEALTH = 3.0
_CLOSE = 30.0
_IDLE = 3.0  # seconds for which a connection is kept; servers close them after five


@dataclass(frozen=True, slots=True)
class Instance:
    """A model on a server."""

    server: int
    id: str


@dataclass(frozen=True, slots=True)
class Told:
    """What servers tell of themselves; None where they do not.

    Args:
        gpus: of each server.
        memory_gb: of the smallest GPU.
        time_scale: wall-clock seconds for each second of the workload.
    """

    gpus: tuple[int | None, ...]
    memory_gb: float | None
    time_scale: float | None


class Http:
    """Speaks with model servers."""

    name = "http"

    def __init__(self, urls: Sequence[str], session: aiohttp.ClientSession) -> None:
        """Know the servers, but not yet what they own.

        Args:
            urls: one of each server, such as http://localhost:8000.
            session: sends requests.
        """
        self.urls = [url.rstrip("/") for url in urls]
        self.servers: Sequence[range] = ()
        self._session = session
        self._instances: set[Instance] = set()
        self._freeing: set[asyncio.Task[None]] = set()

    async def ask(self) -> Told:
        """Ask the servers what they are; one that has just been started is waited for.

        Raises:
            InputError: one does not answer, or they contradict each other.
        """
        found = await asyncio.gather(*map(self._status, range(len(self.urls))))
        scales = {status.get("time_scale") for status in found}
        if len(scales) > 1:
            told = ", ".join(map(str, scales))
            raise InputError.one("", "model servers", f"have different time scales ({told})", "start them with one")
        gpus = [[part for part in _parts(status) if str(part.get("name", "")).startswith("cuda")] for status in found]
        memory = [part["memory_total_gb"] for parts in gpus for part in parts if part.get("memory_total_gb")]
        scale = scales.pop()
        return Told(
            tuple(len(parts) if _parts(status) else None for parts, status in zip(gpus, found, strict=True)),
            float(min(memory)) if memory else None,
            float(scale) if isinstance(scale, int | float) and scale > 0 else None,
        )

    async def _status(self, server: int) -> Mapping[str, Any]:
        url, loop = self.urls[server], asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while True:
            try:
                async with asyncio.timeout(_CONNECT):
                    return await self._data(server, "GET", "/standalone/status")
            except (ExecutorError, TimeoutError) as error:
                if loop.time() > until or not isinstance(error, LostError):
                    hint = "start one with gsched model-server, or give its --server-url"
                    raise InputError.one("", f"model server {url}", f"does not answer ({_text(error)})", hint) from None
            await asyncio.sleep(_LOOK)

    def own(self, gpus: Sequence[int]) -> None:
        """Say how many of the run's GPUs each server owns."""
        ends = [sum(gpus[: i + 1]) for i in range(len(gpus))]
        self.servers = [range(end - count, end) for count, end in zip(gpus, ends, strict=True)]

    async def load(self, model: Model, gpus: range) -> Instance:
        """Serve a model; where that is cancelled, the instance is freed as soon as it is there."""
        task = asyncio.create_task(self._serve(model, gpus))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            freeing = asyncio.create_task(self._free(task))
            self._freeing.add(freeing)
            freeing.add_done_callback(self._freeing.discard)
            raise

    async def _free(self, loading: "asyncio.Task[Instance]") -> None:
        """Unload what nobody waits for any more; where that fails, `close` tries again."""
        with suppress(ExecutorError):
            await self.unload(await loading)

    async def _serve(self, model: Model, gpus: range) -> Instance:
        server, device = self._device(gpus)
        data = await self._data(server, "POST", "/standalone/serve", {"model_name": model.id, "device": device})
        if not isinstance(data.get("instance_id"), str):
            raise ExecutorError(f"{self.urls[server]} told no instance_id")
        instance = Instance(server, data["instance_id"])
        self._instances.add(instance)
        return instance

    async def call(self, instance: Instance, call: Call) -> Answer:
        """Call an instance."""
        body = {"instance_id": instance.id, "data": {**call.data, "seconds": call.seconds}}
        data = await self._data(instance.server, "POST", f"/standalone/call/{instance.id}", body)
        output = data.get("response")
        if output is None:
            output = data.get("image_path")
        seconds = data.get("execution_seconds")
        return Answer(str(output or ""), seconds if isinstance(seconds, int | float) else None)

    async def unload(self, instance: Instance) -> None:
        """Delete an instance."""
        with suppress(_GoneError):
            await self._data(instance.server, "DELETE", f"/standalone/instance/{instance.id}")
        self._instances.discard(instance)

    async def estimate(self, model: Model, gpus: range, call: Call) -> float:
        """Ask the server that owns the GPUs; one that was told of none may have others, and is asked for the CPU."""
        server, device = self._device(gpus) if self.servers else (0, "cpu")
        body = {"model_name": model.id, "device": device, "data": dict(call.data)}
        data = await self._data(server, "POST", "/standalone/estimate", body)
        seconds, unit = data.get("estimated_execution_time"), data.get("estimated_time_unit", "seconds")
        if unit != "seconds" or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
            raise ExecutorError(f"{self.urls[server]} estimates {seconds!r} {unit} for {model.id}")
        return float(seconds)

    async def healthy(self, server: int) -> bool:
        """Tell whether a server answers that it is well."""
        try:
            async with asyncio.timeout(_HEALTH), self._session.get(f"{self.urls[server]}/health") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def reset(self, server: int) -> None:
        """Delete what this run has left on a server; one that has started anew knows nothing of it."""
        for instance in [instance for instance in self._instances if instance.server == server]:
            await self.unload(instance)

    async def close(self) -> None:
        """Delete all instances, and close the connections."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE):
                everything = (*self._freeing, *map(self.unload, self._instances))
                await asyncio.gather(*everything, return_exceptions=True)
        await self._session.close()

    def _device(self, gpus: range) -> tuple[int, str]:
        """Return the server that owns a gang, and what it calls it."""
        server = owner(self.servers, gpus)
        first = self.servers[server].start
        return server, "cuda:" + ",".join(str(gpu - first) for gpu in gpus)

    async def _data(
        self, server: int, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Return the `data` of a successful answer.

        Raises:
            ExecutorError: the answer is none.
            LostError: the server does not answer.
        """
        try:
            async with self._session.request(method, self.urls[server] + path, json=body) as response:
                return _data_of(response.status, await response.read(), self.urls[server])
        except (aiohttp.ClientError, OSError) as error:
            kind = ExecutorError if await self.healthy(server) else LostError
            reason = "cannot be reached" if isinstance(error, aiohttp.ClientConnectorError) else _text(error)
            raise kind(f"{self.urls[server]}: {reason}") from None


class _GoneError(ExecutorError):
    """There is no such instance."""


def _data_of(status: int, content: bytes, url: str) -> Mapping[str, Any]:
    """Return the `data` of an answer.

    Raises:
        ExecutorError: it is no success.
    """
    try:
        answer = msgspec.json.decode(content)
    except msgspec.DecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise ExecutorError(f"{url} answers {status} without JSON")
    data = answer.get("data")
    if status < 400 and answer.get("success") and isinstance(data, dict):
        return data
    detail = one_line(str(answer.get("detail") or answer.get("message") or "no success"))
    gone = status == 404 or (status == 500 and "not found" in detail.lower())
    raise (_GoneError if gone else ExecutorError)(f"{url} answers {status}: {detail}")


def _parts(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the devices that a server tells of; none where it tells nothing that can be understood."""
    devices = status.get("devices")
    return [part for part in devices if isinstance(part, dict)] if isinstance(devices, list) else []


def _text(error: BaseException) -> str:
    return one_line(str(error)) or type(error).__name__


def connect(urls: Sequence[str], token: str = "") -> Http:
    """Return an executor for servers, to be used in the running event loop.

    Args:
        urls: of the servers.
        token: that they ask for.
    """
    session = aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {token}"} if token else None,
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
    )
    return Http(urls, session)
