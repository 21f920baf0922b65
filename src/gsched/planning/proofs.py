"""What no policy can do: limits that the requests' own lengths break, and clusters too small for the work.

Both leave out all loading. A schedule of a small cluster is one of a larger cluster, too, which has the same servers
and some more, or a single larger one; so where one size is proven to be too small, all sizes below are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gsched.bounds import lower_bounds
from gsched.bounds.capacity import LoadCosts
from gsched.bounds.paths import find_paths
from gsched.cluster import Cluster
from gsched.planning.slo import Slo, Times, share_of
from gsched.workload import Floats, Mode, Workload

_BOUNDED = ("makespan", "mean")  # what there are bounds for that know each model's gangs
_ROUNDING = 1e-9  # sums of millions of floats are off by far less than this share of themselves
_ROUNDING_OF_TIMES = 1e-12


@dataclass(frozen=True)
class Proof:
    """Why a limit cannot be kept.

    Args:
        slo: the limit.
        reason: what stands against it.
    """

    slo: Slo
    reason: str


def beyond_reach(slos: Sequence[Slo], workload: Workload, mode: Mode) -> Proof | None:
    """Return a proof that some limit is broken on any cluster, as requests are too long; None where there is none."""
    times = fastest(workload, mode)
    for slo in slos:
        if not slo.holds(figure := times.figure(slo.name)):
            best = f"{'at most' if slo.name == 'attainment' else 'at least'} {slo.amount(figure)}"
            return Proof(slo, f"with every request alone, and all its models in place, it would be {best}")
    return None


def fastest(workload: Workload, mode: Mode) -> Times:
    """Return the times of requests that never wait or load, each its critical path, less what floats may be off by."""
    used = np.flatnonzero(np.bincount(workload.model)).tolist()
    costs = LoadCosts.of([workload.models[i] for i in used], Cluster(1), preloaded=True)
    paths, _ = find_paths(workload, mode, used, costs)
    end = np.empty(workload.request_count)
    for flow, part in zip(np.flatnonzero(np.bincount(workload.workflow)), paths, strict=True):
        end[workload.workflow == flow] = part.end
    end = end * (1 - _ROUNDING_OF_TIMES) - _ROUNDING_OF_TIMES
    took = np.maximum((end - workload.arrival(mode)) * (1 - _ROUNDING), 0.0)
    return Times(took, float(end.max()), _in_time(end <= workload.due(mode), workload))


def _in_time(in_time: npt.NDArray[np.bool_], workload: Workload) -> float | None:
    """Return the percentage of deadlines that are met; None where there is none."""
    limited = np.isfinite(workload.due("offline"))
    return float(in_time[limited].mean() * 100) if limited.any() else None


def too_small(slos: Sequence[Slo], workload: Workload, mode: Mode) -> Callable[[Cluster], Proof | None]:
    """Return what gives a proof that a cluster is too small for the limits, or None where there is none.

    The clusters must have room for each model.
    """
    bounded = [slo for slo in slos if slo.name in _BOUNDED]
    demands = [(slo, *_demand(slo, workload, mode)) for slo in slos if slo.name not in _BOUNDED]

    def proof(cluster: Cluster) -> Proof | None:
        for slo, seconds, work in demands:
            if work > (has := cluster.gpus * seconds):
                amount = f"{work:,.0f} GPU-seconds of work must be done in {seconds:,.0f} s"
                return Proof(slo, f"{amount}, in which {cluster.gpus:,} GPUs have {has:,.0f}")
        bounds = lower_bounds(workload, cluster, mode, preloaded=True) if bounded else None
        for slo in bounded:
            assert bounds
            bound = bounds.makespan if slo.name == "makespan" else bounds.mean_latency
            if not slo.holds(bound.value):
                return Proof(slo, f"the {slo.name} cannot be below {bound.value:,.1f} s ({bound.name})")
        return None

    return proof


def _demand(slo: Slo, workload: Workload, mode: Mode) -> tuple[float, float]:
    """Return the seconds from time 0 in which the requests that count must be done, and their least GPU-seconds.

    Which requests miss a percentile or a deadline is free, so those of most work do.
    """
    gpus = np.array([model.gpus_required for model in workload.models])
    work = np.add.reduceat(workload.duration * gpus[workload.model], workload.first_node[:-1])
    if slo.name == "attainment":
        due = workload.due(mode)
        counted = np.isfinite(due)
        needed = slo.limit / 100 * counted.sum()
        return _cheapest(work[counted], int(np.ceil(needed - _ROUNDING * needed)), float(due[counted].max()))
    # The percentile lies between two requests; the lower one is in time, and so are all before it.
    place = share_of(slo.name) / 100 * (len(work) - 1)
    return _cheapest(work, int(place) + 1, float(workload.arrival(mode).max()) + slo.limit)


def _cheapest(work: Floats, count: int, seconds: float) -> tuple[float, float]:
    return seconds, float(np.sort(work)[:count].sum()) * (1 - _ROUNDING)
