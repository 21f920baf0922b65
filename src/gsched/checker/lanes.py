"""The occupations of GPUs in the order of time, GPU by GPU."""

from typing import NamedTuple

import numpy as np

from gsched.checker.columns import ABSOLUTE, RELATIVE, Array, Bools, as_before, blocks
from gsched.log import Gangs
from gsched.workload import Floats, Longs


class Lanes(NamedTuple):
    """The occupations of GPUs, GPU by GPU and for each in the order of time, E in all: shape (E,)."""

    gpu: Array
    row: Array
    follows: Bools  # what the occupation before it, on the same GPU, has left there
    early: Longs  # positions of those that begin before the one before them on the GPU has ended


def in_lanes(gangs: Gangs, begin: Floats, end: Floats) -> Lanes:
    """Put the occupations of n rows in the order of time.

    The rows of a log are in the order of the decisions, which is the order on each GPU too; this also orders
    occupations of no length that are tied with their neighbours. Only where that order cannot be, rows are put
    in the order of the middle of their occupations, which rounding of the ends does not change.

    Args:
        gangs: the GPUs of each row.
        begin: when the occupation of each row begins, shape (n,).
        end: when it ends, shape (n,).
    """
    row = np.repeat(np.arange(len(begin), dtype=np.int32), gangs.sizes)
    lanes = _by_gpu(gangs.gpus, row, begin, end)
    if not lanes.early.size:
        return lanes
    order = np.argsort((begin + end)[row], kind="stable")
    return _by_gpu(gangs.gpus[order], row[order], begin, end)


def _by_gpu(gpu: Array, row: Array, begin: Floats, end: Floats) -> Lanes:
    if gpu.size and gpu.min() >= 0 and gpu.max() < 2**16:
        gpu = gpu.astype(np.uint16)  # makes the sort a radix sort
    order = np.argsort(gpu, kind="stable")
    gpu, row = gpu[order], row[order]
    follows = as_before(gpu)
    return Lanes(gpu, row, follows, _early(row, follows, begin, end))


def _early(row: Array, follows: Bools, begin: Floats, end: Floats) -> Longs:
    found = []
    for part in blocks(len(row) - 1):
        before, after = row[:-1][part], row[1:][part]
        ends, begins = end[before], begin[after]
        early = np.flatnonzero((begins < ends - ABSOLUTE) & follows[1:][part])
        early = early[begins[early] < ends[early] - slack(end[after[early]])]
        found.append(part.start + early + 1)
    return np.concatenate(found)


def slack(end: Floats) -> Floats:
    """Return by how many seconds times of rows with these ends may be off."""
    seconds: Floats = ABSOLUTE + RELATIVE * np.abs(end)
    return seconds
