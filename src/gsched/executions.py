"""What happened to each node of a workload, in the order of its nodes, so that two runs of it can be compared."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from gsched.cluster import Cluster
from gsched.log import Gangs, Log
from gsched.transfers import moves_of
from gsched.workload import Floats, Ints, Longs, Workload


class Parts(NamedTuple):
    """Seconds of a node or of a request's longest chain, or how much longer they are; together all that it takes."""

    waiting: float
    switching: float
    execution: float


@dataclass(frozen=True)
class Executions:
    """A run of a workload of N nodes; times are in seconds of the run.

    Args:
        workload: what was executed, all of it.
        gpus: number of GPUs.
        arrival: of each request.
        gang: first GPU of each node, shape (N,).
        begin: when each node began to occupy its GPUs, shape (N,).
        switch: seconds that each then loaded, shape (N,).
        seconds: that each executed, shape (N,).
        end: of each, shape (N,).
        kind: WARM, LOAD or SWITCH, shape (N,).
    """

    workload: Workload
    gpus: int
    arrival: Floats
    gang: Ints
    begin: Floats
    switch: Floats
    seconds: Floats
    end: Floats
    kind: Ints

    @property
    def makespan(self) -> float:
        """When the last node ended."""
        return float(self.end.max(initial=0.0))

    @cached_property
    def latency(self) -> Floats:
        """Seconds from each request's arrival to the end of its last node."""
        ends: Floats = np.maximum.reduceat(self.end, self.workload.first_node[:-1])
        return ends - self.arrival

    @cached_property
    def waiting(self) -> Floats:
        """Seconds from when each node was ready until it began to occupy its GPUs, shape (N,)."""
        ready = self.arrival[self.workload.request]
        for position, flow in enumerate(self.workload.workflows):
            first = self.workload.first_node[:-1][self.workload.workflow == position]
            for local, parents in enumerate(flow.parents):
                for parent in parents:
                    ready[first + local] = np.maximum(ready[first + local], self.end[first + parent])
        return self.begin - ready

    @cached_property
    def size(self) -> Longs:
        """Number of GPUs of each node, shape (N,)."""
        return np.array([model.gpus_required for model in self.workload.models], np.int64)[self.workload.model]

    def by_gpu(self, values: Floats) -> Floats:
        """Return the sum of a value over the nodes of each GPU, shape (GPUs,)."""
        of_gpu = Gangs.consecutive(self.gang, self.size.astype(np.int32)).gpus
        return np.bincount(of_gpu, np.repeat(values, self.size), minlength=self.gpus).astype(np.float64)

    def by_model(self, values: Floats) -> Floats:
        """Return the sum of a value over the nodes of each model, shape (models,)."""
        return np.bincount(self.workload.model, values, minlength=len(self.workload.models)).astype(np.float64)

    def chain(self, request: int) -> Longs:
        """Return the nodes that make a request's latency: the last to end, its parent that ended last, and so on."""
        first, end = self.workload.first_node[request : request + 2].tolist()
        parents = self.workload.workflows[self.workload.workflow[request]].parents
        local = int(self.end[first:end].argmax())
        found = [first + local]
        while parents[local]:
            local = max(parents[local], key=lambda parent: float(self.end[first + parent]))
            found.append(first + local)
        return np.array(found[::-1], np.int64)

    def parts(self, nodes: Longs) -> Parts:
        """Return what these nodes spent their time on."""
        return Parts(*(float(column[nodes].sum()) for column in (self.waiting, self.switch, self.seconds)))


def executions_of(
    log: Log, workload: Workload, cluster: Cluster, requests: Longs, arrival: Floats, offset: float = 0.0
) -> Executions:
    """Return what a log says of some requests.

    Args:
        log: with `switch_time`; all nodes of these requests must be in it.
        workload: of the log.
        cluster: where.
        requests: their positions in the workload.
        arrival: their arrivals, in seconds of the run.
        offset: seconds of the run at the log's time 0.

    Raises:
        InputError: the log does not belong to the workload, or lacks `switch_time`.
    """
    moves = moves_of(log, workload, cluster)
    part = workload.select(requests)
    sizes = np.diff(part.first_node)
    node = np.arange(part.node_count) + np.repeat(workload.first_node[requests] - part.first_node[:-1], sizes)
    row_of = np.full(workload.node_count, -1, np.int64)
    row_of[moves.node] = np.arange(len(log))
    row = row_of[node]
    assert log.switch_time is not None  # else its moves could not have been followed
    switch, start, end = log.switch_time[row], log.start_time[row] + offset, log.end_time[row] + offset
    seconds = seconds_of(log)[row]
    return Executions(
        part, cluster.gpus, arrival, log.gpu_id[row], start - switch, switch, seconds, end, moves.kind[row]
    )


def seconds_of(log: Log) -> Floats:
    """Return how long each row executed, shape (n,): as stated, since the difference of its times is rounded."""
    return log.end_time - log.start_time if log.execution_time is None else log.execution_time
