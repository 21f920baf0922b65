"""Interruptions: what they take from rows, and what GPUs forget by them."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from gsched.checker.columns import ABSOLUTE, key_of, ranges
from gsched.checker.lanes import Lanes, slack
from gsched.checker.outcome import Interruption
from gsched.workload import Floats, Longs

_ROUNDING = 4  # units in the last place of the makespan, by which beginnings, differences, may be off


def fault(one: Interruption) -> str:
    """Return what is wrong with the times of an interruption; nothing if they are sane."""
    if not all(math.isfinite(time) for time in (one.start_time, one.end_time or 0.0)):
        return "are not finite numbers"
    if one.start_time < -ABSOLUTE:
        return "begin before time 0"
    return "end before they begin" if one.end < one.start_time else ""


def overlapping(one: Interruption, lanes: Lanes, begin: Floats, end: Floats) -> Longs:
    """Return the rows that have a GPU while it is not to be had, given their occupations."""
    rows = lanes.row[_positions(one, lanes)]
    spare = slack(end[rows])
    found: Longs = np.unique(rows[(begin[rows] < one.end - spare) & (end[rows] > one.start_time + spare)])
    return found


def empty_labels(lanes: Lanes, interruptions: Iterable[Interruption], begin: Floats, end: Floats) -> None:
    """Let the first occupation after each interruption of a GPU find nothing there."""
    for one in interruptions:
        at = _positions(one, lanes)
        rows = lanes.row[at]
        at = at[begin[rows] + end[rows] >= one.start_time + one.end]  # by their middles: they may touch
        lanes.follows[at[np.unique(lanes.gpu[at], return_index=True)[1]]] = False


def _positions(one: Interruption, lanes: Lanes) -> Longs:
    """Return the positions in the lanes of all that ever has the GPUs of an interruption."""
    gpus = np.unique(one.gpu_ids)
    first = np.searchsorted(lanes.gpu, gpus)
    return ranges(first, np.searchsorted(lanes.gpu, gpus, side="right") - first)


class Event(NamedTuple):
    """What an interruption does to shared GPUs: an attempt begins to load an instance, or all that they hold is gone.

    Args:
        at: between which rows: before those whose turn (0, 1, ...) is greater.
        gpus: that it concerns.
        instance: that is loaded, by `key_of` its model and first GPU; None where GPUs forget.
    """

    at: float
    gpus: tuple[int, ...]
    instance: int | None


def events(
    interruptions: Iterable[Interruption], begin: Floats, makespan: float, number: Mapping[str, int]
) -> list[Event]:
    """Return what interruptions do, in order.

    Args:
        interruptions: with sane times.
        begin: of the occupations of n rows, in the order of the decisions, shape (n,).
        makespan: of the rows.
        number: of each model; another has -1.
    """
    latest, slip = np.maximum.accumulate(begin), _ROUNDING * float(np.spacing(makespan))
    moments = sorted(moment for i, one in enumerate(interruptions) for moment in _moments(i, one, latest, slip, number))
    return [Event(m.row - 1 + (i + 1) / (len(moments) + 1), m.gpus, m.instance) for i, m in enumerate(moments)]


class _Moment(NamedTuple):
    """An event as it is sorted: no two of them agree in all of the first five."""

    row: int  # the number of rows before it
    time: float
    begins: bool  # at one time, what ends does so before anything begins
    position: int
    ends: bool
    gpus: tuple[int, ...]
    instance: int | None


def _moments(
    position: int, one: Interruption, begin: Floats, slip: float, number: Mapping[str, int]
) -> Iterator[_Moment]:
    earliest, latest = np.searchsorted(begin, [one.start_time - slip, one.start_time + slip])
    row = int(earliest if one.row is None else np.clip(one.row, earliest, latest))
    instance = None if one.model_name is None else key_of(number.get(one.model_name, -1), one.gpu_ids[0])
    yield _Moment(row, one.start_time, True, position, False, one.gpu_ids, instance)
    over = max(row, int(np.searchsorted(begin, one.end - slip)))
    yield _Moment(over, one.end, one.end == one.start_time, position, True, one.gpu_ids, None)
