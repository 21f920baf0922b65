"""Which executor a command uses, and what it tells of its GPUs."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli.extras import require_extra
from gsched.cli.model_server import ModelBackend, backend_of
from gsched.errors import InputError

if TYPE_CHECKING:
    from gsched.cluster import Cluster
    from gsched.live.run.executors import Executor
    from gsched.live.run.executors.http import Http


class ExecutorName(StrEnum):
    """What loads models and calls them."""

    HTTP = "http"
    RAY = "ray"
    FAKE = "fake"


class Estimator(StrEnum):
    """Where the times come from that nodes are expected to take."""

    RECORDED = "recorded"
    PROFILE = "profile"
    API = "api"


DEFAULT_URL = "http://localhost:8000"

ServerUrls = Annotated[
    list[str] | None,
    typer.Option("--server-url", help=f"A model server (default: {DEFAULT_URL}); may be repeated.", metavar="URL"),
]
EstimatorOption = Annotated[
    Estimator,
    typer.Option(
        "--estimator", help="Expected times: recorded in the requests, the models' profile, or the server's (api)."
    ),
]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a run goes to.

    Args:
        kind: of the executor.
        urls: of model servers.
        token: that they ask for.
        ray_address: of a Ray cluster; None for one on this machine.
        backend: what computes on Ray.
        time_scale: wall-clock seconds for each second of the workload; None for what the servers say.
        shares: whether several models stand on one GPU, which Ray has to know.
    """

    kind: ExecutorName = ExecutorName.HTTP
    urls: tuple[str, ...] = (DEFAULT_URL,)
    token: str = ""
    ray_address: str | None = None
    backend: ModelBackend = ModelBackend.EMULATED
    time_scale: float | None = None
    shares: bool = False


async def connect(target: Target, cluster: "Cluster", gpus: int | None) -> "tuple[Executor, Cluster, float]":
    """Return the executor, the cluster of the GPUs that it has, and its time scale.

    Args:
        target: where to.
        cluster: what the user has said of it; its number of GPUs does not count.
        gpus: how many to use; None for all.

    Raises:
        InputError: the executor is not to be had, or has no such GPUs.
    """
    if target.kind is ExecutorName.HTTP:
        return await _http(target, cluster, gpus)
    if target.kind is ExecutorName.RAY:
        return _ray(target, cluster, gpus)
    return _fake(target, cluster, gpus)


def model_servers(target: Target) -> "Http":
    """Return an executor for model servers of which it is not known yet whether they are there."""
    require_extra("live", "aiohttp")
    from gsched.live.run.executors import http

    return http.connect(target.urls, target.token)


async def _http(target: Target, cluster: "Cluster", gpus: int | None) -> "tuple[Executor, Cluster, float]":
    from gsched.live.run.shape import gpus_per_server, shares

    executor = model_servers(target)
    try:
        told = await executor.ask()
        owned = [count for count in shares(told.gpus, gpus) if count]
        executor.own(owned)
        scale = _scale(target.time_scale, told.time_scale)
        size = gpus_per_server(owned, cluster.gpus_per_server)
        memory = cluster.gpu_memory_gb if told.memory_gb is None else told.memory_gb
        shape = replace(cluster, gpus=sum(owned), gpus_per_server=size, gpu_memory_gb=memory)
    except BaseException:
        await executor.close()
        raise
    return executor, shape, scale


def _scale(wished: float | None, told: float | None) -> float:
    if wished is not None and told is not None and wished != told:
        message = f"is not that of the model server ({told:g})"
        raise InputError.one("options", f"--time-scale {wished:g}", message, "leave it out")
    return wished or told or 1.0


def _ray(target: Target, cluster: "Cluster", gpus: int | None) -> "tuple[Executor, Cluster, float]":
    require_extra("ray", "ray")
    from gsched.live.run.executors import ray
    from gsched.live.run.shape import gpus_per_server

    scale = target.time_scale or 1.0
    if target.ray_address is None and gpus is None:
        raise InputError.one("options", "--gpus", "is needed to start Ray on this machine", "or give --ray-address")
    make = partial(backend_of, target.backend, scale, cluster, {})
    make()  # what it lacks is told here and now, rather than by actors
    memory = cluster.gpu_memory_gb if target.shares else None
    executor = ray.connect(make, address=target.ray_address, gpus=gpus, gpu_memory_gb=memory)
    owned = [len(server) for server in executor.servers]
    shape = replace(cluster, gpus=sum(owned), gpus_per_server=gpus_per_server(owned, cluster.gpus_per_server))
    return executor, shape, scale


def _fake(target: Target, cluster: "Cluster", gpus: int | None) -> "tuple[Executor, Cluster, float]":
    from gsched.live.run.executors.fake import Fake
    from gsched.state import load_seconds
    from gsched.workload import Model

    if gpus is None:
        raise InputError.one("options", "--gpus", "is needed with --executor fake", "give it")
    shape, scale = replace(cluster, gpus=gpus), 1.0 if target.time_scale is None else target.time_scale

    def loading(model: Model) -> float:
        return load_seconds(model.memory_gb, model.load_time_seconds, shape)

    size = shape.server_size
    servers = [range(first, min(first + size, gpus)) for first in range(0, gpus, size)]
    return Fake(servers, scale, loading), shape, scale


def facts_of(target: Target, estimator: Estimator) -> dict[str, Any]:
    """Return what the log's summary says of where a run went."""
    servers = {"server_urls": list(target.urls)} if target.kind is ExecutorName.HTTP else {}
    return {**({} if estimator is Estimator.RECORDED else {"estimator": estimator.value}), **servers}
