"""The workload: models, workflows of nodes, and requests for them; frozen, and validated when built.

Requests are held as columns, one value a request, and node durations as one flat column in the order of the requests
and, within a request, of its workflow's nodes. A node of the workload is known by its position in that flat column.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import index
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from gsched.cluster import LARGEST, MOST_GPUS

Mode = Literal["offline", "online"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]


_AMOUNTS = (
    *("memory_gb", "load_time_seconds", "tokens_per_second"),
    *("token_mean", "token_std", "inference_time_mean", "inference_time_std"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that occupies a gang of `gpus_required` consecutive GPUs while it runs.

    Its profile is either tokens (`tokens_per_second` and `token_mean`) or `inference_time_mean` in seconds; with
    neither, every request must bring the execution times of the model's nodes. Without `load_time_seconds`, a first
    load takes `memory_gb / pcie_bandwidth + switch_overhead` of the cluster.

    Raises:
        ValueError: a number is out of range.
    """

    id: str
    memory_gb: float
    gpus_required: int = 1
    load_time_seconds: float | None = None
    name: str = ""
    type: str = ""
    tokens_per_second: float | None = None
    token_mean: float | None = None
    token_std: float = 0.0
    inference_time_mean: float | None = None
    inference_time_std: float = 0.0
    base_model: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= index(self.gpus_required) <= MOST_GPUS:
            raise ValueError(f"model {self.id!r}: gpus_required must be 1 to {MOST_GPUS:,}, not {self.gpus_required}")
        for name in _AMOUNTS:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= LARGEST:
                raise ValueError(f"model {self.id!r}: {name} must be between 0 and {LARGEST:g}, not {value}")
        if self.tokens_per_second == 0:
            raise ValueError(f"model {self.id!r}: tokens_per_second must be above 0")

    @property
    def mean_duration(self) -> float | None:
        """Seconds that a node of this model is expected to take, or None where the profile does not say."""
        if self.tokens_per_second is not None and self.token_mean is not None:
            return self.token_mean / self.tokens_per_second
        return self.inference_time_mean


LOWEST_TIER = 100
_COLUMNS = {
    "workflow": np.int32,
    "timestamp": np.int64,
    "duration": np.float64,
    "deadline": np.float64,
    "tier": np.int32,
}


