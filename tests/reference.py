"""A slow, obvious engine for the baseline policy: the standard that the fast one is compared with, row by row.

Everything is an object, every question is a full scan, and no code is shared with the package but the data types.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gsched.cluster import Cluster
from gsched.log import Gangs, Labels, Log
from gsched.workload import Mode, Model, Workload


@dataclass(eq=False)
class Gpu:
    number: int
    busy: bool = False


@dataclass(frozen=True)
class Instance:
    """A model on a gang."""

    model: Model = field(hash=False)
    gang: tuple[int, ...]


class ExclusiveMemory:
    """A GPU holds what it was last loaded for."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.label: list[Instance | None] = [None] * cluster.gpus

    def held(self) -> list[Instance]:
        """What whole gangs hold."""
        labels = [label for label in self.label if label is not None]
        return [one for one in dict.fromkeys(labels) if labels.count(one) == len(one.gang)]

    def start(self, new: Instance) -> tuple[str, float]:
        """Let a gang hold a model; return whether that is warm, a load or a switch, and the seconds it costs."""
        others = [self.label[gpu] for gpu in new.gang if self.label[gpu] != new]
        for gpu in new.gang:
            self.label[gpu] = new
        costs = [load_cost(new.model, self.cluster) for other in others if other is None]
        costs += [switch_cost([other.model], new.model, self.cluster) for other in others if other is not None]
        kind = "switch" if any(others) else "load" if others else "warm"
        return kind, max(costs, default=0.0)


class SharedMemory:
    """A GPU holds as much as its memory does; what was used longest ago makes room."""

    def __init__(self, cluster: Cluster, placement: list[Instance]) -> None:
        self.cluster = cluster
        self.instances = list(placement)  # the least recently used first

    def held(self) -> list[Instance]:
        return self.instances

    def start(self, new: Instance) -> tuple[str, float]:
        if new in self.instances:
            self.instances.remove(new)
            self.instances.append(new)
            return "warm", 0.0
        evicted = []
        for gpu in new.gang:
            while not self._fits(new, gpu):
                oldest = next(one for one in self.instances if gpu in one.gang)
                self.instances.remove(oldest)
                evicted.append(oldest)
        self.instances.append(new)
        return "switch" if evicted else "load", max(self._cost(new, gpu, evicted) for gpu in new.gang)

    def _fits(self, new: Instance, gpu: int) -> bool:
        on_gpu = [one.model for one in [*self.instances, new] if gpu in one.gang]
        taken = math.fsum(model.memory_gb / model.gpus_required for model in on_gpu)
        return taken <= self.cluster.gpu_memory_gb * (1 + 1e-9)

    def _cost(self, new: Instance, gpu: int, evicted: list[Instance]) -> float:
        gone = [one.model for one in evicted if gpu in one.gang]
        return switch_cost(gone, new.model, self.cluster) if gone else load_cost(new.model, self.cluster)


Memory = ExclusiveMemory | SharedMemory


def new_memory(cluster: Cluster, placement: list[Instance]) -> Memory:
    """The memory of a cluster before time 0; whoever places something shares GPUs."""
    if cluster.residency == "shared" or placement:
        return SharedMemory(cluster, placement)
    return ExclusiveMemory(cluster)


def load_cost(model: Model, cluster: Cluster) -> float:
    """Seconds to load a model onto a GPU where nothing has to leave."""
    if model.load_time_seconds is not None:
        return model.load_time_seconds
    return model.memory_gb / cluster.pcie_bandwidth + cluster.switch_overhead


def switch_cost(old: list[Model], new: Model, cluster: Cluster) -> float:
    """Seconds to load a model onto a GPU that others leave."""
    gigabytes = 0.0
    for model in old:
        gigabytes += model.memory_gb
    return (gigabytes + new.memory_gb) / cluster.pcie_bandwidth + cluster.switch_overhead


