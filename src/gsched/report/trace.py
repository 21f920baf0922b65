"""Logs as traces that ui.perfetto.dev and chrome://tracing show (the Trace Event Format).

All times are whole microseconds: the viewers turn decimals into nanoseconds by cutting off, after which a slice could
end after the next one begins, and such slices are not shown.
"""

import gzip
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from gsched.checker.columns import unique_codes
from gsched.checker.interruptions import fault
from gsched.checker.lanes import slack
from gsched.checker.outcome import Interruption, read_outcome
from gsched.errors import InputError
from gsched.files import whole_file
from gsched.log import Log
from gsched.report.timeline import Steps, by_text, concurrent, gangs_of, occupied_from, waits
from gsched.workload import Config, Floats, Longs

MICRO = 1e6
LATEST = 9e9  # seconds: the viewers count nanoseconds in 64 bits
MOST_GPU = 10**8

Event = dict[str, Any]


class Occupations(NamedTuple):
    """What GPUs do, E occupations of one GPU each: those of the rows in their order, then interruptions; shape (E,).

    Times are in microseconds: `begin` of loading, `start` of the execution, `end`. Those of one GPU and lane do not
    overlap; a valid log needs one lane.
    """

    gpu: Longs
    lane: Longs
    begin: Longs
    start: Longs
    end: Longs


class Arrows(NamedTuple):
    """Edges between executed nodes, A in all: rows of the two nodes and times in microseconds, shape (A,)."""

    parent: Longs
    child: Longs
    leave: Longs
    reach: Longs


def write_trace(log: Log, path: Path, config: Config | None = None) -> list[str]:
    """Write a log as trace events in JSON, compressed where the suffix is `.gz`.

    Args:
        log: of gsched or of another tool.
        path: the file, which is written whole or not at all.
        config: workflows, whose edges become arrows, and the gangs' sizes where the log lacks them.

    Returns:
        What could not be shown, a sentence each.

    Raises:
        InputError: the log has times or GPUs that cannot be drawn, the config has none of its workflows, or the file
            cannot be written.
    """
    notes: list[str] = []
    trace = _Trace(log, config, notes)
    encode = msgspec.json.Encoder().encode
    with whole_file(path) as file, _stream(file, compressed=path.suffix == ".gz") as stream:
        stream.write(b'{"displayTimeUnit":"ms","traceEvents":[\n')
        separator = b""
        for event in trace.events():
            stream.write(separator + encode(event))
            separator = b",\n"
        stream.write(b"\n]}\n")
    return notes


def _stream(file: IO[bytes], *, compressed: bool) -> AbstractContextManager[Any]:
    if not compressed:
        return nullcontext(file)
    return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)  # the same bytes each time


