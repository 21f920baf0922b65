"""The model server without HTTP: which models are where, who may compute when."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import structlog

from gsched.live.model_server.backends import Backend, BackendError, Fetching, Output, UnknownModelError
from gsched.live.model_server.devices import CPU, Devices, numbers
from gsched.live.model_server.estimates import Estimates
from gsched.live.model_server.instances import Answer, Entry, Instance, now
from gsched.live.model_server.profiles import Profiles
from gsched.live.model_server.refusals import GoneError, RefusedError
from gsched.live.model_server.turns import Turn, Turns
from gsched.workload import Model

T = TypeVar("T")

CLOSING = "the server is shutting down"
FETCHES = 4  # that go on at once


class Service:
    """Loads and calls models. It belongs to one event loop; what blocks runs in threads."""

    def __init__(
        self,
        backend: Backend,
        devices: Devices,
        profiles: Profiles,
        *,
        time_scale: float = 1.0,
        max_queue: int = 512,
    ) -> None:
        """Begin with empty devices.

        Args:
            backend: computes.
            devices: what there is.
            profiles: of models.
            time_scale: wall-clock seconds for each second of the workload.
            max_queue: calls and loads that may wait for devices.
        """
        self.backend, self.devices, self.profiles = backend, devices, profiles
        self.time_scale, self.max_queue = time_scale, max_queue
        self.models: dict[str, Entry] = {}
        self.instances: dict[str, Instance] = {}
        self.turns = Turns(devices.by_name)
        self.estimates = Estimates(trust_seconds=backend.name == "emulated")
        self.closing = False
        self._running: set[asyncio.Future[Any]] = set()
        self._log = structlog.get_logger().bind()
        self._pool = ThreadPoolExecutor(len(devices.by_name), "gsched-device")  # a turn is a thread at most
        self._fetching = ThreadPoolExecutor(FETCHES, "gsched-fetch")

    async def download(self, name: str) -> Entry:
        """Bring a model's files to this machine."""
        self.require_open()
        entry = self.models.get(name)
        if entry is None:
            entry = self.models[name] = Entry(self.profiles.find(name))
        async with entry.lock:
            if not entry.fetched:
                await self._fetch(entry)
        return entry

    async def _fetch(self, entry: Entry) -> None:
        if isinstance(self.backend, Fetching):
            await self._blocking(self._fetching, partial(self.backend.fetch, entry.model))
        entry.fetched = True
        self._log.info("fetched", model=entry.model.id)

    async def load_to_dram(self, name: str) -> Entry:
        """Keep a copy of a model in the CPU's memory."""
        entry = await self.download(name)
        if not entry.in_dram:
            self.devices.place(entry.copy, [CPU], entry.model.memory_gb)
            entry.in_dram = True
        return entry

    async def load(self, name: str, devices: Sequence[str], *, serve: bool) -> Instance:
        """Load a model onto devices; to serve it, one that was loaded there for that is taken first."""
        entry = await self.download(name)
        self.require_open()
        devices = tuple(devices)
        for instance in self.instances.values() if serve else ():
            same = instance.model.id == name and instance.devices == devices
            if same and instance.state == "loaded":
                instance.served = True
                return instance
        return await self._new_instance(entry.model, devices, served=serve)

    async def _new_instance(self, model: Model, devices: tuple[str, ...], *, served: bool) -> Instance:
        instance = Instance(self._new_id(), model, devices, now(), served)
        self.devices.place(instance.owner, devices, model.memory_gb)
        self.instances[instance.id] = instance
        turn = self.turns.join(devices)
        try:
            self._require_short_queue(turn)
            await turn.ready
            fresh = self.devices.touch(devices)
            instance.loaded = await self._blocking(
                self._pool, partial(self.backend.load, model, numbers(devices), fresh=fresh)
            )
        finally:
            self.turns.leave(turn)
            if instance.loaded is None:
                self._forget(instance)
        self._log.info("loaded", model=model.id, instance=instance.id, devices=list(devices))
        return instance

    async def call(self, id: str, data: Mapping[str, Any], gone: Callable[[], Awaitable[None]]) -> Answer:
        """Call an instance in its turn.

        Args:
            id: of the instance.
            data: checked.
            gone: returns when the client has left, which ends a call that still waits.

        Raises:
            GoneError: it has.
            RefusedError: there is no such instance, or it cannot take the call.
        """
        self.require_open()
        instance = self._instance(id)
        began = perf_counter()
        turn = self.turns.join(instance.devices)
        try:
            if not turn.ready.done():
                self._require_short_queue(turn)
                await self._wait(instance, turn, gone)
            waited = perf_counter() - began
            output, seconds = await self._compute(instance, data)
        finally:
            self.turns.leave(turn)
        instance.calls += 1
        return Answer(instance, output, seconds, waited)

    async def _wait(self, instance: Instance, turn: Turn, gone: Callable[[], Awaitable[None]]) -> None:
        left = asyncio.ensure_future(gone())
        instance.waiting += 1
        try:
            await asyncio.wait([turn.ready, left], return_when=asyncio.FIRST_COMPLETED)
            if not turn.ready.done():
                raise GoneError
            turn.ready.result()
        finally:
            instance.waiting -= 1
            left.cancel()

    async def _compute(self, instance: Instance, data: Mapping[str, Any]) -> tuple[Output, float]:
        """Return the output, and the wall-clock seconds that it took."""
        loaded = instance.loaded
        assert loaded

        def work() -> tuple[Output, float]:
            began = perf_counter()
            output = loaded.call(data)
            return output, perf_counter() - began

        output, seconds = await self._blocking(self._pool, work)
        if self.time_scale > 0:
            self.estimates.measured(instance.model, data, seconds / self.time_scale)
        return output, seconds

    async def unload(self, id: str) -> Instance:
        """Free what an instance holds, once the calls that it has taken are answered."""
        self.require_open()
        instance = self._instance(id)
        await self._leave(instance, self._begin_to_leave(instance))
        return instance

    def _begin_to_leave(self, instance: Instance) -> Turn:
        instance.leaving = True
        return self.turns.join(instance.devices)  # behind all of its calls

    async def _leave(self, instance: Instance, turn: Turn) -> None:
        try:
            await turn.ready
            assert instance.loaded
            await self._blocking(self._pool, instance.loaded.close)
        finally:
            self.turns.leave(turn)
            self._forget(instance)
        self._log.info("unloaded", model=instance.model.id, instance=instance.id)

    async def offload(self, name: str, *, keep_in_dram: bool) -> Entry:
        """Unload all instances of a model, and keep or drop the copy in the CPU's memory."""
        self.require_open()
        entry = self.models.get(name)
        if entry is None or not entry.fetched:
            raise RefusedError(404, f"model {name} is not here")
        instances = [instance for instance in self.instances.values() if instance.model.id == name]
        if any(instance.state == "loading" for instance in instances):
            raise RefusedError(409, f"model {name} is being loaded; offload it when that has ended")
        if keep_in_dram:
            await self.load_to_dram(name)
        elif entry.in_dram:
            self.devices.free(entry.copy, [CPU])
            entry.in_dram = False
        leaving = [(instance, self._begin_to_leave(instance)) for instance in instances if not instance.leaving]
        await asyncio.gather(*(self._leave(instance, turn) for instance, turn in leaving))
        await asyncio.gather(*(instance.gone.wait() for instance in instances))
        return entry

    def find(self, id: str) -> Instance:
        """Return an instance, whatever its state.

        Raises:
            RefusedError: there is none.
        """
        instance = self.instances.get(id)
        if instance is None:
            raise RefusedError(404, f"instance {id} does not exist")
        return instance

    def require_open(self) -> None:
        """Raise a `RefusedError` if the server is about to end."""
        if self.closing:
            raise RefusedError(503, CLOSING)

    async def drain(self, grace: float) -> bool:
        """Take nothing new, wait so many seconds for what is there, and tell whether all of it has ended."""
        self.closing = True
        self._log.info("draining", waiting=self.turns.waiting, grace_seconds=grace)
        try:
            async with asyncio.timeout(grace):
                await self.turns.empty()
                while self._running:
                    await asyncio.wait(self._running)
        except TimeoutError:
            self.turns.refuse(RefusedError(503, CLOSING))
            for work in self._running:
                work.cancel()
            return False
        return True

    def _instance(self, id: str) -> Instance:
        """Return an instance that can be called or unloaded."""
        instance = self.find(id)
        if instance.state in ("loading", "unloading"):
            raise RefusedError(409, f"instance {id} is {instance.state}")
        return instance

    def _forget(self, instance: Instance) -> None:
        self.devices.free(instance.owner, instance.devices)
        del self.instances[instance.id]
        instance.gone.set()

    def _new_id(self) -> str:
        while (id := secrets.token_hex(3)) in self.instances:
            pass
        return id

    def _require_short_queue(self, turn: Turn) -> None:
        if not turn.ready.done() and self.turns.waiting > self.max_queue:
            raise RefusedError(503, f"{self.max_queue} calls are waiting already; try again later")

    async def _blocking(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Run what blocks in a thread; that a model fails is a refusal too."""
        future = asyncio.get_running_loop().run_in_executor(pool, work)
        self._running.add(future)
        try:
            return await future
        except UnknownModelError as error:
            raise RefusedError(404, str(error)) from error
        except BackendError as error:
            self._log.warning("the backend failed", reason=str(error))
            raise RefusedError(500, str(error)) from error
        except asyncio.CancelledError:
            if self.closing:  # the thread goes on, but nobody waits for it any more
                raise RefusedError(503, CLOSING) from None
            raise
        finally:
            self._running.discard(future)
