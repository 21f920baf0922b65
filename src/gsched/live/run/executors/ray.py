"""Models as actors of a Ray cluster: each in a process that has as many GPUs as its gang.

Ray decides which GPUs of a node an actor gets; it counts them as gsched does, so that there are always enough.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from gsched.cluster import Cluster
from gsched.errors import InputError, one_line
from gsched.live.model_server.backends import Backend
from gsched.live.model_server.profiles import profile_seconds
from gsched.live.run.executors import Answer, Call, ExecutorError, LostError, owner
from gsched.live.run.executors.ray_actor import Group
from gsched.live.run.executors.ray_nodes import Server, alive, gpus_of, servers_of
from gsched.ray_cluster import join
from gsched.state import memory_limit
from gsched.workload import Model

_RESERVE = 30.0  # wall-clock seconds that GPUs may take to become free, and a lost node to be known as such
_CLOSE = 120.0  # that a model may take to leave its GPUs, before its process is killed
_ANSWER = 5.0  # that the cluster may take to name its nodes
_LOOK = 0.05  # between two looks at the cluster
_FINEST = 10_000  # parts of a GPU that Ray tells apart


@dataclass(eq=False, slots=True)
class Instance:
    """A model on a gang.

    Args:
        model: what it is.
        gpus: the gang.
        server: that owns it.
        group: its GPUs in Ray.
        actor: computes.
        idle: set while no call is under way.
        calls: that are under way.
        hung: whether a call was given up that may still compute.
        closing: whether it is to be called no more.
    """

    model: Model
    gpus: range
    server: int
    group: Group | None = None
    actor: Any = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    hung: bool = False
    closing: bool = False


class RayExecutor:
    """Starts an actor for each instance, on the node that is the server of its gang."""

    name = "ray"

    def __init__(
        self, servers: Sequence[Server], make_backend: Callable[[], Backend], gpu_memory_gb: float | None = None
    ) -> None:
        """Use a cluster to which this process is connected.

        Args:
            servers: its nodes.
            make_backend: makes what computes, in each actor; Ray pickles it.
            gpu_memory_gb: of one GPU, where models share GPUs; None where each GPU holds one model.
        """
        self._nodes = list(servers)
        self._make_backend = make_backend
        self._shared = None if gpu_memory_gb is None else Cluster(1, gpu_memory_gb=gpu_memory_gb)
        self._instances: set[Instance] = set()
        self._groups: dict[range, Group] = {}
        self._used: set[int] = set()  # GPUs that have held something

    @property
    def servers(self) -> Sequence[range]:
        """The GPUs of each node."""
        return [server.gpus for server in self._nodes]

    @property
    def gpus(self) -> int:
        """Number of GPUs in use."""
        return self._nodes[-1].gpus.stop

    @property
    def gpus_per_server(self) -> int:
        """Number of GPUs of each node; the last may have fewer."""
        return len(self._nodes[0].gpus)

    async def load(self, model: Model, gpus: range) -> Instance:
        """Reserve GPUs, start an actor on them, and let it load the model.

        What an attempt leaves that fails or is cancelled is freed before the next one on those GPUs.
        """
        server = owner(self.servers, gpus)
        if self._shared and len(gpus) > 1:
            raise ExecutorError(f"{model.id}: several GPUs cannot be shared")
        for left in [other for other in self._on(gpus) if other.closing]:
            await self._free(left)
        self._require_room(model, gpus)
        instance = Instance(model, gpus, server)
        instance.idle.set()
        self._instances.add(instance)
        try:
            await self._start(instance)
        except BaseException:
            instance.closing = True
            raise
        self._used.update(gpus)
        return instance

    def _on(self, gpus: range) -> list[Instance]:
        return [other for other in self._instances if other.gpus.start < gpus.stop and gpus.start < other.gpus.stop]

    def _require_room(self, model: Model, gpus: range) -> None:
        held = self._on(gpus)
        if self._shared is None:
            full = bool(held)
        else:
            full = sum(other.model.memory_gb for other in held) + model.memory_gb > memory_limit(self._shared)
        if full:
            names = ", ".join(sorted(other.model.id for other in held))
            raise ExecutorError(
                f"there is no room for {model.id} on GPU {gpus.start}, which holds {names or 'nothing'}"
            )

    async def _start(self, instance: Instance) -> None:
        if not await self._is_alive(instance.server):
            raise self._lost(instance.server)
        try:
            instance.group = self._join_group(instance)
            await self._reserved(instance.group, instance.server)
            instance.actor = instance.group.start(self._part(instance), self._make_backend)
            fresh = self._used.isdisjoint(instance.gpus)
            await instance.actor.load.remote(instance.model, len(instance.gpus), fresh)
        except RayError as error:
            raise await self._failure(instance, error) from error

    def _part(self, instance: Instance) -> float:
        """Return the GPUs that an actor asks for, rounded down so that what fits in gsched's sums fits in Ray's."""
        if self._shared is None:
            return len(instance.gpus)
        share = min(1.0, instance.model.memory_gb / self._shared.gpu_memory_gb)
        return max(1, math.floor(share * _FINEST)) / _FINEST

    def _join_group(self, instance: Instance) -> Group:
        """Return the group of a gang, in which an actor's GPUs are those of the others that share them."""
        group = self._groups.get(instance.gpus)
        if group is None:
            node = self._nodes[instance.server].node
            group = self._groups[instance.gpus] = Group(node, len(instance.gpus))
        group.members.add(instance)
        return group

    async def _reserved(self, group: Group, server: int) -> None:
        """Wait until Ray keeps the GPUs of a group."""
        ready = asyncio.ensure_future(group.ready())
        end = perf_counter() + _RESERVE
        try:
            while not (await asyncio.wait({ready}, timeout=1.0))[0]:
                if not await self._is_alive(server):
                    raise self._lost(server)
                if perf_counter() > end:
                    where = f"{group.gpus} GPUs of node {self._nodes[server].address}"
                    raise ExecutorError(
                        f"{where} are not free after {_RESERVE:g} s; something else on Ray may use them"
                    )
            ready.result()
        finally:
            ready.cancel()

    async def call(self, instance: Instance, call: Call) -> Answer:
        """Call an actor.

        A call that is given up is cancelled where it has not begun. One that computes cannot be stopped; unloading
        then kills the actor.
        """
        if instance not in self._instances or instance.closing:
            raise ExecutorError(f"{instance.model.id} is not loaded")
        reference = instance.actor.call.remote({**call.data, "seconds": call.seconds})
        instance.calls += 1
        instance.idle.clear()
        try:
            output, seconds = await reference
        except RayError as error:
            raise await self._failure(instance, error) from error
        except asyncio.CancelledError:
            instance.hung = True
            ray.cancel(reference)
            raise
        finally:
            instance.calls -= 1
            if not instance.calls:
                instance.idle.set()
        made = output.image_path if output.response is None else output.response
        return Answer(made or "", seconds)

    async def unload(self, instance: Instance) -> None:
        """Let the actor free its GPUs, end it, and wait until Ray has them back."""
        if instance not in self._instances:
            return
        instance.closing = True
        await instance.idle.wait()
        if not instance.hung:
            with suppress(RayError, TimeoutError):  # the GPUs are freed with the process in any case
                async with asyncio.timeout(_CLOSE):
                    await instance.actor.close.remote()
        await self._free(instance)

    async def _free(self, instance: Instance) -> None:
        """Kill what runs an instance, and wait until its GPUs are free.

        Raises:
            ExecutorError: they are not.
        """
        try:
            if instance.actor is not None:
                ray.kill(instance.actor)
            group = instance.group
            if group is not None:
                group.members.discard(instance)
                if not group.members:
                    if self._groups.get(instance.gpus) is group:
                        del self._groups[instance.gpus]
                    await group.give_back(_RESERVE)
        except RayError as error:
            raise ExecutorError(f"{instance.model.id} may still be there ({_text(error)})") from error
        self._instances.discard(instance)

    async def _failure(self, instance: Instance, error: RayError) -> ExecutorError:
        """Return what an error means: the model has failed, or its process has ended, or the whole node is gone."""
        if isinstance(error, RayTaskError):
            return ExecutorError(_text(error.cause if isinstance(error.cause, Exception) else error))
        end = perf_counter() + _RESERVE
        while await self._is_alive(instance.server):
            # Ray may take seconds to learn that a node is gone; until then its actors are only unavailable.
            if not isinstance(error, ActorUnavailableError) or perf_counter() > end:
                return ExecutorError(f"the process of {instance.model.id} has ended: {_text(error)}")
            await asyncio.sleep(_LOOK)
            try:
                await instance.actor.ping.remote()
                return ExecutorError(f"{instance.model.id} was not reached: {_text(error)}")
            except RayError as again:
                error = again
        return self._lost(instance.server)

    def _lost(self, server: int) -> LostError:
        return LostError(f"node {self._nodes[server].address} of the Ray cluster is gone")

    async def _is_alive(self, server: int) -> bool:
        return self._nodes[server].node in await asyncio.to_thread(alive)

    async def estimate(self, model: Model, gpus: range, call: Call) -> float:  # noqa: ARG002 (as the protocol has it)
        """Return what the model's profile says of the call, else what was expected anyway."""
        seconds = profile_seconds(model, call.data)
        return call.seconds if seconds is None else seconds

    async def healthy(self, server: int) -> bool:
        """Tell whether a node is alive; where it is not, one with as many GPUs that has joined takes its place."""
        try:
            async with asyncio.timeout(_ANSWER):
                nodes = await asyncio.to_thread(alive)
        except (RayError, RuntimeError, TimeoutError):
            return False
        ours = self._nodes[server]
        if ours.node in nodes:
            return True
        owned = {other.node for other in self._nodes}
        spare = [node for id, node in nodes.items() if id not in owned and gpus_of(node) >= len(ours.gpus)]
        if not spare:
            return False
        ours.node, ours.address = spare[0]["NodeID"], spare[0]["NodeManagerAddress"]
        self._used.difference_update(ours.gpus)
        return True

    async def reset(self, server: int) -> None:
        """Free what this run has left on a node."""
        for instance in [instance for instance in self._instances if instance.server == server]:
            await self._free(instance)

    async def close(self) -> None:
        """End all actors, and leave the cluster; one that was started here ends."""
        await asyncio.gather(*map(self._free, list(self._instances)), return_exceptions=True)
        await asyncio.to_thread(ray.shutdown)