class _Trace:
    """A log of n rows, and what is drawn of it."""

    def __init__(self, log: Log, config: Config | None, notes: list[str]) -> None:
        self.log = log
        self.gangs = gangs_of(log, config)
        self.interruptions = _interruptions(log, notes)
        _require_drawable(log, self.gangs.gpus, self.gangs.sizes)
        self.occupations = _occupations(log, self.gangs.gpus, self.gangs.sizes, self.interruptions)
        self.ids = _track_ids(self.occupations, log)
        self.arrows = _arrows(log, config, self.first_of_gang(), notes)
        if log.gpu_ids is None and config is None:
            notes.append("the log has no gpu_ids, so only the first GPU of each gang is shown; --config tells gangs")
        if log.ready_time is None:
            notes.append("the log has no ready_time, so nodes that wait are not shown")

    def first_of_gang(self) -> Occupations:
        """Return the occupation of the first GPU of each row, shape (n,)."""
        return Occupations(*(column[self.gangs.first[:-1]] for column in self.occupations))

    def events(self) -> Iterator[Event]:
        """Yield all events. Rows stand in the order of the log, so that of equal times parents come before children."""
        return chain(self._names(), self._executions(), self._lost(), self._counters())

    def _names(self) -> Iterator[Event]:
        yield from _named("process", self._cluster, self._cluster, "cluster", 0)
        for pid in sorted({pid for pid, _ in self.ids.values()}):
            yield from _named("process", pid, pid, f"server {pid - 1}", pid)
        for position, ((gpu, lane), (pid, tid)) in enumerate(sorted(self.ids.items())):
            name = f"GPU {gpu}" if lane == 0 else f"GPU {gpu}, at the same time"
            yield from _named("thread", pid, tid, name, position)

    @property
    def _cluster(self) -> int:
        """The process of what concerns all GPUs."""
        return max((pid for pid, _ in self.ids.values()), default=0) + 1

    def _executions(self) -> Iterator[Event]:
        """Yield the slices of all rows, each followed by the ends of its arrows: they bind to the slice before them."""
        places = [self.ids[track] for track in zip(*map(np.ndarray.tolist, self.occupations[:2]), strict=True)]
        begin, start, end = map(np.ndarray.tolist, self.occupations[2:])
        models = self.log.model_name.texts()
        first = self.gangs.first.tolist()
        outgoing, incoming = _grouped(self.arrows.parent, len(self.log)), _grouped(self.arrows.child, len(self.log))
        leave, reach = self.arrows.leave.tolist(), self.arrows.reach.tolist()
        for row, (model, args) in enumerate(zip(models, self._args(), strict=True)):
            for i in range(first[row], first[row + 1]):
                pid, tid = places[i]
                if start[i] > begin[i]:
                    yield _slice(f"load {model}", "loading", pid, tid, begin[i], start[i], args)
                yield _slice(model, "execution", pid, tid, start[i], end[i], args)
            place = places[first[row]]
            yield from (_arrow_end("s", arrow, place, leave[arrow]) for arrow in outgoing(row))
            yield from (_arrow_end("f", arrow, place, reach[arrow]) | {"bp": "e"} for arrow in incoming(row))

    def _args(self) -> Iterator[Event]:
        """Yield what is told of each row: of what the log has."""
        log = self.log
        columns: dict[str, Iterable[Any]] = {"request": log.request_id.texts()}
        if log.workflow_id is not None:
            columns["workflow"] = log.workflow_id.texts()
        columns |= {"node": log.node_id.texts(), "model": log.model_name.texts(), "GPUs": _gang_texts(self.gangs)}
        for name, seconds in (("waited, s", log.waiting_time), ("estimated, s", log.estimated_time)):
            if seconds is not None:
                columns[name] = seconds.tolist()
        return (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))

    def _lost(self) -> Iterator[Event]:
        first = int(self.gangs.first[-1])
        position = iter(range(first, len(self.occupations.gpu)))
        for one in self.interruptions:
            told = {"reason": one.reason, "request": one.request_id, "node": one.node_id, "model": one.model_name}
            args = {name: text for name, text in told.items() if text is not None}
            for i in (next(position) for _ in one.gpu_ids):
                gpu, lane, begin, _, end = (int(column[i]) for column in self.occupations)
                yield _slice("lost", "interruption", *self.ids[gpu, lane], begin, end, args)

    def _counters(self) -> Iterator[Event]:
        """Yield how many GPUs execute and load, and how many nodes of each model wait."""
        rows = slice(0, int(self.gangs.first[-1]))
        begin, start, end = (column[rows] for column in self.occupations[2:])
        yield from self._count("busy GPUs", "executing", concurrent(start, end))
        yield from self._count("busy GPUs", "loading", concurrent(begin, start))
        for model, (ready, begun) in waits(self.log).items():
            yield from self._count(f"waiting {model}", "nodes", concurrent(_micros(ready), _micros(begun)))

    def _count(self, name: str, what: str, steps: Steps) -> Iterator[Event]:
        for time, count in zip(steps.time.tolist(), steps.level.tolist(), strict=True):
            place = {"pid": self._cluster, "tid": self._cluster}
            yield {"ph": "C", "name": name, **place, "ts": time, "args": {what: count}}


