"""The problem that every engine solves: 3-node chains over single-GPU models, FIFO with affinity.

A ready node takes the lowest idle GPU that holds its model, else the lowest idle GPU; nodes start in the order in which
they became ready. Durations are exponential, so no two events fall on the same instant, and the peers need no rule
for ties. All engines do the same float operations, so that their results can be compared bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsched.cluster import Cluster
from gsched.workload import Config, Model, Node, Workflow, Workload

CHAIN = 3
SERVER = 8  # GPUs

Row = tuple[int, int, float, float, float, float]
ROW = np.dtype([("node", "i4"), ("gpu", "i4"), ("ready", "f8"), ("switch", "f8"), ("start", "f8"), ("end", "f8")])
"""A row of the log: the facts that every engine records for a node, in the order of the decisions."""

Rows = npt.NDArray[np.void]

CLUSTER = Cluster(64, pcie_bandwidth=64.0, switch_overhead=0.1)
MODELS = (
    Model("small", memory_gb=4.0, load_time_seconds=0.25, inference_time_mean=5.0),
    Model("medium", memory_gb=8.0, load_time_seconds=0.5, inference_time_mean=10.0),
    Model("large", memory_gb=16.0, load_time_seconds=1.0, inference_time_mean=15.0),
)


@dataclass(frozen=True)
class Problem:
    """A workload of `MODELS` in chains, to be run on `CLUSTER`, and the forms in which the peers want it."""

    workload: Workload

    @property
    def nodes(self) -> int:
        """Number of nodes, all requests together."""
        return self.workload.node_count

    @cached_property
    def gaps(self) -> list[float]:
        """Seconds between arrivals, such that adding them one after another gives exactly the arrivals."""
        after = self.workload.arrival("online")
        before = np.concatenate([[0.0], after[:-1]])
        gap = after - before
        gap = np.where(before + gap < after, np.nextafter(gap, np.inf), gap)  # rounding can be off by one bit
        gap = np.where(before + gap > after, np.nextafter(gap, 0.0), gap)
        if (before + gap != after).any():
            raise ValueError("these arrivals cannot be reached by adding gaps; take another seed")
        return _floats(gap)

    @cached_property
    def costs(self) -> list[list[float]]:
        """Seconds to bring a model to a GPU, by its label and the model; the last label stands for an empty GPU."""
        memory = [model.memory_gb for model in MODELS]
        switch = [
            [0.0 if old == new else (old + new) / CLUSTER.pcie_bandwidth + CLUSTER.switch_overhead for new in memory]
            for old in memory
        ]
        return [*switch, _load_times()]

    @cached_property
    def model(self) -> list[int]:
        """Model of each node."""
        models: list[int] = self.workload.model.tolist()
        return models

    @cached_property
    def duration(self) -> list[float]:
        """Seconds that each node executes."""
        return _floats(self.workload.duration)

    def write(self, path: Path) -> None:
        """Write the problem as engine.cpp reads it."""
        sizes = np.array([self.workload.request_count, CLUSTER.gpus, len(MODELS)], np.int64)
        transfer = [CLUSTER.pcie_bandwidth, CLUSTER.switch_overhead]
        parameters = np.array([*transfer, *(model.memory_gb for model in MODELS), *_load_times()])
        arrival = self.workload.arrival("online")
        with path.open("wb") as file:
            for part in (sizes, parameters, arrival, self.workload.model, self.workload.duration):
                file.write(part.tobytes())


def _floats(values: npt.NDArray[np.float64]) -> list[float]:
    return [*map(float, values)]


def _load_times() -> list[float]:
    return [model.load_time_seconds or 0.0 for model in MODELS]


def small_cluster(requests: int, load: float, seed: int = 1) -> Problem:
    """Return a problem whose arrivals bring `load` times the work that the cluster can do, switches not counted.

    Each request is a chain through the three models in one of their six orders.
    """
    return Problem(_random_chains(MODELS, list(permutations(MODELS)), CLUSTER.gpus, requests, load, seed))


def large_cluster(requests: int, load: float, seed: int = 1) -> tuple[Workload, Cluster]:
    """Return the same kind of load for 1,024 GPUs in servers of 8, 64 models on 1, 2, 4 or 8 GPUs and 64 chains."""
    rng = np.random.default_rng(seed)
    models = [
        Model(f"m{i}", memory_gb=4.0 * 2 ** (i % 4), gpus_required=2 ** (i % 4), inference_time_mean=5.0 + i % 11)
        for i in range(64)
    ]
    chains = [[models[i] for i in rng.integers(len(models), size=CHAIN)] for _ in range(64)]
    cluster = Cluster(1024, SERVER, pcie_bandwidth=64.0, switch_overhead=0.1)
    return _random_chains(models, chains, cluster.gpus, requests, load, seed), cluster


def _random_chains(
    models: Sequence[Model], chains: Sequence[Sequence[Model]], gpus: int, requests: int, load: float, seed: int
) -> Workload:
    """Return Poisson arrivals for chains drawn evenly, their durations exponential."""
    config = Config({model.id: model for model in models}, {f"chain{i}": _chain(i, c) for i, c in enumerate(chains)})
    mean = np.array([[model.mean_duration for model in chain] for chain in chains], np.float64)
    gang = np.array([[model.gpus_required for model in chain] for chain in chains])
    seconds_between = (mean * gang).sum(axis=1).mean() / (load * gpus)
    rng = np.random.default_rng(seed)
    timestamp = np.cumsum(rng.exponential(1e9 * seconds_between, requests)).astype(np.int64)
    workflow = rng.integers(len(chains), size=requests, dtype=np.int32)
    duration = rng.exponential(mean[workflow].ravel())
    return Workload(config, [f"r{i}" for i in range(requests)], workflow, timestamp, duration)


def _chain(number: int, models: Sequence[Model]) -> Workflow:
    nodes = tuple(Node(f"n{i}", model.id) for i, model in enumerate(models))
    return Workflow(f"chain{number}", nodes, tuple((i, i + 1) for i in range(len(models) - 1)))


def rows(columns: Sequence[Any]) -> Rows:
    """Return rows from one column for each field of `ROW`."""
    table = np.empty(len(columns[0]), ROW)
    for name, column in zip(ROW.names or (), columns, strict=True):
        table[name] = column
    return table
