"""Figures of a run, derived from its rows."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from gsched.bounds import lower_bounds
from gsched.cluster import Cluster
from gsched.log import Gangs, Log
from gsched.workload import Floats, Mode, Workload

_BLOCK = 1 << 16  # rows whose gangs are spelled out at a time


def summarize(
    log: Log, workload: Workload, cluster: Cluster, mode: Mode, policy: str, *, loads: int, switches: int
) -> Log:
    """Return a log with its summary (docs/formats.md has the fields).

    Args:
        log: the rows of a complete run, with all columns.
        workload: what was executed.
        cluster: where.
        mode: when requests arrived.
        policy: name of the policy.
        loads: starts that only filled GPUs that never held anything.
        switches: starts that replaced a label.
    """
    bounds = lower_bounds(workload, cluster, mode)
    latency = request_times(log, workload, mode)
    waiting = log.waiting_time if log.waiting_time is not None else np.zeros(0)
    switching = log.switch_time if log.switch_time is not None else np.zeros(0)
    makespan = float(log.end_time.max(initial=0.0))
    summary = {
        "policy": policy,
        "mode": mode,
        "simulate": False,
        "total_requests": workload.request_count,
        "completed_requests": workload.request_count,
        "total_nodes_executed": len(log),
        "makespan": makespan,
        "lower_bound": bounds.makespan.value,
        "lower_bound_name": bounds.makespan.name,
        "gap_percent": gap_percent(makespan, bounds.makespan.value),
        **_spread("request", latency),
        "mean_latency_lower_bound": bounds.mean_latency.value,
        "mean_latency_lower_bound_name": bounds.mean_latency.name,
        "mean_latency_gap_percent": gap_percent(float(_mean(latency)), bounds.mean_latency.value),
        **_spread("waiting", waiting),
        "total_model_switches": switches,
        "total_model_loads": loads,
        "total_switch_time": float(switching.sum()),
        "gpus": list(range(cluster.gpus)),
        **{name: value for name, value in asdict(cluster).items() if name != "gpus"},
    }
    return replace(log, summary=summary)


def request_times(log: Log, workload: Workload, mode: Mode) -> Floats:
    """Return the seconds from each request's arrival to the end of its last node, shape (R,)."""
    end = np.zeros(workload.request_count)
    np.maximum.at(end, log.request_id.codes, log.end_time)
    seconds: Floats = end - workload.arrival(mode)
    return seconds


def gap_percent(value: float, bound: float) -> float | None:
    """Return by how much a value exceeds its lower bound, or None where the bound is 0."""
    if bound > 0:
        return (value / bound - 1) * 100
    return 0.0 if value == 0 else None


def _spread(name: str, seconds: Floats) -> dict[str, float]:
    """Return the average, percentiles and extremes of a time; all 0 where there is none."""
    values = seconds if len(seconds) else np.zeros(1)
    median, p90, p99 = np.percentile(values, [50, 90, 99])
    figures = {"average": _mean(values), "median": median, "p90": p90, "p99": p99}
    figures |= {"min": values.min(), "max": values.max()}
    return {f"{figure}_{name}_time": float(value) for figure, value in figures.items()}


def _mean(values: Floats) -> Any:
    return values.mean() if len(values) else 0.0


class GpuUse(NamedTuple):
    """What one GPU did: nodes it took part in, seconds it was occupied (loading included), share of the makespan."""

    gpu: int
    executions: int
    busy_time: float
    utilization_percent: float


def gpu_use(log: Log, gpus: Iterable[int]) -> list[GpuUse]:
    """Return what each of `gpus` did."""
    gangs = log.gpu_ids or Gangs(np.arange(len(log) + 1), log.gpu_id)
    occupied = log.end_time - log.start_time + (0 if log.switch_time is None else log.switch_time)
    size = max((*gpus, int(gangs.gpus.max(initial=-1)))) + 1
    executions, busy = np.zeros(size, np.int64), np.zeros(size)
    for begin in range(0, len(log), _BLOCK):
        first = gangs.first[begin : begin + _BLOCK + 1]
        gpu = gangs.gpus[first[0] : first[-1]]
        executions += np.bincount(gpu, minlength=size)
        busy += np.bincount(gpu, np.repeat(occupied[begin : begin + _BLOCK], np.diff(first)), minlength=size)
    makespan = float(log.end_time.max(initial=0.0)) or 1.0
    return [GpuUse(g, int(executions[g]), float(busy[g]), float(busy[g]) / makespan * 100) for g in gpus]


def model_executions(log: Log) -> dict[str, int]:
    """Return how many nodes each executed model had."""
    counts = np.bincount(log.model_name.codes, minlength=len(log.model_name.values)).tolist()
    return {name: count for name, count in zip(log.model_name.values, counts, strict=True) if count}
