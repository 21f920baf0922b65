"""What the checker's rules look at: the rows of a log, matched with the workload and put in order on each GPU.

Nothing here is shared with the engine; every number is worked out anew from the log, the workload and the cluster.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gsched.cluster import Cluster
from gsched.log import Gangs, Labels, Log
from gsched.workload import Floats, Longs, Mode, Workload

ABSOLUTE = 1e-6  # seconds
RELATIVE = 1e-9
_BLOCK = 2**16  # values at a time
_FIGURES = ("average", "median", "p90", "p99", "min", "max")
TOTALS = (
    *("total_requests", "completed_requests", "total_nodes_executed", "makespan"),
    *("total_switch_time", "total_model_switches", "total_model_loads"),
    *(f"{figure}_{what}_time" for what in ("request", "waiting") for figure in _FIGURES),
)
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]


class Lanes(NamedTuple):
    """The occupations of GPUs, GPU by GPU and for each in the order of time, E in all: shape (E,)."""

    gpu: Array
    row: Array
    follows: Bools  # on the same GPU as the occupation before it
    early: Longs  # positions of those that begin before the one before them on the GPU has ended


class Replay(NamedTuple):
    """What following the labels of the GPUs says of each row: shape (n,)."""

    replaces: Bools  # at least one GPU of the gang held something else
    fills: Bools  # at least one GPU of the gang had never held anything


class Facts:
    """A log of n rows, and what is known about it; what is not known is None.

    A column of a large log is tens of MB: values that several rules need are kept until the last of them has run.

    Args:
        log: the rows.
        workload: what should have been executed.
        cluster: where.
        mode: how requests arrive.
    """

    def __init__(self, log: Log, workload: Workload | None, cluster: Cluster | None, mode: Mode | None) -> None:
        self.log, self.workload, self.cluster, self.mode = log, workload, cluster, mode

    def forget(self, *names: str) -> None:
        """Free values; they would be computed again."""
        for name in names:
            self.__dict__.pop(name, None)

    @cached_property
    def begin(self) -> Floats:
        """When the gang of each row becomes occupied: when loading begins, or the start in a log without loading."""
        return self.log.start_time if self.log.switch_time is None else self.log.start_time - self.log.switch_time

    @property
    def executed(self) -> Floats:
        """For how long each row executes."""
        return self.log.end_time - self.log.start_time

    def place(self, row: int) -> str:
        """Return where a row is, as messages say it."""
        request, node = self.log.request_id, self.log.node_id
        return f"row {row} (request {request.values[request.codes[row]]}, node {node.values[node.codes[row]]})"

    def tolerance(self, rows: Longs) -> Floats:
        """Return by how many seconds times of these rows may be off."""
        slack: Floats = ABSOLUTE + RELATIVE * np.abs(self.log.end_time[rows])
        return slack

    def exceeds(self, a: Floats, b: Floats, *, either_way: bool = False) -> Longs:
        """Return the rows in which a > b (or a != b) by more than the tolerance; NaN is never more."""
        found = []
        for part in _blocks(len(self.log)):
            excess = a[part] - b[part]
            if either_way:
                np.abs(excess, out=excess)
            rows = np.flatnonzero(excess > ABSOLUTE)
            found.append(part.start + rows[excess[rows] > self.tolerance(part.start + rows)])
        return np.concatenate(found)

    # -- matching rows with the workload; only where there is one

    @cached_property
    def row_request(self) -> Array:
        """Position in the workload of each row's request, -1 where the workload has no such request."""
        return matched(self.log.request_id, self._workload.request_ids)

    @cached_property
    def node(self) -> Array:
        """Position of each row's node in the workload, -1 where the workload has no such node."""
        workload = self._workload
        codes, values = unique_codes(self.log.node_id)
        code_of = {text: code for code, text in enumerate(values)}
        start = workload.template_start
        template_code = np.array([code_of.get(n.id, -1) for w in workload.workflows for n in w.nodes], np.int64)
        flow = np.repeat(np.arange(len(workload.workflows)), np.diff(start))
        keys = np.where(template_code >= 0, flow * len(values) + template_code, -1)
        order = np.argsort(keys, kind="stable")
        node = np.full(len(self.log), -1, np.int32)
        if not (workload.request_count and values):
            return node
        for part in _blocks(len(node)):
            request = np.maximum(self.row_request[part], 0)
            wanted = workload.workflow[request].astype(np.int64) * len(values) + codes[part]
            slot = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
            found = (keys[slot] == wanted) & (self.row_request[part] >= 0)
            node[part] = np.where(found, workload.first_node[request] + (slot - start[flow[slot]]), -1)
        return node

    @cached_property
    def known(self) -> Bools:
        """Whether each row's node is in the workload."""
        return self.node >= 0

    @cached_property
    def ran(self) -> Bools:
        """Whether each node of the workload was executed at all: shape (N,)."""
        ran = np.zeros(self._workload.node_count + 1, np.bool_)
        ran[self.node] = True  # unknown nodes go to the end
        return ran[:-1]

    @cached_property
    def repeated(self) -> Longs:
        """The rows that execute a node which an earlier row executes."""
        if self.workload is not None:
            key = self.node
            if self.known.all() and len(self.ran) == len(key) and self.ran.all():
                return np.zeros(0, np.int64)
        else:
            codes, values = unique_codes(self.log.node_id)
            key = unique_codes(self.log.request_id)[0].astype(np.int64) * len(values) + codes
        order = np.argsort(key, kind="stable")
        again = order[1:][key[order[1:]] == key[order[:-1]]]
        return np.sort(again[key[again] >= 0])

    def of_node(self, values: Array, fill: float = np.nan) -> Array:
        """Return each row's value of a column over the workload's nodes, `fill` where the node is unknown."""
        return self._of(self.node, values, fill)

    def of_request(self, values: Array, fill: float = np.nan) -> Array:
        """Return each row's value of a column over the workload's requests, `fill` where the node is unknown."""
        return self._of(self.row_request, values, fill)

    def _of(self, position: Array, values: Array, fill: float) -> Array:
        if self.known.all():
            return _take(values, position)
        result = np.full(len(self.log), fill, values.dtype)
        result[self.known] = values[position[self.known]]
        return result

    @cached_property
    def end(self) -> Floats:
        """When each node of the workload ended, NaN where it never ran: shape (N,)."""
        end = np.full(self._workload.node_count + 1, np.nan)
        end[self.node] = self.log.end_time  # unknown nodes go to the end
        return end[:-1]

    @cached_property
    def arrival(self) -> Floats | None:
        """When each request of the workload arrives: shape (R,)."""
        return None if self.workload is None or self.mode is None else self.workload.arrival(self.mode)

    @cached_property
    def parents_end(self) -> Floats:
        """When the last parent of each node ended, -inf without parents, NaN if one never ran: shape (N,)."""
        workload = self._workload
        edges = [flow.edges for flow in workload.workflows]
        count = np.array([len(pairs) for pairs in edges], np.int64)
        parent, child = np.array([pair for pairs in edges for pair in pairs], np.int64).reshape(-1, 2).T
        latest = np.full(workload.node_count, -np.inf)
        for part in _blocks(workload.request_count):
            flow = workload.workflow[part]
            edge = _ranges((np.cumsum(count) - count)[flow], count[flow])
            first = np.repeat(workload.first_node[:-1][part], count[flow])
            np.maximum.at(latest, first + child[edge], self.end[first + parent[edge]])
        return latest

    @property
    def _workload(self) -> Workload:
        assert self.workload is not None
        return self.workload

    # -- models and GPUs

    @cached_property
    def model(self) -> Array:
        """Number of each row's model: its position in the workload, -1 if unknown there; without one, any number."""
        if self.workload is None:
            return unique_codes(self.log.model_name)[0]
        return matched(self.log.model_name, list(self.workload.config.models))

    @cached_property
    def gangs(self) -> Gangs | None:
        """The GPUs of each row; in a log without them, those that the model requires, beginning at `gpu_id`."""
        if self.log.gpu_ids is not None or self.workload is None:
            return self.log.gpu_ids
        size = np.array([*(model.gpus_required for model in self.workload.models), 1], np.int32)
        return Gangs.consecutive(self.log.gpu_id, size[self.model])

    @cached_property
    def seen(self) -> Gangs:
        """The gangs, or their first GPUs alone where no more is known."""
        return self.gangs or Gangs(np.arange(len(self.log) + 1), self.log.gpu_id)

    @cached_property
    def lanes(self) -> Lanes:
        """The occupations in the order of time.

        The rows of a log are in the order of the decisions, which is the order on each GPU too; this also orders
        occupations of no length that are tied with their neighbours. Only where that order cannot be, rows are put
        in the order of the middle of their occupations, which rounding of the ends does not change.
        """
        row = np.repeat(np.arange(len(self.log), dtype=np.int32), self.seen.sizes)
        lanes = self._by_gpu(self.seen.gpus, row)
        if not lanes.early.size:
            return lanes
        order = np.argsort((self.begin + self.log.end_time)[row], kind="stable")
        return self._by_gpu(self.seen.gpus[order], row[order])

    def _by_gpu(self, gpu: Array, row: Array) -> Lanes:
        if gpu.size and gpu.min() >= 0 and gpu.max() < 2**16:
            gpu = gpu.astype(np.uint16)  # makes the sort a radix sort
        order = np.argsort(gpu, kind="stable")
        gpu, row = gpu[order], row[order]
        follows = _as_before(gpu)
        return Lanes(gpu, row, follows, self._early(row, follows))

    def _early(self, row: Array, follows: Bools) -> Longs:
        found = []
        for part in _blocks(len(row) - 1):
            before, after = row[:-1][part], row[1:][part]
            end, begin = self.log.end_time[before], self.begin[after]
            early = np.flatnonzero((begin < end - ABSOLUTE) & follows[1:][part])
            early = early[begin[early] < end[early] - self.tolerance(after[early])]
            found.append(part.start + early + 1)
        return np.concatenate(found)

    @cached_property
    def replaced(self) -> Bools:
        """Whether the GPU of each of the `lanes` held another label; a label is a model and the first GPU of a gang."""
        lanes = self.lanes
        held = _as_before(_take(self.model, lanes.row))
        held &= _as_before(_take(self.log.gpu_id, lanes.row))
        return lanes.follows & ~held

    @cached_property
    def replay(self) -> Replay:
        """Labels followed from empty GPUs on."""
        row, rows = self.lanes.row, len(self.log)
        replay = Replay(np.zeros(rows, np.bool_), np.zeros(rows, np.bool_))
        replay.replaces[row[self.replaced]] = True
        replay.fills[row[~self.lanes.follows]] = True
        return replay

    @property
    def cost(self) -> Floats:
        """The seconds of loading of each row, of its slowest GPU, NaN where unknown; needs a workload and a cluster."""
        assert self.cluster is not None
        models, cluster, lanes = self._workload.models, self.cluster, self.lanes
        memory = np.array([*(model.memory_gb for model in models), np.nan])
        fresh = memory / cluster.pcie_bandwidth + cluster.switch_overhead
        given = [model.load_time_seconds for model in models]
        load = np.where([seconds is None for seconds in (*given, None)], fresh, [*(s or 0.0 for s in given), 0.0])
        replaced = np.flatnonzero(self.replaced)
        evicted, replacing, filling = lanes.row[replaced - 1], lanes.row[replaced], lanes.row[~lanes.follows]
        swapped = memory[self.model[evicted]] + memory[self.model[replacing]]
        cost = np.zeros(len(self.log))
        np.maximum.at(cost, replacing, swapped / cluster.pcie_bandwidth + cluster.switch_overhead)
        np.maximum.at(cost, filling, load[self.model[filling]])
        return cost

    # -- totals

    @cached_property
    def totals(self) -> dict[str, float]:
        """The fields of `TOTALS` that can be told."""
        log = self.log
        totals: dict[str, float] = {"total_nodes_executed": len(log), "makespan": float(log.end_time.max(initial=0.0))}
        if log.switch_time is not None:
            totals["total_switch_time"] = float(log.switch_time.sum())
        if log.waiting_time is not None:
            totals |= _figures("waiting", log.waiting_time)
        if self.gangs is not None:
            totals["total_model_switches"] = int(np.count_nonzero(self.replay.replaces))
            totals["total_model_loads"] = int(np.count_nonzero(self.replay.fills & ~self.replay.replaces))
        return totals | self._request_totals()

    def _request_totals(self) -> dict[str, float]:
        if self.workload is None:
            return {}
        first = self.workload.first_node[:-1]
        complete = np.logical_and.reduceat(self.ran, first) if len(first) else np.zeros(0, np.bool_)
        counts: dict[str, float] = {"total_requests": len(first), "completed_requests": int(np.count_nonzero(complete))}
        if self.arrival is None:
            return counts
        took = (np.maximum.reduceat(self.end, first) if len(first) else self.end) - self.arrival
        return counts | _figures("request", took[complete])


