"""What is drawn of one log: the rows that can be, and figures over time and by GPU."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gsched.checker.outcome import read_outcome
from gsched.cluster import LARGEST, Cluster
from gsched.log import Gangs, Log
from gsched.workload import Floats, Ints, Longs, Workload

MOST_GPUS = 1 << 17  # rows without executions that are made for GPUs of which only the summary speaks
MOST_BINS = 240
_BEFORE_ZERO = 1e-6


class Bars(NamedTuple):
    """Nodes as they stand on GPUs: a bar for each run of neighbouring GPUs of a gang, B in all.

    Args:
        node: position among the nodes that are drawn, shape (B,).
        row: first GPU, by its position in `Schedule.gpus`, shape (B,).
        size: number of GPUs, shape (B,).
    """

    node: Longs
    row: Longs
    size: Longs


@dataclass(frozen=True)
class Schedule:
    """The n rows of a log whose times and GPUs make sense, in the order of the log."""

    log: Log

    @cached_property
    def rows(self) -> Longs:
        """Which rows of the log they are, shape (n,)."""
        log, gangs = self.log, self._gangs
        begin = log.start_time if log.switch_time is None else log.start_time - log.switch_time
        with np.errstate(invalid="ignore"):
            sane = (begin >= -_BEFORE_ZERO) & (begin <= log.start_time) & (log.start_time <= log.end_time)
            sane &= log.end_time <= LARGEST
        lowest = np.full(len(log), -1)
        filled = gangs.sizes > 0
        if filled.any():
            lowest[filled] = np.minimum.reduceat(gangs.gpus, gangs.first[:-1][filled])
        return np.flatnonzero(sane & (lowest >= 0))

    @cached_property
    def start(self) -> Floats:
        """When each node began to execute, shape (n,)."""
        return self.log.start_time[self.rows]

    @cached_property
    def end(self) -> Floats:
        """When each node ended, shape (n,)."""
        return self.log.end_time[self.rows]

    @cached_property
    def begin(self) -> Floats:
        """When the gang of each node began to load, or to execute where nothing was loaded, shape (n,)."""
        switch = self.log.switch_time
        return np.maximum(self.start if switch is None else self.start - switch[self.rows], 0.0)

    @cached_property
    def ready(self) -> Floats | None:
        """When each node was ready, NaN where that makes no sense, shape (n,); None where the log does not tell."""
        if self.log.ready_time is None:
            return None
        ready = self.log.ready_time[self.rows]
        with np.errstate(invalid="ignore"):
            sane = (ready >= -_BEFORE_ZERO) & (ready <= self.begin + 1e-9 * (self.begin + 1e3))
        return np.where(sane, np.clip(ready, 0.0, self.begin), np.nan)

    @property
    def model(self) -> Ints:
        """The code of each node's model in the log, shape (n,)."""
        return self.log.model_name.codes[self.rows]

    @cached_property
    def makespan(self) -> float:
        """When the last of them ended."""
        return float(self.end.max(initial=0.0))

    @cached_property
    def cluster(self) -> Cluster | None:
        """What the summary says of the cluster, None where that is nothing or makes no sense."""
        try:
            return self.log.cluster
        except (TypeError, ValueError):
            return None

    @cached_property
    def gpus(self) -> Longs:
        """The ids of all GPUs, those that did nothing among them, ascending."""
        idle = min(self.cluster.gpus, MOST_GPUS) if self.cluster else 0
        return np.union1d(self._members[1], np.arange(idle))

    @cached_property
    def bars(self) -> Bars:
        """Where the nodes stand."""
        node, gpu = self._members
        row = np.searchsorted(self.gpus, gpu)
        starts = np.ones(len(row), bool)
        starts[1:] = (np.diff(node) != 0) | (np.diff(row) != 1) | (np.diff(gpu) != 1)
        first = np.flatnonzero(starts)
        return Bars(node[first], row[first], np.diff([*first.tolist(), len(row)]))

    @cached_property
    def _members(self) -> tuple[Longs, Longs]:
        """Every node with every GPU of its gang, once, ascending."""
        gangs = self._gangs
        sizes = gangs.sizes[self.rows]
        position = np.repeat(gangs.first[self.rows] - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        node = np.repeat(np.arange(len(self.rows), dtype=np.int64), sizes)
        pairs = np.unique((node << 32) | gangs.gpus[position].astype(np.int64))
        return pairs >> 32, pairs & 0xFFFFFFFF

    @cached_property
    def _gangs(self) -> Gangs:
        return self.log.gpu_ids or Gangs(np.arange(len(self.log) + 1), self.log.gpu_id)


def edges_of(span: float, count: int) -> Floats:
    """Return the edges of bins over `span` seconds, few where there is little to count."""
    return np.linspace(0.0, span or 1.0, int(np.clip(count, 8, MOST_BINS)) + 1)


def mean_levels(up: Floats, down: Floats, kind: npt.NDArray[np.integer], kinds: int, edges: Floats) -> Floats:
    """Return how many intervals of each kind are open, as the mean over each bin, shape (kinds, bins).

    Args:
        up: when each interval opens, between the first and the last edge.
        down: when it closes, no earlier than it opens.
        kind: what it counts for, 0 to `kinds - 1`.
        kinds: number of kinds.
        edges: of the bins, all of one width.
    """
    bins, width = len(edges) - 1, edges[1] - edges[0]
    open_at_left, within = np.zeros((kinds, bins + 1)), np.zeros((kinds, bins))
    for sign, moments in ((1, up), (-1, down)):
        at = np.clip(np.searchsorted(edges, moments, "right") - 1, 0, bins - 1)
        place = kind.astype(np.int64) * bins + at
        share = (edges[at + 1] - moments) / width
        counts = np.bincount(place, minlength=kinds * bins).reshape(kinds, bins)
        open_at_left[:, 1:] += sign * np.cumsum(counts, axis=1)
        within += sign * np.bincount(place, share, kinds * bins).reshape(kinds, bins)
    return np.maximum(open_at_left[:, :-1] + within, 0.0)


def queue_lengths(schedule: Schedule, edges: Floats) -> Floats | None:
    """Return the nodes of each model that are ready but not begun, the mean over each bin, shape (models, bins).

    None where the log does not tell when nodes were ready.
    """
    if schedule.ready is None:
        return None
    known = ~np.isnan(schedule.ready)
    models = len(schedule.log.model_name.values)
    return mean_levels(schedule.ready[known], schedule.begin[known], schedule.model[known], models, edges)


def busy_gpus(schedule: Schedule, edges: Floats) -> Floats:
    """Return how many GPUs execute and how many load, the mean over each bin, shape (2, bins)."""
    node = np.repeat(schedule.bars.node, schedule.bars.size)
    times = np.concatenate([schedule.start[node], schedule.begin[node]])
    ends = np.concatenate([schedule.end[node], schedule.start[node]])
    return mean_levels(times, ends, np.repeat([0, 1], len(node)), 2, edges)


def gpu_shares(schedule: Schedule) -> Floats:
    """Return the share of the makespan in which each GPU executes and loads, shape (2, GPUs)."""
    bars = schedule.bars
    members = bars.size.sum()
    row = np.repeat(bars.row - (np.cumsum(bars.size) - bars.size), bars.size) + np.arange(members)
    node, count = np.repeat(bars.node, bars.size), len(schedule.gpus)
    seconds = (schedule.end - schedule.start, schedule.start - schedule.begin)
    shares = np.stack([np.bincount(row, part[node], count) for part in seconds])
    return shares / (schedule.makespan or 1.0)


def request_seconds(schedule: Schedule, workload: Workload | None) -> Floats | None:
    """Return the seconds from arrival to completion of each request that was completed, ascending.

    A request arrives when its first node is ready. Without the workload, a request counts as completed unless the log
    says that it failed, or has a row of it that cannot be drawn. None where the log does not tell when requests
    arrived.
    """
    log = schedule.log
    offline = log.summary.get("mode") == "offline"
    if log.ready_time is None and not offline:
        return None
    request, count = log.request_id.codes[schedule.rows], len(log.request_id.values)
    arrival, end = np.full(count, np.inf), np.zeros(count)
    np.minimum.at(arrival, request, 0.0 if schedule.ready is None or offline else schedule.ready)
    np.maximum.at(end, request, schedule.end)
    complete = np.bincount(request, minlength=count) >= _expected(log, workload)
    seconds = (end - arrival)[complete]
    return np.sort(seconds[np.isfinite(seconds)])


def _expected(log: Log, workload: Workload | None) -> Longs:
    """Return how many nodes each request of a log needs to be complete."""
    names = log.request_id.values
    if workload is None:
        failed = read_outcome(log.summary, log.extra).failed
        rows = np.maximum(np.bincount(log.request_id.codes, minlength=len(names)), 1)
        return np.where([name in failed for name in names], len(log) + 1, rows)
    sizes = dict(zip(workload.request_ids, np.diff(workload.first_node).tolist(), strict=True))
    return np.array([sizes.get(name, 1) for name in names], np.int64)


class Distribution(NamedTuple):
    """Points of a cumulative distribution: what share of all values is at most `value`."""

    value: Floats
    share: Floats


def distribution(values: Floats, most: int = 300) -> Distribution:
    """Return a distribution in at most so many points, the smallest and the largest among them.

    Args:
        values: ascending; at least one.
        most: number of points.
    """
    rank = np.unique(np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(np.int64))
    return Distribution(values[rank], (rank + 1) / len(values))
