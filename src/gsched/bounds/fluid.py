"""The fluid relaxation: one machine that serves the work of all requests at full speed, however it likes.

Jobs wait in a bitmap over their ranks by work, because the least work goes first. Preempted jobs are kept on a stack:
when a job is preempted it goes before all that wait, so the stack stays in order.
"""

from typing import Any, NamedTuple

import numpy as np

from gsched.jit import as_lists, compiled, kernel, lowest_bit
from gsched.workload import Floats

# Interpreted below, compiled above: compiling pays only where interpreting would take longer than importing numba.
COMPILE_FROM = 30_000
_BITS = 5  # 32 bits a word: no sign to take care of


class _State(NamedTuple):
    release: Any  # by release, ascending
    offset: Any  # by release
    rank: Any  # by release: position of the job among all jobs by work
    work: Any  # by rank
    words: Any  # the waiting ranks as a tree of bitmaps: 32 words are summed up in one word of the level above
    level: Any  # where in `words` each level begins, leaves first
    paused_rank: Any  # the stack of preempted jobs
    paused_left: Any


def fluid_gain(release: Floats, work: Floats, offset: Floats, remaining: bool = False) -> float:
    """Return by how much waiting for one machine raises a sum of completions over a known one, at least.

    Jobs are served preemptively. Least work first minimises the sum of mean busy times among all schedules of one
    machine (Goemans 1997); least remaining work first that of completions (Schrage 1968). Each job contributes its
    mean busy time, or its completion where `remaining` is set, plus its offset; each busy period of the machine
    contributes the sum over its jobs, or nothing where that is negative.

    Args:
        release: earliest start of each of n jobs in seconds, ascending, shape (n,).
        work: seconds that the machine needs for each job, positive, shape (n,).
        offset: added to each job's time, shape (n,).
        remaining: serve the least remaining work first.
    """
    state = _state(release, work, offset)
    if len(release) < COMPILE_FROM:
        return float(_gain(as_lists(state), remaining))
    return float(compiled(_gain)(state, remaining))


def _state(release: Floats, work: Floats, offset: Floats) -> _State:
    jobs = len(release)
    by_work = np.argsort(work, kind="stable" if jobs < COMPILE_FROM else None)
    rank = np.empty(jobs, np.int64)
    rank[by_work] = np.arange(jobs)
    sizes = [_word_count(jobs)]
    while sizes[-1] > 1:
        sizes.append(_word_count(sizes[-1]))
    level = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
    words = np.zeros(sum(sizes), np.int64)
    return _State(release, offset, rank, work[by_work], words, level, np.empty(jobs, np.int64), np.empty(jobs))


def _word_count(bits: int) -> int:
    return (bits - 1 >> _BITS) + 1


def _gain(state: _State, remaining: bool) -> float:
    release, work = state.release, state.work
    jobs = len(release)
    arrived = waiting = paused = 0
    now = total = gain = 0.0
    while arrived < jobs or waiting or paused:
        if not waiting and not paused:
            total += max(gain, 0.0)
            gain = 0.0
            now = release[arrived]
        while arrived < jobs and release[arrived] <= now:
            _insert(state.words, state.level, state.rank[arrived])
            gain += state.offset[arrived]
            waiting += 1
            arrived += 1
        rank = _lowest(state.words, state.level) if waiting else jobs
        if paused and (
            state.paused_rank[paused - 1] < rank or (remaining and state.paused_left[paused - 1] <= work[rank])
        ):
            paused -= 1
            rank = state.paused_rank[paused]
            left = state.paused_left[paused]
        else:
            _remove(state.words, state.level, rank)
            waiting -= 1
            left = work[rank]
        served = left
        if arrived < jobs and release[arrived] < now + left:
            served = release[arrived] - now
            state.paused_rank[paused] = rank
            state.paused_left[paused] = left - served
            paused += 1
        elif remaining:
            gain += now + left
        if not remaining:
            gain += served / work[rank] * (now + served / 2)
        now += served
    return total + max(gain, 0.0)


@kernel
def _insert(words: Any, level: Any, rank: int) -> None:
    for i in range(len(level)):
        at = level[i] + (rank >> _BITS)
        word = words[at]
        words[at] = word | (1 << (rank & 31))
        if word:
            break
        rank >>= _BITS


@kernel
def _lowest(words: Any, level: Any) -> int:
    rank = 0
    for i in range(len(level) - 1, -1, -1):
        rank = (rank << _BITS) | lowest_bit(words[level[i] + rank])
    return rank


@kernel
def _remove(words: Any, level: Any, rank: int) -> None:
    for i in range(len(level)):
        at = level[i] + (rank >> _BITS)
        words[at] &= ~(1 << (rank & 31))
        if words[at]:
            break
        rank >>= _BITS
