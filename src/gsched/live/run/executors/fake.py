"""An executor that only pretends, in the same process: calls sleep, and whatever a test wants goes wrong."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gsched.live.run.executors import Answer, Call, ExecutorError, LostError, owner
from gsched.workload import Model


@dataclass(eq=False)
class FakeInstance:
    """A model on a gang."""

    model: Model
    gpus: range
    server: int


@dataclass
class Fake:
    """Sleeps for as long as a call is expected to take.

    Args:
        servers: the GPUs of each server.
        time_scale: wall-clock seconds for each second of the workload.
        load_seconds: of the workload, that a model takes to load.
        unload_seconds: of the workload, that a model takes to leave its GPUs.
        trouble: asked before each load, call and unload, with its instance; raises to let it fail.
    """

    servers: Sequence[range]
    time_scale: float = 0.0
    load_seconds: Callable[[Model], float] = lambda model: model.load_time_seconds or 0.0
    unload_seconds: Callable[[Model], float] = lambda _model: 0.0
    trouble: Callable[[str, FakeInstance], None] = lambda _what, _instance: None
    name: str = "fake"
    lost: set[int] = field(default_factory=set)
    """Servers that do not answer."""
    instances: list[FakeInstance] = field(default_factory=list)

    async def load(self, model: Model, gpus: range) -> FakeInstance:
        """Load a model where no GPU holds another."""
        server = owner(self.servers, gpus)
        instance = FakeInstance(model, gpus, server)
        await self._take("load", instance, self.load_seconds(model))
        self.instances.append(instance)
        return instance

    async def call(self, instance: FakeInstance, call: Call) -> Answer:
        """Wait."""
        if instance not in self.instances:
            raise ExecutorError(f"{instance.model.id} is not loaded")
        await self._take("call", instance, call.seconds)
        return Answer(f"answer of {instance.model.id}", call.seconds * self.time_scale)

    async def _take(self, what: str, instance: FakeInstance, seconds: float) -> None:
        self._require(instance.server)
        self.trouble(what, instance)
        await asyncio.sleep(seconds * self.time_scale)
        self._require(instance.server)

    def _require(self, server: int) -> None:
        if server in self.lost:
            raise LostError(f"server {server} does not answer")

    async def unload(self, instance: FakeInstance) -> None:
        """Forget an instance."""
        await self._take("unload", instance, self.unload_seconds(instance.model))
        if instance in self.instances:
            self.instances.remove(instance)

    async def estimate(self, model: Model, gpus: range, call: Call) -> float:  # noqa: ARG002 (as the protocol has it)
        """Return what was expected anyway."""
        return call.seconds

    async def healthy(self, server: int) -> bool:
        """Tell whether a server is not lost."""
        return server not in self.lost

    async def reset(self, server: int) -> None:
        """Forget what a server held."""
        self._require(server)
        self.instances = [instance for instance in self.instances if instance.server != server]

    async def close(self) -> None:
        """Forget everything."""
        self.instances.clear()
