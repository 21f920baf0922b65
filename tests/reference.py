"""A slow, obvious engine for the baseline policy: the standard that the fast one is compared with, row by row.

Everything is an object, every question is a full scan, and no code is shared with the package but the data types.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gsched.cluster import Cluster
from gsched.log import Gangs, Labels, Log
from gsched.workload import Mode, Model, Workload


@dataclass(eq=False)
class Gpu:
    number: int
    label: tuple[str, int] | None = None  # model and first GPU of the gang that it was last loaded for
    busy: bool = False


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


def simulate_slowly(workload: Workload, cluster: Cluster, mode: Mode) -> Log:
    return _Engine(workload, cluster, mode).run()


def allowed_gangs(cluster: Cluster, size: int) -> list[list[int]]:
    """Every list of `size` GPUs on which a model may run, lowest first."""
    per_server = cluster.gpus_per_server or cluster.gpus
    per_server = min(per_server, cluster.gpus)
    gangs = [list(range(first, first + size)) for first in range(cluster.gpus - size + 1)]
    if size <= per_server:
        return [gang for gang in gangs if gang[0] // per_server == gang[-1] // per_server]
    return [gang for gang in gangs if gang[0] % per_server == 0]


class _Engine:
    def __init__(self, workload: Workload, cluster: Cluster, mode: Mode) -> None:
        self.workload, self.cluster, self.mode = workload, cluster, mode
        self.gpus = [Gpu(number) for number in range(cluster.gpus)]
        earliest = int(min(workload.timestamp, default=0))
        self.arrival = [(int(t) - earliest) / 1e9 if mode == "online" else 0.0 for t in workload.timestamp]
        self.tasks = self._make_tasks()
        self.to_arrive = sorted(range(len(self.arrival)), key=lambda request: self.arrival[request])
        self.queue: list[Task] = []  # ready, in the order in which they became so
        self.started: list[Task] = []  # in the order of the decisions
        self.switches = self.loads = 0

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
        """The first idle gang that holds the model, else the first idle gang, else nothing."""
        gangs = [[self.gpus[g] for g in gang] for gang in allowed_gangs(self.cluster, model.gpus_required)]
        idle = [gang for gang in gangs if not any(gpu.busy for gpu in gang)]
        warm = [gang for gang in idle if all(gpu.label == (model.id, gang[0].number) for gpu in gang)]
        return (warm + idle + [[]])[0]

    def _start(self, task: Task, gang: list[Gpu], now: float) -> None:
        label = (task.model.id, gang[0].number)
        task.switch = max(self._cost(gpu, task.model, label) for gpu in gang)
        if any(gpu.label not in (None, label) for gpu in gang):
            self.switches += 1
        elif any(gpu.label is None for gpu in gang):
            self.loads += 1
        for gpu in gang:
            gpu.label, gpu.busy = label, True
        task.gang, task.decided = gang, now
        task.end = now + task.switch + task.duration
        self.started.append(task)

    def _cost(self, gpu: Gpu, model: Model, label: tuple[str, int]) -> float:
        if gpu.label == label:
            return 0.0
        if gpu.label is not None:
            old = self.workload.config.models[gpu.label[0]]
            return (old.memory_gb + model.memory_gb) / self.cluster.pcie_bandwidth + self.cluster.switch_overhead
        if model.load_time_seconds is not None:
            return model.load_time_seconds
        return model.memory_gb / self.cluster.pcie_bandwidth + self.cluster.switch_overhead

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
            "pcie_bandwidth": self.cluster.pcie_bandwidth,
            "switch_overhead": self.cluster.switch_overhead,
            "total_requests": len(self.tasks),
            "completed_requests": sum(all(task.done for task in tasks) for tasks in self.tasks),
            "total_nodes_executed": len(self.started),
            "makespan": max(task.end for task in self.started),
            "total_model_switches": self.switches,
            "total_model_loads": self.loads,
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
