"""A model server in the test's own event loop, a backend that tests hold by the hand, and a plain client."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from serving import PATIENCE, until

from gsched.live.model_server.backends import Backend, BackendError, Output
from gsched.live.model_server.devices import Devices
from gsched.live.model_server.launch import Access, serve
from gsched.live.model_server.profiles import Profiles
from gsched.live.model_server.service import Service
from gsched.workload import Model


@dataclass
class Held:
    """A backend of which calls named in `hold`, and loads of models named there, wait until they are let go."""

    hold: set[str] = field(default_factory=set)
    fail: set[str] = field(default_factory=set)
    name: str = "held"
    begun: list[str] = field(default_factory=list)
    """Prompts of calls, and `load NAME` or `close NAME`, in the order in which they began."""
    fresh: list[bool] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, model: Model, devices: Sequence[int], *, fresh: bool) -> "HeldModel":
        self.fresh.append(fresh)
        self.work(f"load {model.id}")
        return HeldModel(self, model)

    def work(self, what: str) -> None:
        with self.lock:
            self.begun.append(what)
            gate = self.gates.setdefault(what, threading.Event())
        if what in self.hold:
            assert gate.wait(PATIENCE)
        self.ended.append(what)
        if what in self.fail:
            raise BackendError(f"{what} has failed")

    def let_go(self, *whats: str) -> None:
        for what in whats:
            with self.lock:
                self.gates.setdefault(what, threading.Event()).set()

    async def began(self, what: str) -> None:
        await until(lambda: what in self.begun)


@dataclass
class HeldModel:
    backend: Held
    model: Model

    def call(self, data: Mapping[str, Any]) -> Output:
        self.backend.work(data["prompt"])
        return Output(response=f"{data['prompt']} answered")

    def close(self) -> None:
        self.backend.work(f"close {self.model.id}")


@dataclass
class Running:
    """A server, and a client that knows the wire format only."""

    service: Service
    port: int
    stop: asyncio.Event
    task: "asyncio.Task[bool]"
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        async with self.http.request(method, path, json=body, **options) as response:
            return response.status, await response.json()

    async def done(self, method: str, path: str, body: Any = None) -> Any:
        """Ask what must succeed; return its data."""
        status, answer = await self.ask(method, path, body)
        assert status == 200, answer
        assert answer["success"] is True
        assert isinstance(answer["message"], str)
        return answer["data"]

    async def refused(self, status: int, method: str, path: str, body: Any = None) -> str:
        """Ask what must be refused with this status; return why."""
        found, answer = await self.ask(method, path, body)
        assert found == status, answer
        assert list(answer) == ["detail"]
        detail = answer["detail"]
        assert isinstance(detail, str)
        assert "\n" not in detail
        return detail

    async def serve(self, name: str, device: Any = "cuda:0") -> str:
        data = await self.done("POST", "/standalone/serve", {"model_name": name, "device": device})
        return str(data["instance_id"])

    async def call(self, id: str, prompt: str = "", **data: Any) -> Any:
        body = {"instance_id": id, "data": {"prompt": prompt, **data}}
        return await self.done("POST", f"/standalone/call/{id}", body)

    async def queued(self, id: str, prompt: str) -> "asyncio.Task[Any]":
        """Call, and return once the call waits for its device."""
        before = self.service.turns.waiting
        task = asyncio.create_task(self.call(id, prompt))
        await until(lambda: self.service.turns.waiting > before)
        return task

    async def unload(self, id: str) -> Any:
        return await self.done("DELETE", f"/standalone/instance/{id}")

    async def status(self) -> Any:
        return await self.done("GET", "/standalone/status")


@asynccontextmanager
async def model_server(
    backend: Backend,
    gpus: int = 2,
    *,
    gpu_memory: float = 80.0,
    dram: float | None = None,
    models: Sequence[Model] = (),
    access: Access | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """Serve while the block runs; then end, unless that has happened in it."""
    access = access or Access(port=0, grace=PATIENCE)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    services: list[Service] = []

    def new_service() -> Service:
        services.append(Service(backend, Devices(gpus, gpu_memory, dram), Profiles(models), **options))
        return services[0]

    task = asyncio.create_task(serve(new_service, access, ready.set_result, stop))
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    port = await ready
    headers = {"Authorization": f"Bearer {access.token}"} if access.token else None
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as http:
        try:
            yield Running(services[0], port, stop, task, http)
        finally:
            stop.set()
            await asyncio.wait([task])
    task.result()
