"""What `search` varies and how: candidates, changes to them, and annealing that is spent on the most promising.

A candidate is a setting of the knobs of `gsched.policies.guided`, or FIFO with affinity. Changes are random steps of
one knob or a few. Annealing accepts what is worse too, less and less of it (Kirkpatrick, Gelatt, Vecchi: "Optimization
by simulated annealing", Science 220, 1983). Several candidates are annealed side by side, and after each round the
better half goes on (successive halving: Jamieson, Talwalkar, AISTATS 2016).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from gsched.policies import Setting
from gsched.policies.guided import (
    ARRIVAL,
    BALANCE,
    CALM,
    DRAIN,
    MAX_WAIT,
    RELOAD,
    RESIDENCY,
    WAITING,
    WORK,
    Knobs,
    fresh,
    neutral_knobs,
)
from gsched.workload import Floats, Longs, Workload

FEW_NODES = 200  # among so many, the place of a single node matters
NEVER = 1e9  # as `reserve`
ROUNDS = (8, 4, 2, 1)  # candidates that are annealed side by side, for a quarter of the search each time
HEAT, COOLER, COOLING = 0.004, 0.7, 3  # temperature, by what it falls from round to round, and how fast within one
STOP_CHANGING = 0.6  # probability with which each step of a change is its last


class Candidate(NamedTuple):
    """A setting to try. All parts are arrays of its own."""

    plain: Longs  # (1) whether it is FIFO with affinity, in which only the order counts
    mix: Floats  # (orders) weight of each of the orders by which nodes may be ranked; empty where they are not
    noise: Floats  # (nodes) added to the rank; empty where there are many nodes
    threshold: Floats  # these and the others: see Knobs
    weight: Floats
    reserve: Floats
    limit: Longs
    stride: Longs
    value: Floats

    def copy(self) -> "Candidate":
        """Return a copy that shares nothing."""
        copies: Iterator[Any] = (part.copy() for part in self)
        return Candidate(*copies)


Step = Callable[[Candidate, np.random.Generator], None]
"""Changes a knob in place."""


class Space:
    """The candidates for the known requests of a setting.

    Args:
        setting: with at least one request, if nodes are ranked.
        ranked: whether nodes are ranked beforehand; otherwise by their request's arrival and GPU seconds.
    """

    def __init__(self, setting: Setting, ranked: bool) -> None:
        self._workload, self._ranked = setting.known, ranked
        self._neutral = neutral_knobs(setting)
        self._size = np.array([model.gpus_required for model in setting.known.models], np.int64)
        self._most = np.maximum(setting.cluster.gpus // self._size, 1)
        self._few = ranked and setting.known.node_count <= FEW_NODES

    @cached_property
    def orders(self) -> Floats:
        """Orders that are good for something, as keys from 0 to 1, shape (orders, nodes)."""
        if not self._ranked:
            return np.zeros((0, 0))
        return np.array([_scaled(key) for key in _orders(self._workload, self._size)])

    def knobs(self, candidate: Candidate) -> Knobs:
        """Return a table for `guided`, whose parts are not the candidate's."""
        rank = candidate.mix @ self.orders if self._ranked else np.zeros(0)
        own = candidate.copy()
        return fresh(self._neutral)._replace(
            rank=rank + own.noise if self._few else rank,
            threshold=own.threshold,
            weight=own.weight,
            reserve=own.reserve,
            limit=own.limit,
            stride=own.stride,
            value=own.value,
        )

    def candidate(self, knobs: Knobs, order: int | None = None, plain: bool = False) -> Candidate:
        """Return the candidate for knobs, whatever they remember, with one of the orders or none."""
        mix = np.zeros(len(self.orders))
        if order is not None:
            mix[order] = 1.0
        noise = np.zeros(self._workload.node_count if self._few else 0)
        parts = (knobs.threshold, knobs.weight, knobs.reserve, knobs.limit, knobs.stride, knobs.value)
        return Candidate(np.array([int(plain)]), mix, noise, *map(np.array, parts))

    def start(self, order: int | None, threshold: float, reserve: float, plain: bool = False) -> Candidate:
        """Return a candidate that switches a model where its ready work is worth so many times the loading."""
        start = self.candidate(self._neutral, order, plain)
        start.threshold[:] = threshold
        start.reserve[:] = np.where(self._size > 1, reserve, NEVER)
        start.value[[MAX_WAIT, DRAIN, BALANCE]] = np.inf, 1.0, 1.0
        return start

    def starts(self) -> Iterator[Candidate]:
        """Yield candidates to begin with; if nodes are ranked, the first is FIFO with affinity, policy `baseline`."""
        if not self._ranked:
            yield self.start(None, 1.0, NEVER)
            return
        orders = [None, *range(len(self.orders))]
        yield from (self.start(order, 1.0, NEVER, plain=True) for order in orders)
        kinds = [(threshold, reserve) for reserve in (10.0, NEVER) for threshold in (1.0, 0.1, 10.0)]
        yield from (self.start(order, *kind) for kind in kinds for order in orders)

    def change(self, candidate: Candidate, random: np.random.Generator) -> Candidate:
        """Return a candidate that differs in one knob or in a few."""
        changed = candidate.copy()
        steps = self._steps
        while True:
            steps[random.integers(len(steps))](changed, random)
            if random.random() < STOP_CHANGING:
                return changed

    @cached_property
    def _steps(self) -> list[Step]:
        steps: list[Step] = [_weight, _threshold, _weight, _threshold, _reserve, _value, _all_thresholds]
        steps += [self._limit, self._limit, self._stride]
        steps += [_one_order, _mix, _plain] if self._ranked else [_arrival_or_work, _patience]
        return steps + [_swap] * 8 if self._few else steps

    def _limit(self, candidate: Candidate, random: np.random.Generator) -> None:
        model = random.integers(len(self._most))
        most = self._most[model]
        if random.random() < 0.5:
            candidate.limit[model] = random.integers(1, most + 1)
        else:
            candidate.limit[model] = np.clip(candidate.limit[model] + random.integers(-2, 3), 1, most)

    def _stride(self, candidate: Candidate, random: np.random.Generator) -> None:
        model = random.integers(len(self._size))
        candidate.stride[model] = random.choice([1, self._neutral.stride[model]])


