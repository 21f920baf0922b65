"""What the summary of a log must say, worked out anew from its rows."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from gsched.checker.columns import ABSOLUTE, RELATIVE, blocks
from gsched.workload import Floats, Longs

if TYPE_CHECKING:
    from gsched.checker.facts import Facts

Total = float | tuple[float, float] | None
"""A number; the least and the most that it may be, where that hangs on rounding; None where there is none to state."""

_FIGURES = ("average", "median", "p90", "p99", "min", "max")
_SLO = ("slo_attainment_percent", "goodput")
_USE = ("average_utilization", "utilization_variance")
_SERVERS = (
    *("server_efficiency", "intra_server_workflows", "inter_server_workflows"),
    "cross_server_communications",
)
TOTALS = (
    *("total_requests", "completed_requests", "total_nodes_executed", "total_tasks", "dependency_levels", "makespan"),
    *("throughput", "total_switch_time", "switch_overhead_percent", "total_model_switches", "total_model_loads"),
    *(f"{figure}_{what}_time" for what in ("request", "waiting") for figure in _FIGURES),
    *(*_SLO, *_USE, *_SERVERS, "deployment_time_seconds", "failed_requests"),
)


def totals(facts: "Facts") -> dict[str, Total]:
    """Return those of `TOTALS` that can be told; costly ones only where the summary states them."""
    found = _of_rows(facts) | _of_requests(facts)
    for names, work_out in _COSTLY.items():
        if any(facts.log.summary.get(name) is not None for name in names):
            found |= work_out(facts)
    return found


def _of_rows(facts: "Facts") -> dict[str, Total]:
    log, makespan = facts.log, facts.makespan
    found: dict[str, Total] = {"total_nodes_executed": len(log), "makespan": makespan}
    found["throughput"] = _rate(len(log), makespan)
    if "failures" not in facts.outcome.wrong:
        found["failed_requests"] = len(facts.outcome.failed)
    if log.switch_time is not None:
        switching = float(log.switch_time.sum())
        found |= {"total_switch_time": switching, "switch_overhead_percent": 100 * switching / (makespan or 1.0)}
    if log.waiting_time is not None:
        found |= _figures("waiting", log.waiting_time)
    if facts.gangs is not None and facts.residency is not None:
        replaces, fills = facts.replay
        found["total_model_switches"] = int(np.count_nonzero(replaces))
        found["total_model_loads"] = int(np.count_nonzero(fills & ~replaces))
    return found


def _of_requests(facts: "Facts") -> dict[str, Total]:
    workload = facts.workload
    if workload is None:
        return {}
    complete = ~np.isnan(facts.request_end)
    found: dict[str, Total] = {
        "total_requests": workload.request_count,
        "completed_requests": int(np.count_nonzero(complete)),
        "total_tasks": workload.node_count,
        "dependency_levels": _dependency_levels(facts),
    }
    if facts.arrival is None:
        return found
    return found | _figures("request", (facts.request_end - facts.arrival)[complete])


def _dependency_levels(facts: "Facts") -> int:
    """Return the number of nodes of the longest path in any request."""
    assert facts.workload is not None
    longest = 0
    for flow in np.flatnonzero(np.bincount(facts.workload.workflow)).tolist():
        workflow = facts.workload.workflows[flow]
        level: dict[int, int] = {}
        for node in workflow.order:
            level[node] = 1 + max((level[parent] for parent in workflow.parents[node]), default=0)
        longest = max(longest, *level.values())
    return longest


def _figures(what: str, seconds: Floats) -> dict[str, Total]:
    """Return the figures of a time that a summary states; none where no row tells them."""
    if not len(seconds):
        return {}
    figures = seconds.mean(), *np.percentile(seconds, [50, 90, 99]), seconds.min(), seconds.max()
    return {f"{name}_{what}_time": float(value) for name, value in zip(_FIGURES, figures, strict=True)}


def _rate(count: int, seconds: float) -> float | None:
    """Return how many there are in a second; None where no time passes."""
    return count / seconds if seconds > 0 else None


def agrees(given: object, expected: Total) -> bool:
    """Tell whether a number that a log states is the expected one, up to rounding."""
    if expected is None or not is_number(given):
        return given is None
    least, most = expected if isinstance(expected, tuple) else (expected, expected)
    return least - _slack(least) <= given <= most + _slack(most)


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether a value is a number that fits a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _slack(value: float) -> float:
    return ABSOLUTE + RELATIVE * abs(value)


# Deadlines


def tier_totals(facts: "Facts") -> dict[str, dict[str, Total]]:
    """Return the figures of the requests of each tier; needs a workload and a mode."""
    workload = facts.workload
    assert workload is not None
    assert facts.arrival is not None
    tier = workload.tier if workload.tier is not None else np.ones(workload.request_count, np.int32)
    limited = np.zeros(len(tier), np.bool_) if workload.deadline is None else np.isfinite(workload.deadline)
    found = {}
    for level in np.unique(tier).tolist():
        mine = np.flatnonzero(tier == level)
        took = (facts.request_end - facts.arrival)[mine]
        found[str(level)] = {
            "requests": len(mine),
            "with_deadline": int(np.count_nonzero(limited[mine])),
            **_attainment(facts, mine),
            **_figures("request", took[~np.isnan(took)]),
        }
    return found


def _slo(facts: "Facts") -> dict[str, Total]:
    if facts.workload is None or facts.mode is None:
        return {}
    return _attainment(facts, np.arange(facts.workload.request_count))


def _attainment(facts: "Facts", requests: Longs) -> dict[str, Total]:
    """Return how many percent of the deadlines of some requests were met, and how many requests a second were good."""
    workload, mode = facts.workload, facts.mode
    assert workload is not None
    assert mode is not None
    end, due = facts.request_end[requests], workload.due(mode)[requests]
    slack = ABSOLUTE + RELATIVE * np.abs(end)
    limited = np.isfinite(due)
    asked = int(np.count_nonzero(limited))
    good = [end <= due - slack, end <= due + slack]  # certainly, perhaps
    met = [100 * int(np.count_nonzero(those & limited)) / (asked or 1) for those in good]
    rate = [_rate(int(np.count_nonzero(those)), facts.makespan) for those in good]
    return {
        "slo_attainment_percent": (met[0], met[1]) if asked else None,
        "goodput": None if rate[0] is None or rate[1] is None else (rate[0], rate[1]),
    }


# GPUs and servers


def utilization(facts: "Facts") -> Floats | None:
    """Return the percentage of the makespan for which each GPU of the cluster is occupied; None where untold."""
    gangs, cluster = facts.gangs, facts.cluster
    if gangs is None or cluster is None:
        return None
    busy = np.zeros(cluster.gpus)
    for part in blocks(len(facts.log)):
        first = gangs.first[part.start : part.stop + 1]
        gpu = gangs.gpus[first[0] : first[-1]]
        seconds = np.repeat((facts.log.end_time - facts.begin)[part], np.diff(first))
        inside = (gpu >= 0) & (gpu < cluster.gpus)
        busy += np.bincount(gpu[inside], seconds[inside], cluster.gpus)
    return 100 * busy / (facts.makespan or 1.0)


def _use(facts: "Facts") -> dict[str, Total]:
    percent = utilization(facts)
    return {} if percent is None else dict(zip(_USE, (float(percent.mean()), float(percent.var())), strict=True))


def _servers(facts: "Facts") -> dict[str, Total]:
    """Return how far requests stayed inside one server; a gang of several servers leaves its first."""
    workload, cluster, gangs = facts.workload, facts.cluster, facts.gangs
    if workload is None or cluster is None or gangs is None:
        return {}
    first = facts.by_node(facts.log.gpu_id // cluster.server_size)
    last = facts.by_node((facts.log.gpu_id + np.maximum(gangs.sizes, 1) - 1) // cluster.server_size)
    inside = np.zeros(0, np.bool_)
    if workload.request_count:
        start = workload.first_node[:-1]
        inside = np.minimum.reduceat(first, start) == np.maximum.reduceat(last, start)
    complete = ~np.isnan(facts.request_end)
    intra = int(np.count_nonzero(inside & complete))
    crossings = 0
    for parent, child in facts.edges():
        crossings += int(np.count_nonzero((first[parent] != first[child]) & facts.ran[parent] & facts.ran[child]))
    efficiency = 100 * intra / workload.request_count if workload.request_count else None
    values = (efficiency, intra, int(np.count_nonzero(complete)) - intra, crossings)
    return dict(zip(_SERVERS, values, strict=True))


def _deployment(facts: "Facts") -> dict[str, Total]:
    """Return how long loading the placement takes, where each GPU loads one model after another."""
    placement, workload, cluster = facts.deployment.placement, facts.workload, facts.cluster
    if placement is None or workload is None or cluster is None:
        return {}
    load = dict(zip(workload.config.models, facts.sizes.load.tolist(), strict=False))
    busy: dict[int, float] = {}
    for instance in placement:
        for gpu in instance.gpu_ids:
            busy[gpu] = busy.get(gpu, 0.0) + load.get(instance.model, 0.0)
    return {"deployment_time_seconds": max(busy.values(), default=0.0)}


_COSTLY: dict[tuple[str, ...], Callable[["Facts"], dict[str, Total]]] = {
    _SLO: _slo,
    _USE: _use,
    _SERVERS: _servers,
    ("deployment_time_seconds",): _deployment,
}