@dataclass(eq=False)
class Task:
    request: int
    node: int
    node_id: str
    model: Model
    duration: float
    parents: list["Task"] = field(default_factory=list)
    children: list["Task"] = field(default_factory=list)
    ready: float | None = None
    decided: float | None = None
    switch: float = 0.0
    end: float | None = None
    done: bool = False
    gang: list[Gpu] = field(default_factory=list)


def simulate_slowly(
    workload: Workload, cluster: Cluster, mode: Mode, placement: tuple[tuple[int, int], ...] = ()
) -> Log:
    """Run the baseline policy; after a placement (pairs of a model and the first GPU of its gang), nothing moves."""
    return _Engine(workload, cluster, mode, placed(workload, placement)).run()


def placed(workload: Workload, placement: tuple[tuple[int, int], ...]) -> list[Instance]:
    """A placement as instances."""
    pairs = [(workload.models[model], first) for model, first in placement]
    return [Instance(model, tuple(range(first, first + model.gpus_required))) for model, first in pairs]


def allowed_gangs(cluster: Cluster, size: int) -> list[list[int]]:
    """Every list of `size` GPUs on which a model may run, lowest first."""
    per_server = cluster.gpus_per_server or cluster.gpus
    per_server = min(per_server, cluster.gpus)
    gangs = [list(range(first, first + size)) for first in range(cluster.gpus - size + 1)]
    if size <= per_server:
        return [gang for gang in gangs if gang[0] // per_server == gang[-1] // per_server]
    return [gang for gang in gangs if gang[0] % per_server == 0]


class _Engine:
    def __init__(self, workload: Workload, cluster: Cluster, mode: Mode, placement: list[Instance]) -> None:
        self.workload, self.cluster, self.mode = workload, cluster, mode
        self.gpus = [Gpu(number) for number in range(cluster.gpus)]
        earliest = int(min(workload.timestamp, default=0))
        self.arrival = [(int(t) - earliest) / 1e9 if mode == "online" else 0.0 for t in workload.timestamp]
        self.tasks = self._make_tasks()
        self.to_arrive = sorted(range(len(self.arrival)), key=lambda request: self.arrival[request])
        self.queue: list[Task] = []  # ready, in the order in which they became so
        self.started: list[Task] = []  # in the order of the decisions
        self.memory = new_memory(cluster, placement)
        self.deployed = len(placement) > 0
        self.kinds: list[str] = []

    def _make_tasks(self) -> list[list[Task]]:
        tasks, durations = [], iter(self.workload.duration.tolist())
        flows, models = list(self.workload.config.workflows.values()), self.workload.config.models
        for request, flow_number in enumerate(self.workload.workflow.tolist()):
            flow = flows[flow_number]
            mine = [Task(request, i, n.id, models[n.model], next(durations)) for i, n in enumerate(flow.nodes)]
            for parent, child in sorted(set(flow.edges)):
                mine[parent].children.append(mine[child])
                mine[child].parents.append(mine[parent])
            tasks.append(mine)
        return tasks

    def run(self) -> Log:
        while (now := self._next_event()) is not None:
            for task in [task for task in self.started if not task.done and task.end == now]:
                self._complete(task, now)
            while self.to_arrive and self.arrival[self.to_arrive[0]] == now:
                self._make_ready([t for t in self.tasks[self.to_arrive.pop(0)] if not t.parents], now)
            while self._start_one(now):
                pass
        return self._log()

    def _next_event(self) -> float | None:
        ends = [task.end for task in self.started if not task.done]
        return min(ends + [self.arrival[request] for request in self.to_arrive], default=None)

    def _complete(self, task: Task, now: float) -> None:
        task.done = True
        for gpu in task.gang:
            gpu.busy = False
        self._make_ready([c for c in task.children if all(parent.done for parent in c.parents)], now)

    def _make_ready(self, tasks: list[Task], now: float) -> None:
        for task in tasks:
            task.ready = now
            self.queue.append(task)

    def _start_one(self, now: float) -> bool:
        for task in self.queue:
            if gang := self._place(task.model):
                self.queue.remove(task)
                self._start(task, gang, now)
                return True
        return False

    def _place(self, model: Model) -> list[Gpu]:
        """The first idle gang that holds the model, else the first idle gang if models move at all, else nothing."""
        gangs = [[self.gpus[g] for g in gang] for gang in allowed_gangs(self.cluster, model.gpus_required)]
        idle = [gang for gang in gangs if not any(gpu.busy for gpu in gang)]
        held = [instance.gang for instance in self.memory.held() if instance.model == model]
        warm = [gang for gang in idle if tuple(gpu.number for gpu in gang) in held]
        return (warm + ([] if self.deployed else idle) + [[]])[0]

    def _start(self, task: Task, gang: list[Gpu], now: float) -> None:
        kind, task.switch = self.memory.start(Instance(task.model, tuple(gpu.number for gpu in gang)))
        self.kinds.append(kind)
        for gpu in gang:
            gpu.busy = True
        task.gang, task.decided = gang, now
        task.end = now + task.switch + task.duration
        self.started.append(task)

    def _log(self) -> Log:
        rows = self.started
        flows = list(self.workload.config.workflows.values())
        start = np.array([task.decided + task.switch for task in rows], np.float64)
        end = np.array([task.end for task in rows], np.float64)
        sizes = np.array([len(task.gang) for task in rows], np.int64)
        return Log(
            request_id=Labels.of([self.workload.request_ids[task.request] for task in rows]),
            workflow_id=Labels.of([flows[self.workload.workflow[task.request]].id for task in rows]),
            node_id=Labels.of([task.node_id for task in rows]),
            model_name=Labels.of([task.model.id for task in rows]),
            gpu_id=np.array([task.gang[0].number for task in rows], np.int32),
            start_time=start,
            end_time=end,
            execution_time=np.array([task.duration for task in rows], np.float64),
            gpu_ids=Gangs(
                np.concatenate([[0], np.cumsum(sizes)]),
                np.array([gpu.number for task in rows for gpu in task.gang], np.int32),
            ),
            estimated_time=np.array([task.duration for task in rows], np.float64),
            switch_time=np.array([task.switch for task in rows], np.float64),
            ready_time=np.array([task.ready for task in rows], np.float64),
            waiting_time=np.array([task.decided - task.ready for task in rows], np.float64),
            summary=self._summary(),
        )

    def _summary(self) -> dict[str, Any]:
        took = [max(t.end for t in tasks) - self.arrival[tasks[0].request] for tasks in self.tasks]
        waited = [task.decided - task.ready for task in self.started]
        return {
            "policy": "baseline",
            "mode": self.mode,
            "simulate": False,
            "gpus": list(range(self.cluster.gpus)),
            "gpus_per_server": self.cluster.gpus_per_server,
            "gpu_memory_gb": self.cluster.gpu_memory_gb,
            "residency": self.cluster.residency,
            "pcie_bandwidth": self.cluster.pcie_bandwidth,
            "switch_overhead": self.cluster.switch_overhead,
            "total_requests": len(self.tasks),
            "completed_requests": sum(all(task.done for task in tasks) for tasks in self.tasks),
            "total_nodes_executed": len(self.started),
            "makespan": max(task.end for task in self.started),
            "total_model_switches": self.kinds.count("switch"),
            "total_model_loads": self.kinds.count("load"),
            "total_switch_time": float(sum(task.switch for task in self.started)),
            **_figures("request", took),
            **_figures("waiting", waited),
        }


def _figures(what: str, seconds: list[float]) -> dict[str, float]:
    return {
        f"average_{what}_time": sum(seconds) / len(seconds),
        f"median_{what}_time": _quantile(seconds, 0.5),
        f"p90_{what}_time": _quantile(seconds, 0.9),
        f"p99_{what}_time": _quantile(seconds, 0.99),
        f"min_{what}_time": min(seconds),
        f"max_{what}_time": max(seconds),
    }


def _quantile(seconds: list[float], share: float) -> float:
    """Linear interpolation between the two nearest ranks."""
    ordered, rank = sorted(seconds), share * (len(seconds) - 1)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)
