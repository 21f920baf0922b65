"""Critical paths: how early each node can start and how much of its request is left when it ends.

Requests are taken workflow by workflow and node by node, so that each step is one operation on a column of requests.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gsched.bounds.capacity import LoadCosts
from gsched.workload import Floats, Mode, Workflow, Workload

# Each pass makes models wait for the first loads of those before them; more passes than this add next to nothing.
_PASSES = 3


@dataclass
class Paths:
    """The R requests of one workflow of n nodes.

    Args:
        workflow: the DAG.
        model: position of each node's model among the models in use.
        arrival: seconds, shape (R,).
        duration: seconds that each node executes, shape (n, R).
        start: earliest time at which each node can start to execute, shape (n, R).
        tail: seconds that the nodes after each node take at least, shape (n, R).
    """

    workflow: Workflow
    model: list[int]
    arrival: Floats
    duration: Floats
    start: Floats
    tail: Floats

    @cached_property
    def end(self) -> Floats:
        """Earliest completion of each request, shape (R,)."""
        leaves = [node for node, children in enumerate(self.workflow.children) if not children]
        end: Floats = np.max([self.start[node] + self.duration[node] for node in leaves], axis=0)
        return end

    def set_start(self, first_start: Floats, ready: Floats) -> None:
        """Set `start` to the longest path to each node, and lower each model's earliest `ready` time accordingly.

        Args:
            first_start: time before which no node of the model starts.
            ready: the earliest time at which a node of each model is ready, over all workflows so far.
        """
        for node in self.workflow.order:
            start = self.arrival
            for parent in self.workflow.parents[node]:
                start = np.maximum(start, self.start[parent] + self.duration[parent])
            model = self.model[node]
            ready[model] = min(ready[model], start.min())
            np.maximum(start, first_start[model], out=self.start[node])

    def set_tail(self) -> None:
        """Set `tail` to the longest path after each node."""
        for node in reversed(self.workflow.order):
            self.tail[node] = 0.0
            for child in self.workflow.children[node]:
                np.maximum(self.tail[node], self.tail[child] + self.duration[child], out=self.tail[node])


def find_paths(workload: Workload, mode: Mode, used: list[int], costs: LoadCosts) -> tuple[list[Paths], Floats]:
    """Return the paths of each workflow that has requests, and when a node of each used model is first ready.

    Args:
        workload: at least one request.
        mode: whether requests arrive over time.
        used: positions of the models that requests use, ascending.
        costs: of the used models.
    """
    flows = [_columns(workload, mode, flow, used) for flow in np.flatnonzero(np.bincount(workload.workflow)).tolist()]
    shortest = np.full(len(used), np.inf)
    for paths in flows:
        paths.set_tail()
        np.minimum.at(shortest, paths.model, paths.duration.min(axis=1))
    first_start = np.zeros(len(used))
    for _ in range(_PASSES):
        ready = np.full(len(used), np.inf)
        for paths in flows:
            paths.set_start(first_start, ready)
        later = costs.first_start(ready, shortest)
        if np.array_equal(later, first_start):
            break
        first_start = later
    return flows, ready


def _columns(workload: Workload, mode: Mode, flow: int, used: list[int]) -> Paths:
    workflow, first = workload.workflows[flow], workload.template_start
    requests = np.flatnonzero(workload.workflow == flow)
    nodes = np.arange(len(workflow.nodes))
    if len(requests) == workload.request_count:
        rows = workload.duration.reshape(len(requests), len(nodes))
    else:
        rows = workload.duration[workload.first_node[requests][:, None] + nodes]
    duration = np.ascontiguousarray(rows.T)
    model = np.searchsorted(used, workload.template_model[first[flow] : first[flow + 1]]).tolist()
    arrival = workload.arrival(mode)[requests]
    return Paths(workflow, model, arrival, duration, np.empty_like(duration), np.empty_like(duration))
