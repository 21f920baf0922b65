"""What a Ray cluster gives an instance: GPUs that it keeps for us, and the process that uses them."""

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from gsched.live.model_server.backends import Backend, Loaded, Output
from gsched.live.run.executors import ExecutorError
from gsched.workload import Model

_LOOK = 0.05  # wall-clock seconds between two looks at the cluster


class Worker:
    """What runs in an actor: a backend with one model. Ray calls its methods one after another."""

    def __init__(self, make_backend: Callable[[], Backend]) -> None:
        self._backend = make_backend()
        self._loaded: Loaded | None = None

    def load(self, model: Model, gpus: int, fresh: bool) -> None:
        """Load a model onto the GPUs that Ray has made visible to this process, which are numbered from 0."""
        self._loaded = self._backend.load(model, range(gpus), fresh=fresh)

    def call(self, data: dict[str, Any]) -> tuple[Output, float]:
        """Return the model's output, and the wall-clock seconds that it took."""
        assert self._loaded is not None
        began = perf_counter()
        return self._loaded.call(data), perf_counter() - began

    def close(self) -> None:
        """Free the GPUs."""
        assert self._loaded is not None
        self._loaded.close()

    def ping(self) -> None:
        """Answer."""


class Group:
    """GPUs of a node that Ray keeps for us: a placement group of one bundle."""

    def __init__(self, node: str, gpus: int) -> None:
        """Ask Ray for GPUs of a node, which it keeps as soon as they are free."""
        self.gpus = gpus
        self.members: set[Any] = set()
        """The instances that use it."""
        label = {"ray.io/node-id": node}
        self._handle = placement_group([{"GPU": float(gpus)}], strategy="STRICT_PACK", bundle_label_selector=[label])

    async def ready(self) -> None:
        """Wait until Ray keeps the GPUs."""
        await self._handle.ready()

    def start(self, part: float, make_backend: Callable[[], Backend]) -> Any:
        """Start an actor that uses so many of the GPUs, without waiting for it.

        It asks for no CPU, so that small machines can pretend to have many GPUs.
        """
        options: Mapping[str, Any] = {
            "num_cpus": 0,
            "num_gpus": part,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(self._handle, placement_group_bundle_index=0),
        }
        return ray.remote(Worker).options(**options).remote(make_backend)

    async def give_back(self, patience: float) -> None:
        """End what still uses the GPUs, and wait until Ray has them back; it may have them already.

        Raises:
            ExecutorError: Ray takes longer than so many wall-clock seconds.
        """
        remove_placement_group(self._handle)
        end = perf_counter() + patience
        while await asyncio.to_thread(self._is_there):
            if perf_counter() > end:
                raise ExecutorError(f"Ray has not taken {self.gpus} GPUs back within {patience:g} s")
            await asyncio.sleep(_LOOK)

    def _is_there(self) -> bool:
        """Tell whether the cluster has resources of the group; Ray names them after it."""
        resources: Callable[[], dict[str, float]] = ray.available_resources
        return any(name.endswith(self._handle.id.hex()) for name in resources())
