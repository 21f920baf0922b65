"""Measured runs made from simulations, with times that differ from the expected ones in a known way."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gsched.cluster import Cluster
from gsched.log import Gangs, Labels, Log
from gsched.simulator import simulate
from gsched.workload import Config, Ints, Longs, Mode, Model, Node, Workflow, Workload

CLUSTER = Cluster(4)
REAL = replace(CLUSTER, pcie_bandwidth=9.0, switch_overhead=1.25)
FACTORS = {"a": 1.8, "b": 0.9, "c": 1.6, "unrun": 1.0}
LOADS = {"a": 7.5, "b": 11.0, "c": 4.0, "unrun": 50.0}
OVERHEAD = 0.35


def varied(requests: int, seed: int = 1) -> Workload:
    """Requests for chains of three models of different sizes, with times that no two nodes share."""
    models = {
        "a": Model("a", 16.0, 1, 5.0, tokens_per_second=50.0, token_mean=200.0),
        "b": Model("b", 40.0, 2, 9.0, inference_time_mean=3.0, inference_time_std=0.5),
        "c": Model("c", 8.0, 1, 2.0, inference_time_mean=2.0),
        "unrun": Model("unrun", 8.0, 1, 3.0, inference_time_mean=6.0),
    }
    flows = {id: _chain(id, nodes) for id, nodes in {"abc": "abc", "ca": "ca", "cab": "cab"}.items()}
    flows["spare"] = Workflow("spare", (Node("n0", "unrun"),))
    random = np.random.default_rng(seed)
    flow = random.integers(0, 3, requests).astype(np.int32)
    nodes = int(np.array([3, 2, 3])[flow].sum())
    timestamp = np.cumsum(random.integers(1, 4 * 10**9, requests))
    ids = [f"r{i}" for i in range(requests)]
    return Workload(Config(models, flows), ids, flow, timestamp, random.uniform(0.5, 8.0, nodes))


def _chain(id: str, models: str) -> Workflow:
    nodes = tuple(Node(f"n{i}", model) for i, model in enumerate(models))
    return Workflow(id, nodes, tuple((i, i + 1) for i in range(len(nodes) - 1)))


def real(workload: Workload, noise: float = 0.0, seed: int = 2, loads: Mapping[str, float] = LOADS) -> Workload:
    """The workload with the times that its nodes and loads really take."""
    factor = np.array([FACTORS[id] for id in workload.config.models])[workload.model]
    off = np.exp(np.random.default_rng(seed).normal(0, noise, workload.node_count))
    models = {id: replace(model, load_time_seconds=loads[id]) for id, model in workload.config.models.items()}
    config = replace(workload.config, models=models)
    return replace(workload, config=config, duration=(OVERHEAD + factor * workload.duration) * off)


def measure(
    workload: Workload,
    cluster: Cluster = REAL,
    policy: object = "baseline",
    mode: Mode = "online",
    expected: Workload | None = None,
) -> Log:
    """The log of a run in which everything took as long as this workload says, whatever the policy expected."""
    told = workload if expected is None else replace(expected, config=workload.config)
    log = simulate(told, cluster, policy, mode, actual=workload.duration)
    return replace(log, summary={**log.summary, "simulate": True})


def only(log: Log, rows: Ints | Longs) -> Log:
    """The log with some of its rows, given by their positions, in that order."""
    assert log.gpu_ids is not None
    size = log.gpu_ids.sizes[rows].astype(np.int32)
    columns = {}
    for name in ("request_id", "workflow_id", "node_id", "model_name"):
        labels = getattr(log, name)
        columns[name] = Labels(labels.codes[rows], labels.values)
    for name in ("start_time", "end_time", "execution_time", "estimated_time", "switch_time"):
        columns[name] = getattr(log, name)[rows]
    columns |= {name: getattr(log, name)[rows] for name in ("gpu_id", "ready_time", "waiting_time")}
    return replace(log, **columns, gpu_ids=Gangs.consecutive(log.gpu_id[rows], size))
