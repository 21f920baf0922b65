"""Proven lower bounds: no schedule of a workload on a cluster, whatever its policy, can be better.

Every bound relaxes the rules until the best schedule is easy to compute; docs/bounds.md has the proofs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gsched.bounds.capacity import LoadCosts, gangs_at_once, usable_gpus
from gsched.bounds.fluid import fluid_gain
from gsched.bounds.paths import Paths, find_paths
from gsched.cluster import Cluster
from gsched.workload import Floats, Mode, Model, Workload

# Sums of millions of floats are off by far less than these shares of themselves and of the largest time in them.
_ROUNDING = 1e-9
_ROUNDING_OF_TIMES = 1e-12
# A bound on the mean latency that cannot raise the best by more than this factor is not computed.
_WORTHWHILE = 1.0001
# On more slots than these, mean busy times always gave the better bound.
_FEW_SLOTS = 4


class Bound(NamedTuple):
    """A proven lower bound in seconds, the name of the argument behind it, and what it says in this case."""

    value: float
    name: str
    explanation: str


@dataclass(frozen=True)
class Bounds:
    """Lower bounds on the makespan and on the mean latency (completion less arrival, over the requests).

    Args:
        all_makespan: the bounds on the makespan, one for each argument that applies; at least one.
        all_mean: the bounds on the mean latency, without those that are certain to be below another; at least one.
    """

    all_makespan: tuple[Bound, ...]
    all_mean: tuple[Bound, ...]

    @property
    def makespan(self) -> Bound:
        """The largest bound on the makespan."""
        return max(self.all_makespan, key=lambda bound: bound.value)

    @property
    def mean_latency(self) -> Bound:
        """The largest bound on the mean latency."""
        return max(self.all_mean, key=lambda bound: bound.value)


def lower_bounds(workload: Workload, cluster: Cluster, mode: Mode, preloaded: bool = False) -> Bounds:
    """Return lower bounds for every valid schedule of a workload on a cluster.

    Args:
        workload: models, workflows and requests.
        cluster: the GPUs.
        mode: "offline", where every request arrives at 0, or "online".
        preloaded: models are in place before time 0, so that no load or switch costs anything.

    Raises:
        ValueError: a model that requests use needs more GPUs than the cluster has.
    """
    if not workload.request_count:
        nothing = (Bound(0.0, "no requests", "there is nothing to do"),)
        return Bounds(nothing, nothing)
    start = workload.template_start
    flows = np.flatnonzero(np.bincount(workload.workflow)).tolist()
    used = sorted({int(model) for flow in flows for model in workload.template_model[start[flow] : start[flow + 1]]})
    models = [workload.models[model] for model in used]
    for model in models:
        if model.gpus_required > cluster.gpus:
            raise ValueError(f"model {model.id!r} needs {model.gpus_required} GPUs, the cluster has {cluster.gpus}")
    costs = LoadCosts.of(models, cluster, preloaded)
    paths, ready = find_paths(workload, mode, used, costs)
    seconds = np.zeros(len(used))
    for flow in paths:
        np.add.at(seconds, flow.model, flow.duration.sum(axis=1))
    # The scarcest first: what the others could add to its mean latency is then seldom worth computing.
    slots = sorted(_slots(models, cluster, costs), key=lambda s: -float(s.taken @ seconds) / s.limit)
    return _bounds(paths, (_Demand.of(s, costs, paths, ready) for s in slots))


class _Slots(NamedTuple):
    """A kind of slot of which no more than `limit` are in use at once.

    Args:
        name: of the bound.
        explanation: what is scarce.
        limit: the most slots in use at once.
        taken: slots that a node of each model takes while it loads and runs, shape (M,).
        load: the least seconds for which a slot is loaded before it can be used.
    """

    name: str
    explanation: str
    limit: int
    taken: Floats
    load: float


def _slots(models: list[Model], cluster: Cluster, costs: LoadCosts) -> Iterator[_Slots]:
    sizes = np.array([model.gpus_required for model in models])
    usable = usable_gpus(cluster, sizes.tolist())
    yield _Slots("GPU time", f"GPUs in use at once: {usable}", usable, sizes.astype(float), float(costs.empty.min()))
    for position, model in enumerate(models):
        limit = gangs_at_once(cluster, model.gpus_required)
        text = f"gangs of model {model.id!r} in use at once: {limit}"
        taken = (np.arange(len(models)) == position).astype(float)
        yield _Slots(f"model {model.id}", text, limit, taken, float(costs.again[position]))
    for size in sorted({size for size in sizes.tolist() if size > 1}):
        wide = sizes >= size
        if wide.sum() > 1:
            limit, name = gangs_at_once(cluster, size), f"gangs of {size} GPUs or more"
            text, load = f"{name} in use at once: {limit}", float(costs.again[wide].min())
            yield _Slots(name, text, limit, wide.astype(float), load)


@dataclass(frozen=True)
class _Demand:
    """What the workload asks of one kind of slot: a job for each request that needs it, by release.

    Args:
        slots: the kind; with no more of them than all nodes together could use.
        floor: a lower bound on the makespan from the total work, with loads.
        release: earliest start of each job in seconds, ascending, shape (n,).
        work: seconds that each job would take on all slots together, shape (n,).
        tail: seconds from the end of each job to the end of its request, at least, shape (n,).
        rest: seconds from the mean busy time of each job to the end of its request, at least, shape (n,).
        end: end of the request's critical path, shape (n,).
    """

    slots: _Slots
    floor: float
    release: Floats
    work: Floats
    tail: Floats
    rest: Floats
    end: Floats

    @classmethod
    def of(cls, slots: _Slots, costs: LoadCosts, paths: list[Paths], ready: Floats) -> "_Demand":
        """Return the demand for slots of a kind."""
        users = slots.taken > 0
        mine = [(flow, nodes) for flow in paths if (nodes := [i for i, m in enumerate(flow.model) if users[m]])]
        parallel = sum(slots.taken[flow.model[node]] * len(flow.arrival) for flow, nodes in mine for node in nodes)
        slots = slots._replace(limit=int(min(slots.limit, parallel)))
        parts = [_jobs(slots, flow, nodes) for flow, nodes in mine]
        release, work, tail, rest, end = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        first_loads = float(costs.first @ slots.taken)
        busy = _busy_slots(slots, slots.limit * float(work.sum()) + first_loads)
        floor = float(ready[users].min() + busy + tail.min())
        order = np.argsort(release)
        order = order[work[order] > 0]
        return cls(slots, floor, *(column[order] for column in (release, work, tail, rest, end)))

    @property
    def makespan(self) -> float:
        """The largest bound from the work of all jobs, or of those released from some time on."""
        work_after = np.cumsum(self.work[::-1])[::-1]
        tail_after = np.minimum.accumulate(self.tail[::-1])[::-1]
        return max(self.floor, float(np.max(self.release + work_after + tail_after, initial=0.0)))

    @property
    def gain_at_most(self) -> float:
        """An upper bound for `gain`, quickly: what first come, first served would give."""
        if not len(self.work):
            return 0.0
        before = np.cumsum(self.work) - self.work
        idle_until = np.maximum.accumulate(self.release - before)
        gain = idle_until + before + self.work / 2 + self.rest - self.end
        periods = np.flatnonzero(np.diff(idle_until, prepend=-np.inf) > 0)
        return float(np.maximum(np.add.reduceat(gain, periods), 0.0).sum())

    @property
    def gain(self) -> float:
        """By how much the sum of completions exceeds that of the critical paths, at least."""
        gain = fluid_gain(self.release, self.work, self.rest - self.end)
        if self.slots.limit > _FEW_SLOTS:
            return gain
        return max(gain, fluid_gain(self.release, self.work, self.tail - self.end, remaining=True))


def _jobs(slots: _Slots, flow: Paths, nodes: list[int]) -> tuple[Floats, ...]:
    """Return release, work, tail, rest and end of the requests of a workflow that uses the slots in `nodes`."""
    seconds = slots.taken[[flow.model[node] for node in nodes]][:, None] * flow.duration[nodes]
    work = seconds.sum(axis=0)
    share = np.divide(seconds, work, out=np.zeros_like(seconds), where=work > 0)
    release, tail = flow.start[nodes].min(axis=0), flow.tail[nodes].min(axis=0)
    work /= slots.limit
    rest = (share * (flow.duration[nodes] / 2 + flow.tail[nodes])).sum(axis=0)
    np.maximum(rest, work / 2 + tail, out=rest)
    return release, work, tail, rest, flow.end


def _busy_slots(slots: _Slots, seconds: float) -> float:
    """Return how long the slots are busy at least, with `seconds` of work and models' first loads.

    Where n slots are ever in use at once, those beyond the models' first starts were each loaded too. Up to that point
    the time falls with n, beyond it the time is monotone in n, so its values at the point and at the limit suffice.
    """
    counts = {min(slots.limit, slots.taken.sum()), slots.limit}
    return float(min((seconds + max(0.0, n - slots.taken.sum()) * slots.load) / n for n in counts))


def _bounds(paths: list[Paths], demands: Iterable[_Demand]) -> Bounds:
    requests = sum(len(flow.arrival) for flow in paths)
    last = max(float(flow.end.max()) for flow in paths)
    alone = sum(float((flow.end - flow.arrival).sum()) for flow in paths) / requests
    makespan = [("critical path", last, "the longest arrival, loads and nodes one after another")]
    mean = [("critical path", alone, "every request alone on the cluster, after the first loads")]
    best = alone
    for demand in demands:
        name, explanation = demand.slots.name, demand.slots.explanation
        makespan.append((name, demand.makespan, explanation))
        if alone + demand.gain_at_most / requests > best * _WORTHWHILE:
            mean.append((name, alone + demand.gain / requests, explanation))
            best = max(best, mean[-1][1])
    slack = _ROUNDING_OF_TIMES * max(value for _, value, _ in makespan)
    return Bounds(_safe(makespan, 0.0), _safe(mean, slack))


def _safe(bounds: list[tuple[str, float, str]], slack: float) -> tuple[Bound, ...]:
    """Return the bounds, lowered by more than rounding can have raised them."""
    return tuple(Bound(max(0.0, value * (1 - _ROUNDING) - slack), name, text) for name, value, text in bounds)