def _figures(what: str, seconds: Floats) -> dict[str, float]:
    """Return the figures of a time that a summary states; none where no row tells them."""
    if not len(seconds):
        return {}
    figures = seconds.mean(), *np.percentile(seconds, [50, 90, 99]), seconds.min(), seconds.max()
    return {f"{name}_{what}_time": float(value) for name, value in zip(_FIGURES, figures, strict=True)}


def _blocks(length: int) -> Iterator[slice]:
    """Yield slices, at least one, that make up a column: what is computed block by block takes little memory."""
    return (slice(start, start + _BLOCK) for start in range(0, max(length, 1), _BLOCK))


def _take(values: Array, position: Array) -> Array:
    """Return `values[position]`; numpy would make 64-bit positions of all the others first."""
    taken = np.empty(len(position), values.dtype)
    for part in _blocks(len(position)):
        taken[part] = values[position[part]]
    return taken


def _as_before(column: Array) -> Bools:
    """Return which values equal the one before them."""
    same = np.zeros(len(column), np.bool_)
    np.equal(column[1:], column[:-1], out=same[1:])
    return same


def _ranges(first: Longs, size: Longs) -> Longs:
    """Return the ranges of `size` numbers from `first` on, one after another."""
    end = np.cumsum(size)
    ranges: Longs = np.arange(size.sum()) + np.repeat(first - (end - size), size)
    return ranges


def unique_codes(labels: Labels) -> tuple[Array, Sequence[str]]:
    """Return the codes and values of a column such that equal texts have equal codes."""
    position: dict[str, int] = {}
    renamed = [position.setdefault(text, len(position)) for text in labels.values]
    if len(position) == len(renamed):
        return labels.codes, labels.values
    return np.array(renamed, np.int32)[labels.codes], list(position)


def matched(labels: Labels, names: Sequence[str]) -> Array:
    """Return the position in `names` of each row's text, -1 where it is not there."""
    if labels.values is names or list(labels.values) == list(names):
        return labels.codes
    position = {name: i for i, name in enumerate(names)}
    found = np.fromiter((position.get(text, -1) for text in labels.values), np.int32, len(labels.values))
    return found[labels.codes]