def _orders(workload: Workload, size: Longs) -> Iterator[Floats]:
    """Yield keys of nodes: request by request; the smallest request first; the least left; the longest tail first."""
    gpu_seconds = workload.duration * size[workload.model]
    yield workload.request.astype(np.float64)
    yield np.add.reduceat(gpu_seconds, workload.first_node[:-1])[workload.request]
    left, tail = _ahead(workload, gpu_seconds)
    yield left
    yield -tail
    yield -workload.duration


def _ahead(workload: Workload, gpu_seconds: Floats) -> tuple[Floats, Floats]:
    """Return the GPU seconds of the request on a node's level or beyond, and the longest path from the node's start."""
    left, tail = np.zeros(workload.node_count), workload.duration.copy()
    for position, flow in enumerate(workload.workflows):
        first = workload.first_node[:-1][workload.workflow == position]
        for node in reversed(flow.order):
            for child in flow.children[node]:
                longer = workload.duration[first + node] + tail[first + child]
                tail[first + node] = np.maximum(tail[first + node], longer)
            beyond = [other for other in range(len(flow.nodes)) if flow.level[other] >= flow.level[node]]
            left[first + node] = sum(gpu_seconds[first + other] for other in beyond)
    return left, tail


def _scaled(key: Floats) -> Floats:
    """Return places from 0 to 1 instead of keys, equal ones for equal keys."""
    values, place = np.unique(key, return_inverse=True)
    return place / max(1, len(values) - 1)


def _factor(random: np.random.Generator) -> float:
    """Return what to multiply a knob by: mostly a little, sometimes a lot."""
    return float(np.exp(random.normal() * random.choice([0.1, 0.5, 2.0])))


def _scale_one(knob: Floats, random: np.random.Generator) -> None:
    at = random.integers(len(knob))
    afresh = random.random() < 0.3
    knob[at] = np.exp(2 * random.normal()) if afresh else knob[at] * _factor(random)


def _weight(candidate: Candidate, random: np.random.Generator) -> None:
    _scale_one(candidate.weight, random)


def _threshold(candidate: Candidate, random: np.random.Generator) -> None:
    _scale_one(candidate.threshold, random)