def _named(what: str, pid: int, tid: int, name: str, position: int) -> Iterator[Event]:
    place = {"ph": "M", "pid": pid, "tid": tid}
    yield place | {"name": f"{what}_name", "args": {"name": name}}
    yield place | {"name": f"{what}_sort_index", "args": {"sort_index": position}}


def _slice(name: str, category: str, pid: int, tid: int, begin: int, end: int, args: Event) -> Event:
    place = {"ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid}
    return place | {"ts": begin, "dur": end - begin, "args": args}


def _arrow_end(phase: str, arrow: int, place: tuple[int, int], time: int) -> Event:
    pid, tid = place
    return {"ph": phase, "name": "edge", "cat": "edge", "id": arrow, "pid": pid, "tid": tid, "ts": time}


def _micros(seconds: Floats) -> Longs:
    micros: Longs = np.rint(seconds * MICRO).astype(np.int64)
    return micros


def _gang_texts(gangs: Any) -> Iterator[str]:
    gpus, first = list(map(str, gangs.gpus.tolist())), gangs.first.tolist()
    return (" ".join(gpus[first[row] : first[row + 1]]) for row in range(len(first) - 1))


def _interruptions(log: Log, notes: list[str]) -> list[Interruption]:
    """Return the interruptions that can be drawn."""
    outcome = read_outcome(log.summary, log.extra)
    sane = [one for one in outcome.interruptions if not fault(one) and max(one.start_time, one.end_time or 0) < LATEST]
    if len(sane) < len(outcome.interruptions) or "interruptions" in outcome.wrong:
        notes.append("interruptions of the log make no sense and are not shown; gsched check says why")
    return sane


def _require_drawable(log: Log, gpus: npt.NDArray[np.int32], sizes: Longs) -> None:
    """Raise an `InputError` where a row has no place or no length."""
    columns = ("start_time", "end_time", "switch_time", "ready_time")
    times = {name: getattr(log, name) for name in columns if getattr(log, name) is not None}
    wrong = {f"{name} is no time up to {LATEST:g} s": ~(np.abs(times[name]) < LATEST) for name in times}
    wrong["it ends before it starts"] = log.end_time < log.start_time
    if log.switch_time is not None:
        wrong["its switch_time is below 0"] = log.switch_time < 0
    wrong["it has no GPUs"] = sizes < 1
    outside = np.zeros(len(log), np.bool_)
    outside[np.repeat(np.arange(len(log)), sizes)[(gpus < 0) | (gpus > MOST_GPU)]] = True
    wrong[f"its GPUs are not from 0 to {MOST_GPU:,}"] = outside
    for reason, rows in wrong.items():
        if rows.any():
            row = int(np.flatnonzero(rows)[0])
            raise InputError.one("log", f"row {row}", f"cannot be drawn: {reason}", "see what gsched check finds")


def _occupations(log: Log, gpus: npt.NDArray[np.int32], sizes: Longs, lost: Iterable[Interruption]) -> Occupations:
    row = np.repeat(np.arange(len(log)), sizes)
    times = [_micros(seconds)[row] for seconds in (occupied_from(log), log.start_time, log.end_time)]
    makespan = float(log.end_time.max(initial=0.0))
    away = [(gpu, one.start_time, min(one.end, max(makespan, one.start_time))) for one in lost for gpu in one.gpu_ids]
    gpu, begin, end = np.array(away).reshape(-1, 3).T
    places = np.concatenate([gpus, gpu.astype(np.int64)])
    began, ended = _micros(begin), _micros(end)
    return _in_lanes(places, *map(np.concatenate, zip(times, (began, began, ended), strict=True)))


def _in_lanes(gpu: Longs, begin: Longs, start: Longs, end: Longs) -> Occupations:
    """Put what overlaps on a GPU, beyond rounding, into further lanes, so that it is seen."""
    lane = np.zeros(len(gpu), np.int64)
    spare = np.rint(slack(end / MICRO) * MICRO).astype(np.int64) + 1
    busy: dict[int, list[int]] = defaultdict(list)  # until when each lane of a GPU is
    for i in np.lexsort((end, begin, gpu)).tolist():
        ends = busy[int(gpu[i])]
        free = next((k for k, last in enumerate(ends) if begin[i] >= last - spare[i]), len(ends))
        if free == len(ends):
            ends.append(int(begin[i]))
        lane[i], begin[i] = free, max(begin[i], ends[free])
        start[i] = max(start[i], begin[i])
        ends[free] = end[i] = max(end[i], start[i])
    return Occupations(gpu, lane, begin, start, end)


def _track_ids(occupations: Occupations, log: Log) -> Mapping[tuple[int, int], tuple[int, int]]:
    """Return process and thread of each GPU's lanes. Viewers want numbers above 0, and none for two things."""
    size = log.cluster_fields.get("gpus_per_server")
    size = size if isinstance(size, int) and size > 0 else MOST_GPU + 1
    lanes = sorted(set(zip(occupations.gpu.tolist(), occupations.lane.tolist(), strict=True)))
    base = 10 ** max(3, len(str(max((gpu for gpu, _ in lanes), default=0) // size + 2)))
    spare = base + max((gpu for gpu, _ in lanes), default=0) + 1
    further = {track: spare + i for i, track in enumerate(track for track in lanes if track[1])}
    return {track: (track[0] // size + 1, further.get(track, base + track[0])) for track in lanes}


def _arrows(log: Log, config: Config | None, first: Occupations, notes: list[str]) -> Arrows:
    """Return the edges, each with times inside the slices of its ends, so that viewers find those."""
    none = np.zeros(0, np.int64)
    if config is None or log.workflow_id is None:
        lacking = "no --config is given" if config is None else "the log has no workflow_id"
        notes.append(f"{lacking}, so there are no arrows along the edges of workflows")
        return Arrows(none, none, none, none)
    pairs = list(_edges(log, config, notes))
    parent, child = (np.concatenate([none, *ends]) for ends in zip(*pairs, strict=True)) if pairs else (none, none)
    reach = first.start[child]
    leave = np.maximum(np.minimum(first.end[parent] - 1, reach), first.start[parent])
    reach = np.maximum(reach, leave)
    drawn = np.flatnonzero((reach < first.end[child]) | (reach == first.start[child]))
    if len(drawn) < len(parent):
        notes.append(f"{len(parent) - len(drawn)} arrows would lead into the past and are not shown")
    return Arrows(parent[drawn], child[drawn], leave[drawn], reach[drawn])


def _edges(log: Log, config: Config, notes: list[str]) -> Iterator[tuple[Longs, Longs]]:
    """Yield, for each edge of each workflow, the rows of its ends in those requests in which both were executed."""
    assert log.workflow_id is not None
    flows, (nodes, names) = by_text(log.workflow_id), unique_codes(log.node_id)
    unknown = flows.keys() - config.workflows.keys()
    if unknown and len(unknown) == len(flows):
        raise InputError.one("--config", "", "has none of the log's workflows", "give the configuration of the run")
    if unknown:
        notes.append(f"the configuration lacks {len(unknown)} of the log's workflows, which have no arrows")
    key = unique_codes(log.request_id)[0].astype(np.int64) * len(names) + nodes
    order = np.argsort(key, kind="stable")
    code_of = {text: code for code, text in enumerate(names)}
    for id, flow in config.workflows.items():
        for ends in sorted(set(flow.edges)):
            parent, child = (code_of.get(flow.nodes[end].id) for end in ends)
            if parent is None or child is None or id not in flows:
                continue
            children = flows[id][nodes[flows[id]] == child]
            wanted = key[children] + (parent - child)
            found = order[np.minimum(np.searchsorted(key, wanted, sorter=order), len(order) - 1)]
            there = key[found] == wanted
            yield found[there], children[there]


def _grouped(rows: Longs, count: int) -> Any:
    """Return a function that gives the positions in `rows` of a row's number, for numbers below `count`."""
    order = np.argsort(rows, kind="stable")
    first = np.searchsorted(rows[order], np.arange(count + 1)).tolist()
    positions = order.tolist()
    return lambda row: positions[first[row] : first[row + 1]]