def connect(
    make_backend: Callable[[], Backend],
    *,
    address: str | None = None,
    gpus: int | None = None,
    gpu_memory_gb: float | None = None,
    patience: float = 20.0,
) -> RayExecutor:
    """Join a Ray cluster, or start one on this machine, and return an executor for its GPUs.

    Args:
        make_backend: makes what computes, in each actor. Ray pickles it, and every node needs the same gsched.
        address: of the cluster: `host:port`, `ray://host:port`, or `auto` for one on this machine; None to start one
            here, which ends with the executor.
        gpus: how many to use, the first ones; None for all. A cluster started here pretends to have so many.
        gpu_memory_gb: of one GPU, where models share GPUs; None where each GPU holds one model.
        patience: wall-clock seconds to wait for the cluster.

    Raises:
        InputError: there is no such cluster, or its GPUs do not do.
    """
    join(address, gpus, patience)
    try:
        servers = servers_of(alive().values(), gpus)
    except InputError:
        ray.shutdown()
        raise
    return RayExecutor(servers, make_backend, gpu_memory_gb)


def require_shareable(models: Iterable[Model]) -> None:
    """Raise an `InputError` where a model of several GPUs would have to share them, which Ray cannot do."""
    for model in models:
        if model.gpus_required > 1:
            message = f"needs {model.gpus_required} GPUs; on Ray only models of one GPU can share"
            raise InputError.one("", f"model {model.id}", message, "use exclusive residency, or another executor")


def _text(error: BaseException) -> str:
    """Return what an error says, or the last line of it, where Ray's says what has happened."""
    lines = str(error).strip().splitlines()
    return one_line(lines[-1]) if lines else type(error).__name__