@dataclass(frozen=True, slots=True)
class Node:
    """A step of a workflow, executed by one model."""

    id: str
    model: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    config_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workflow:
    """A DAG of nodes. `edges` are pairs of positions in `nodes`; `weight` is its share among generated requests.

    Raises:
        ValueError: two nodes have one id, an edge leads outside `nodes`, or the weight is negative or not finite.
    """

    id: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...] = ()
    name: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if len({node.id for node in self.nodes}) < len(self.nodes):
            raise ValueError(f"workflow {self.id!r}: two nodes have one id")
        if any(not 0 <= index(end) < len(self.nodes) for edge in self.edges for end in edge):
            raise ValueError(f"workflow {self.id!r}: an edge leads to none of its {len(self.nodes)} nodes")
        if not 0 <= self.weight <= LARGEST:
            raise ValueError(f"workflow {self.id!r}: weight must be between 0 and {LARGEST:g}, not {self.weight}")

    @cached_property
    def parents(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the positions of the nodes it waits for."""
        return self._neighbours((b, a) for a, b in self.edges)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the positions of the nodes that wait for it."""
        return self._neighbours(self.edges)

    def _neighbours(self, pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
        found: list[set[int]] = [set() for _ in self.nodes]
        for node, neighbour in pairs:
            found[node].add(neighbour)
        return tuple(tuple(sorted(neighbours)) for neighbours in found)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The positions of the nodes, parents before children; shorter than `nodes` where the edges form a cycle."""
        waiting = [len(parents) for parents in self.parents]
        order = [node for node, count in enumerate(waiting) if count == 0]
        for node in order:  # grows while it is read
            for child in self.children[node]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    order.append(child)
        return tuple(order)

    @cached_property
    def level(self) -> tuple[int, ...]:
        """For each node, the number of edges on the longest path that leads to it; the edges must not form a cycle."""
        level = [0] * len(self.nodes)
        for node in self.order:
            level[node] = max((level[parent] + 1 for parent in self.parents[node]), default=0)
        return tuple(level)


@dataclass(frozen=True, slots=True)
class Pin:
    """Where a static deployment has to put a model: on exactly these GPUs, or on each of these servers and no other."""

    model: str
    gpus: tuple[int, ...] = ()
    servers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementRules:
    """What a static deployment has to keep to.

    Args:
        pins: at most one for each model.
        groups: models that belong together: a server that holds one of a group holds all of it.

    Raises:
        ValueError: a model has two pins, a pin names no place or two kinds, or a group has fewer than two models.
    """

    pins: tuple[Pin, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if len({pin.model for pin in self.pins}) < len(self.pins):
            raise ValueError("a model has two pins")
        if any(bool(pin.gpus) == bool(pin.servers) for pin in self.pins):
            raise ValueError("a pin must name either gpus or servers")
        if any(len(set(group)) < max(len(group), 2) for group in self.groups):
            raise ValueError("a group must name two or more different models")

    @property
    def models(self) -> set[str]:
        """Every model that is named."""
        return {pin.model for pin in self.pins}.union(*self.groups)


@dataclass(frozen=True)
class Config:
    """The models and workflows that requests refer to, by id, and rules for placing the models.

    Raises:
        ValueError: there are no workflows, or one has no nodes, names an unknown model, or its edges form a cycle;
            the placement names an unknown model.
    """

    models: Mapping[str, Model]
    workflows: Mapping[str, Workflow]
    placement: PlacementRules = PlacementRules()

    def __post_init__(self) -> None:
        if not self.workflows:
            raise ValueError("a config needs at least one workflow")
        if any(id != part.id for parts in (self.models, self.workflows) for id, part in parts.items()):
            raise ValueError("models and workflows must stand under their own ids")
        for workflow in self.workflows.values():
            if not workflow.nodes:
                raise ValueError(f"workflow {workflow.id!r} has no nodes")
            if unknown := {node.model for node in workflow.nodes} - self.models.keys():
                raise ValueError(f"workflow {workflow.id!r} uses unknown models: {', '.join(sorted(unknown))}")
            if len(workflow.order) < len(workflow.nodes):
                raise ValueError(f"the edges of workflow {workflow.id!r} form a cycle")
        if unknown := self.placement.models - self.models.keys():
            raise ValueError(f"the placement names unknown models: {', '.join(sorted(unknown))}")


@dataclass(frozen=True)
class Workload:
    """A config and the requests for its workflows, R requests of N nodes in all.

    Args:
        config: models and workflows.
        request_ids: R unique names.
        workflow: position of each request's workflow in `config.workflows`, shape (R,).
        timestamp: arrival of each request in nanoseconds from an arbitrary zero, shape (R,), in any order.
        duration: seconds that each node executes, shape (N,), request by request.
        details: further columns, R texts of JSON each (`input_data`, `node_configs`, `metadata`); the scheduler never
            looks at them.
        deadline: seconds after its arrival within which each request should be done, infinity where none is set,
            shape (R,); None where no request has one.
        tier: importance of each request, 1 (highest) to `LOWEST_TIER`, shape (R,); None where all are of tier 1.

    Raises:
        ValueError: shapes do not fit, two requests have one id, a workflow is unknown, or a duration,
            deadline or tier is out of range.
    """

    config: Config
    request_ids: Sequence[str]
    workflow: Ints
    timestamp: Longs
    duration: Floats
    details: Mapping[str, Sequence[str]] = field(default_factory=dict)
    deadline: Floats | None = None
    tier: Ints | None = None

    def __post_init__(self) -> None:
        for name, kind in _COLUMNS.items():
            if (given := getattr(self, name)) is not None:
                column = np.asarray(given, kind).view()
                column.flags.writeable = False
                object.__setattr__(self, name, column)
        requests = len(self.request_ids)
        if len(set(self.request_ids)) < requests:
            raise ValueError("two requests have one id")
        if self.workflow.shape != (requests,) or self.timestamp.shape != (requests,):
            raise ValueError("request_ids, workflow and timestamp must be of one length")
        if requests and not 0 <= self.workflow.min() <= self.workflow.max() < len(self.config.workflows):
            raise ValueError("workflow holds a position outside config.workflows")
        if self.duration.shape != (self.node_count,):
            raise ValueError(f"duration must hold {self.node_count} values, not {len(self.duration)}")
        if self.node_count and not (self.duration.min() >= 0 and self.duration.max() <= LARGEST):
            raise ValueError(f"duration holds a value that is not between 0 and {LARGEST:g}")
        for name in ("deadline", "tier"):
            if (column := getattr(self, name)) is not None and column.shape != (requests,):
                raise ValueError(f"{name} must hold {requests} values, not {len(column)}")
        if self.deadline is not None and not (np.isposinf(self.deadline) | _in_range(self.deadline)).all():
            raise ValueError(f"deadline holds a value that is neither infinity nor between 0 and {LARGEST:g}")
        if self.tier is not None and requests and not 1 <= self.tier.min() <= self.tier.max() <= LOWEST_TIER:
            raise ValueError(f"tier holds a value that is not between 1 and {LOWEST_TIER}")

    @property
    def request_count(self) -> int:
        """R, the number of requests."""
        return len(self.request_ids)

    @property
    def node_count(self) -> int:
        """N, the number of nodes over all requests."""
        return int(self.first_node[-1])

    @cached_property
    def models(self) -> tuple[Model, ...]:
        """The models, in the order that model positions refer to."""
        return tuple(self.config.models.values())

    @cached_property
    def workflows(self) -> tuple[Workflow, ...]:
        """The workflows, in the order that `workflow` refers to."""
        return tuple(self.config.workflows.values())

    @cached_property
    def template_start(self) -> Longs:
        """Position of each workflow's first node among the nodes of all workflows, and their total at the end."""
        return np.cumsum([0, *(len(workflow.nodes) for workflow in self.workflows)], dtype=np.int64)

    @cached_property
    def template_model(self) -> Ints:
        """Model position of each node of each workflow, workflow by workflow."""
        position = {model: i for i, model in enumerate(self.config.models)}
        return np.array([position[node.model] for flow in self.workflows for node in flow.nodes], dtype=np.int32)

    @cached_property
    def template_level(self) -> Ints:
        """Dependency level of each node of each workflow: 0 without parents, else one more than its highest parent."""
        return np.array([level for flow in self.workflows for level in flow.level], dtype=np.int32)

    @cached_property
    def first_node(self) -> Longs:
        """Position of each request's first node, and N at the end: shape (R + 1,)."""
        sizes = np.diff(self.template_start)
        return np.concatenate([[0], np.cumsum(sizes[self.workflow])]).astype(np.int64)

    @cached_property
    def request(self) -> Ints:
        """Request of each node, shape (N,)."""
        return np.repeat(np.arange(self.request_count, dtype=np.int32), np.diff(self.first_node))

    @cached_property
    def template(self) -> Ints:
        """Position of each node among the nodes of all workflows, shape (N,)."""
        shift = self.template_start[self.workflow] - self.first_node[:-1]
        nodes = np.arange(self.node_count, dtype=np.int64)
        return (nodes + np.repeat(shift, np.diff(self.first_node))).astype(np.int32)

    def step(self, node: int) -> tuple[int, Node]:
        """Return the request, by its position, and the step of its workflow that a node is."""
        request = int(self.request[node])
        return request, self.workflows[self.workflow[request]].nodes[node - int(self.first_node[request])]

    @property
    def model(self) -> Ints:
        """Model position of each node, shape (N,)."""
        return self.template_model[self.template]

    @property
    def used_models(self) -> tuple[Model, ...]:
        """The models that requests use."""
        return tuple(self.models[i] for i in np.flatnonzero(np.bincount(self.model)))

    def select(self, requests: Ints | Longs) -> "Workload":
        """Return a workload of some of the requests, given by their positions, in that order, without details."""
        size = np.diff(self.first_node)[requests]
        first = np.cumsum(size) - size
        node = np.arange(size.sum()) + np.repeat(self.first_node[requests] - first, size)
        return Workload(
            self.config,
            [self.request_ids[request] for request in requests.tolist()],
            self.workflow[requests],
            self.timestamp[requests],
            self.duration[node],
            deadline=None if self.deadline is None else self.deadline[requests],
            tier=None if self.tier is None else self.tier[requests],
        )

    def arrival(self, mode: Mode) -> Floats:
        """Return the arrival of each request in seconds: 0 offline; online, since the earliest timestamp.

        Raises:
            ValueError: the mode is neither.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be offline or online, not {mode!r}")
        if mode == "offline" or not self.request_count:
            return np.zeros(self.request_count)
        seconds: Floats = (self.timestamp - self.timestamp.min()) / 1e9
        return seconds

    def due(self, mode: Mode) -> Floats:
        """Return when each request should be done, in seconds since time 0, infinity where it has no deadline."""
        if self.deadline is None:
            return np.full(self.request_count, np.inf)
        return self.arrival(mode) + self.deadline


def _in_range(column: Floats) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (column >= 0) & (column <= LARGEST)
    return inside
