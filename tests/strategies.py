"""Hypothesis strategies: small valid problems, rich in ties, zeros and gangs that fit badly."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from gsched.cluster import Cluster, Residency
from gsched.workload import Config, Mode, Model, Node, Workflow, Workload

MAX_GANG = 8
SECOND = 1_000_000_000  # nanoseconds

# Quarters are exact in binary, so that sums of them tie; arbitrary floats show what rounding does.
_quarters = st.integers(0, 12).map(lambda n: n / 4)
_floats = st.floats(0, 1e4, allow_subnormal=False)
_duration_kinds = st.sampled_from([st.integers(0, 4).map(float), _quarters, _quarters | _floats])
_timestamp_kinds = st.sampled_from(
    [
        st.just(0),
        st.integers(0, 4).map(lambda n: n * SECOND),
        st.integers(0, 40).map(lambda n: 1_700_000_000 * SECOND + n * SECOND // 4),
        st.integers(0, 100 * SECOND),
    ]
)


RESIDENCIES: tuple[Residency, ...] = ("exclusive", "shared")


class Case(NamedTuple):
    """A problem to schedule: every model of the workload fits on the cluster, and a share of it on a GPU."""

    workload: Workload
    cluster: Cluster
    mode: Mode


def clusters(min_gpus: int = 1, max_gpus: int = 12) -> st.SearchStrategy[Cluster]:
    """Clusters of one or many servers, the last of them often partial."""
    return st.builds(
        Cluster,
        gpus=st.integers(min_gpus, max_gpus),
        gpus_per_server=st.none() | st.integers(1, max_gpus + 1),
        pcie_bandwidth=st.sampled_from([16.0, 1.0, 3.0]),
        switch_overhead=st.sampled_from([2.0, 0.0, 0.25]),
    )


def _models(max_gang: int) -> st.SearchStrategy[Model]:
    return st.builds(
        Model,
        id=st.just("?"),
        memory_gb=st.sampled_from([0.0, 4.0, 16.0]) | st.floats(0, 100, allow_subnormal=False),
        gpus_required=st.integers(1, min(2, max_gang)) | st.integers(1, max_gang),
        load_time_seconds=st.none() | st.just(0.0) | _quarters | _floats,
        inference_time_mean=st.just(1.0),
    )


@st.composite
def _edges(draw: st.DrawFn, nodes: int) -> tuple[tuple[int, int], ...]:
    """Edges of a chain, fork, join, diamond, random DAG or of none; positions need not be in topological order."""
    pairs = [(a, b) for b in range(nodes) for a in range(b)]
    shapes = {
        "chain": [(a, a + 1) for a in range(nodes - 1)],
        "fork": [(0, b) for b in range(1, nodes)],
        "join": [(a, nodes - 1) for a in range(nodes - 1)],
        "diamond": [p for b in range(1, nodes - 1) for p in ((0, b), (b, nodes - 1))],
        "disconnected": [],
        "random": draw(st.lists(st.sampled_from(pairs), max_size=2 * nodes)) if pairs else [],
    }
    edges = shapes[draw(st.sampled_from(sorted(shapes)))]
    place = draw(st.just(list(range(nodes))) | st.permutations(range(nodes)))
    return tuple((place[a], place[b]) for a, b in edges)


@st.composite
def _workflows(draw: st.DrawFn, workflow_id: str, models: list[str], max_nodes: int) -> Workflow:
    count = draw(st.integers(1, max_nodes))
    used = draw(st.lists(st.sampled_from(models), min_size=count, max_size=count))
    nodes = tuple(Node(f"n{i}", model) for i, model in enumerate(used))
    return Workflow(workflow_id, nodes, draw(_edges(count)))


@st.composite
def configs(draw: st.DrawFn, max_gang: int = MAX_GANG, max_models: int = 4, max_nodes: int = 5) -> Config:
    """Configs of a few models (gangs of up to `max_gang` GPUs) and workflows."""
    drawn = draw(st.lists(_models(max_gang), min_size=1, max_size=max_models))
    models = {f"m{i}": _renamed(model, f"m{i}") for i, model in enumerate(drawn)}
    names = [f"w{i}" for i in range(draw(st.integers(1, 3)))]
    workflows = {name: draw(_workflows(name, list(models), max_nodes)) for name in names}
    return Config(models, workflows)


def _renamed(model: Model, model_id: str) -> Model:
    return Model(
        model_id,
        model.memory_gb,
        model.gpus_required,
        model.load_time_seconds,
        inference_time_mean=model.inference_time_mean,
    )


@st.composite
def urgent(draw: st.DrawFn, workload: Workload) -> Workload:
    """The workload with tiers, deadlines, both or neither; some requests have no deadline."""
    count = workload.request_count
    seconds = _quarters | st.just(np.inf) | st.floats(0, 1e4, allow_subnormal=False)
    deadlines = st.lists(seconds, min_size=count, max_size=count).filter(lambda column: min(column) < np.inf)
    tiers = st.lists(st.integers(1, 4), min_size=count, max_size=count).filter(lambda column: max(column) > 1)
    return replace(
        workload,
        deadline=draw(st.none() | deadlines.map(lambda column: np.array(column, np.float64))),
        tier=draw(st.none() | tiers.map(lambda column: np.array(column, np.int32))),
    )


@st.composite
def workloads(draw: st.DrawFn, max_gang: int = MAX_GANG, min_requests: int = 1, max_requests: int = 10) -> Workload:
    """Workloads of a few requests, with tied and unordered timestamps and many equal durations."""
    config = draw(configs(max_gang))
    flows = list(config.workflows.values())
    chosen = draw(st.lists(st.integers(0, len(flows) - 1), min_size=min_requests, max_size=max_requests))
    requests = len(chosen)
    nodes = sum(len(flows[w].nodes) for w in chosen)
    timestamps = draw(st.lists(draw(_timestamp_kinds), min_size=requests, max_size=requests))
    durations = draw(st.lists(draw(_duration_kinds), min_size=nodes, max_size=nodes))
    workload = Workload(
        config,
        [f"req_{i}" for i in range(requests)],
        np.array(chosen, np.int32),
        np.array(timestamps, np.int64),
        np.array(durations, np.float64),
    )
    return draw(st.just(workload) | urgent(workload)) if requests else workload


@st.composite
def cases(
    draw: st.DrawFn,
    max_requests: int = 10,
    residencies: tuple[Residency, ...] = RESIDENCIES,
    modes: tuple[Mode, ...] = ("offline", "online"),
) -> Case:
    """Workloads with a cluster on which every model fits, and a mode."""
    cluster = draw(clusters())
    workload = draw(workloads(min(MAX_GANG, cluster.gpus), max_requests=max_requests))
    cluster = replace(cluster, residency=draw(st.sampled_from(residencies)), gpu_memory_gb=draw(_memory(workload)))
    return Case(workload, cluster, draw(st.sampled_from(modes)))


def _memory(workload: Workload) -> st.SearchStrategy[float]:
    """Memory in which each model fits a GPU: just so, two or three at once, or all."""
    shares = sorted((model.memory_gb / model.gpus_required for model in workload.models), reverse=True)
    return st.sampled_from([max(sum(shares[:count]), 1e-3) for count in (1, 2, 3)] + [80.0 + sum(shares)])


@st.composite
def deployments(draw: st.DrawFn, case: Case) -> tuple[Case, tuple[tuple[int, int], ...]]:
    """The case with memory for a placement, just so or more, and that placement, which holds all that requests need.

    A placement is pairs of a model and the first GPU of its gang, in any order.
    """
    workload, cluster, mode = case
    server = cluster.server_size
    pairs = [
        (m, gpu)
        for m, size in enumerate(model.gpus_required for model in workload.models)
        for gpu in range(cluster.gpus - size + 1)
        if (gpu % server + size <= server if size <= server else gpu % server == 0)
    ]
    needed = [
        draw(st.sampled_from([pair for pair in pairs if pair[0] == m])) for m in sorted({*workload.model.tolist()})
    ]
    more = draw(st.lists(st.sampled_from(pairs), max_size=8))
    placement = tuple(draw(st.permutations(list(dict.fromkeys(needed + more)))))
    full = max(taken(placement, workload, cluster))
    memory = draw(st.sampled_from([max(full, 1e-3), full + cluster.gpu_memory_gb]))
    return Case(workload, replace(cluster, gpu_memory_gb=memory), mode), placement


def taken(placement: tuple[tuple[int, int], ...], workload: Workload, cluster: Cluster) -> list[float]:
    """The GB that a placement takes on each GPU."""
    gigabytes = [0.0] * cluster.gpus
    for m, first in placement:
        model = workload.models[m]
        for gpu in range(first, first + model.gpus_required):
            gigabytes[gpu] += model.memory_gb / model.gpus_required
    return gigabytes


@st.composite
def urgent_cases(draw: st.DrawFn, max_gang: int = MAX_GANG, max_requests: int = 10) -> Case:
    """Like `cases`, in every residency, with tiers and deadlines."""
    cluster = draw(clusters())
    workload = draw(workloads(min(max_gang, cluster.gpus), max_requests=max_requests).flatmap(urgent))
    cluster = replace(cluster, residency=draw(st.sampled_from(RESIDENCIES)), gpu_memory_gb=draw(_memory(workload)))
    return Case(workload, cluster, draw(st.sampled_from(["offline", "online"])))