def _all_thresholds(candidate: Candidate, random: np.random.Generator) -> None:
    candidate.threshold[:] *= _factor(random)


def _plain(candidate: Candidate, random: np.random.Generator) -> None:
    candidate.plain[0] = random.random() < 0.3


def _reserve(candidate: Candidate, random: np.random.Generator) -> None:
    never = random.random() < 0.4
    candidate.reserve[random.integers(len(candidate.reserve))] = NEVER if never else 10 * np.exp(2 * random.normal())


def _value(candidate: Candidate, random: np.random.Generator) -> None:
    at = random.choice([DRAIN, BALANCE, RELOAD, CALM, RESIDENCY])
    afresh, off = random.random(2) < (0.5, 0.3)
    if off:
        candidate.value[at] = 0.0
    else:
        candidate.value[at] = np.exp(2 * random.normal()) if afresh else candidate.value[at] * _factor(random)


def _one_order(candidate: Candidate, random: np.random.Generator) -> None:
    order = random.integers(-1, len(candidate.mix))
    candidate.mix[:] = 0.0
    if order >= 0:
        candidate.mix[order] = 1.0


def _mix(candidate: Candidate, random: np.random.Generator) -> None:
    candidate.mix[random.integers(len(candidate.mix))] += 0.3 * random.normal()


def _swap(candidate: Candidate, random: np.random.Generator) -> None:
    candidate.noise[random.integers(len(candidate.noise))] = random.choice([0.0, 0.1, 1.0]) * random.normal()


def _arrival_or_work(candidate: Candidate, random: np.random.Generator) -> None:
    """Weigh the GPU seconds of a request against its arrival; with no weights, nodes are served as they get ready."""
    candidate.value[ARRIVAL] = random.random() < 0.8
    candidate.value[WORK] = random.choice([0.0, 1.0]) * np.exp(2 * random.normal())


def _patience(candidate: Candidate, random: np.random.Generator) -> None:
    if random.random() < 0.5:
        candidate.value[WAITING] = random.choice([0.0, 1.0]) * np.exp(2 * random.normal())
    else:
        candidate.value[MAX_WAIT] = random.choice([10.0, np.inf]) * np.exp(2 * random.normal())


class Found(NamedTuple):
    """A candidate and its score; of equal scores, the number tells which was first."""

    score: float
    number: int
    candidate: Candidate


def anneal(
    score: Callable[[Candidate], float],
    starts: Iterable[Candidate],
    change: Callable[[Candidate], Candidate],
    share: Callable[[], float],
    random: np.random.Generator,
) -> Candidate:
    """Return the candidate with the lowest score that was met; of equal ones, the first.

    Args:
        score: what is to be low, about 1.
        starts: candidates to begin with; the first is always tried.
        change: returns a candidate near another.
        share: returns how much of the search is done, asked after every trial; it ends at 1.
        random: decides what to accept.
    """
    found: list[Found] = []
    done = 0.0
    for candidate in starts:
        found.append(Found(score(candidate), len(found), candidate))
        if (done := share()) >= 1:
            break
    trial = _Trial(score, change, share, random)
    begin, trial.done = done, done
    for stage, survivors in enumerate(ROUNDS):
        found = sorted(found, key=lambda f: f[:2])[:survivors]
        for i in range(len(found)):
            until = begin + (1 - begin) * (stage + (i + 1) / len(found)) / len(ROUNDS)
            found[i] = trial.chain(found[i], until, HEAT * COOLER**stage)
    return found[0].candidate


@dataclass
class _Trial:
    """What annealing needs, and how much of the search is done."""

    score: Callable[[Candidate], float]
    change: Callable[[Candidate], Candidate]
    share: Callable[[], float]
    random: np.random.Generator
    done: float = 0.0

    def chain(self, start: Found, until: float, heat: float) -> Found:
        """Return the best that was met from a candidate on, until so much of the search is done."""
        begin = self.done
        best = current = start
        while self.done < until:
            left = (until - self.done) / (until - begin)
            candidate = self.change(current.candidate)
            found = Found(self.score(candidate), start.number, candidate)
            self.done = self.share()
            if found.score <= current.score + heat * left**COOLING * self.random.exponential():
                current = found
            if found.score < best.score:
                best = found
        return best
