"""Figures of a run, derived from its rows."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from gsched.bounds import Bound, Bounds
from gsched.cluster import Cluster
from gsched.log import Gangs, Log
from gsched.placement import deployment_time
from gsched.preload import Placement
from gsched.workload import Floats, Ints, Mode, Workload

_BLOCK = 1 << 16  # rows whose gangs, or requests whose edges, are spelled out at a time
_NOWHERE = -1  # the server of a node that was not executed
_MAKESPAN = ("lower_bound", "gap_percent")
_MEAN_LATENCY = ("mean_latency_lower_bound", "mean_latency_gap_percent")
_TIER_FIGURES = ("average", "median", "p90", "p99")


def summarize(
    log: Log,
    workload: Workload,
    cluster: Cluster,
    mode: Mode,
    policy: str,
    *,
    bounds: Bounds | None,
    node: Ints,
    loads: int,
    switches: int,
    placement: Placement = (),
    options: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
    estimator: str = "recorded",
) -> Log:
    """Return a log with its summary and, for a static placement, the further parts (docs/formats.md has the fields).

    Times of requests are those of the requests whose nodes were all executed.

    Args:
        log: the rows of a run, with all columns; further parts that it has are kept.
        workload: what was executed.
        cluster: where.
        mode: when requests arrived.
        policy: name of the policy.
        bounds: on the makespan and the mean latency; None where nothing is proven of such a run.
        node: position of each row's node in the workload, shape (n,).
        loads: starts that only filled GPUs that never held anything.
        switches: starts that replaced a label.
        placement: what was loaded before time 0.
        options: those of the policy.
        measured: what the summary says of how a real run went; None for virtual time.
        estimator: where durations came from.
    """
    end = _request_ends(log, workload)
    latency = end - workload.arrival(mode)
    took = latency[~np.isnan(latency)]
    waiting = log.waiting_time if log.waiting_time is not None else np.zeros(0)
    switching = float(log.switch_time.sum()) if log.switch_time is not None else 0.0
    makespan = float(log.end_time.max(initial=0.0))
    uses = gpu_use(log, range(cluster.gpus))
    deployment = {"deployment_time_seconds": deployment_time(workload.models, cluster, placement)} if placement else {}
    summary = {
        "policy": policy,
        "policy_options": options_for_json(options or {}),
        "mode": mode,
        "simulate": measured is not None,
        **({} if estimator == "recorded" else {"estimator": estimator}),
        **(measured or {}),
        "total_requests": workload.request_count,
        "completed_requests": len(took),
        "total_nodes_executed": len(log),
        "dependency_levels": _dependency_levels(workload),
        "makespan": makespan,
        **_bounded(_MAKESPAN, makespan, bounds.makespan if bounds else None),
        "throughput": _rate(len(log), makespan),
        **_spread("request", took),
        **_bounded(_MEAN_LATENCY, float(_mean(took)), bounds.mean_latency if bounds else None),
        **_spread("waiting", waiting),
        **_attainment(workload, mode, end, latency, makespan),
        "total_model_switches": switches,
        "total_model_loads": loads,
        "total_switch_time": switching,
        "switch_overhead_percent": switching / (makespan or 1.0) * 100,
        **deployment,
        **utilization(uses),
        **_locality(log, workload, cluster, node),
        "gpus": list(range(cluster.gpus)),
        **{name: value for name, value in asdict(cluster).items() if name != "gpus"},
    }
    return replace(log, summary=summary, extra={**log.extra, **_placement_parts(placement, workload, cluster, uses)})


def options_for_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a policy as a summary states them."""
    return {name: _jsonable(value) for name, value in options.items()}


def _jsonable(value: Any) -> Any:
    """Return an option's value, as text where it is a number that JSON does not have."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _request_ends(log: Log, workload: Workload) -> Floats:
    """Return when the last node of each request ended, NaN where one was not executed, shape (R,)."""
    request = log.request_id.codes
    end = np.zeros(workload.request_count)
    np.maximum.at(end, request, log.end_time)
    end[np.bincount(request, minlength=len(end)) < np.diff(workload.first_node)] = np.nan
    return end


def request_times(log: Log, workload: Workload, mode: Mode) -> Floats:
    """Return the seconds from each request's arrival to the end of its last node, NaN if that never ran, shape (R,)."""
    seconds: Floats = _request_ends(log, workload) - workload.arrival(mode)
    return seconds


def _bounded(fields: tuple[str, str], value: float, bound: Bound | None) -> dict[str, Any]:
    """Return a lower bound and the gap to it, under these names; null where there is none."""
    name, gap = fields
    if bound is None:
        return {name: None, f"{name}_name": None, gap: None}
    return {name: bound.value, f"{name}_name": bound.name, gap: gap_percent(value, bound.value)}


def gap_percent(value: float, bound: float) -> float | None:
    """Return by how much a value exceeds its lower bound, or None where the bound is 0."""
    if bound > 0:
        return (value / bound - 1) * 100
    return 0.0 if value == 0 else None


def _rate(count: int, seconds: float) -> float | None:
    """Return how many there were a second, or None where no time passed."""
    rate = count / seconds if seconds > 0 else math.inf
    return rate if rate < math.inf else None


def _dependency_levels(workload: Workload) -> int:
    """Return the number of levels of the deepest workflow that requests use."""
    start = workload.template_start
    used = np.flatnonzero(np.bincount(workload.workflow)).tolist()
    return max((int(workload.template_level[start[flow] : start[flow + 1]].max()) + 1 for flow in used), default=0)


def _spread(name: str, seconds: Floats) -> dict[str, float]:
    """Return the average, percentiles and extremes of a time; all 0 where there is none."""
    values = seconds if len(seconds) else np.zeros(1)
    median, p90, p99 = np.percentile(values, [50, 90, 99])
    figures = {"average": _mean(values), "median": median, "p90": p90, "p99": p99}
    figures |= {"min": values.min(), "max": values.max()}
    return {f"{figure}_{name}_time": float(value) for figure, value in figures.items()}


def _mean(values: Floats) -> Any:
    return values.mean() if len(values) else 0.0


# -- deadlines and tiers


def _attainment(workload: Workload, mode: Mode, end: Floats, took: Floats, makespan: float) -> dict[str, Any]:
    """Return how well deadlines were met, in all and by tier; nothing where there are neither deadlines nor tiers."""
    if workload.deadline is None and workload.tier is None:
        return {}
    due = workload.due(mode)
    limited, in_time = due < np.inf, end <= due

    def figures(those: Any) -> dict[str, float | None]:
        met, asked = int((limited & in_time)[those].sum()), int(limited[those].sum())
        done = int(in_time[those].sum())
        return {"slo_attainment_percent": met / asked * 100 if asked else None, "goodput": _rate(done, makespan)}

    tier = np.ones(len(end), np.int32) if workload.tier is None else workload.tier
    tiers = {}
    for level in np.unique(tier).tolist():
        those = np.flatnonzero(tier == level)
        times = _spread("request", took[those][~np.isnan(took[those])])
        times = {f"{figure}_request_time": times[f"{figure}_request_time"] for figure in _TIER_FIGURES}
        count = {"requests": len(those), "with_deadline": int(limited[those].sum())}
        tiers[str(level)] = {**count, **figures(those), **times}
    return {**(figures(slice(None)) if workload.deadline is not None else {}), "tiers": tiers}


# -- servers


def _locality(log: Log, workload: Workload, cluster: Cluster, node: Ints) -> dict[str, Any]:
    """Return how far requests stayed inside one server; nothing for a single server."""
    if cluster.server_size == cluster.gpus:
        return {}
    server = np.full(workload.node_count, _NOWHERE, np.int32)
    server[node] = log.gpu_id // cluster.server_size
    first, requests = workload.first_node[:-1], workload.request_count
    spread, complete = np.zeros(0, np.int64), 0
    if requests:
        least = np.minimum.reduceat(server, first)
        outside = (least != np.maximum.reduceat(server, first)) | _spanning(workload, cluster)[workload.workflow]
        spread = np.flatnonzero(outside | (least == _NOWHERE))
        complete = int(np.count_nonzero(least != _NOWHERE))
    intra = requests - len(spread)
    return {
        "server_efficiency": intra / requests * 100 if requests else None,
        "intra_server_workflows": intra,
        "inter_server_workflows": complete - intra,
        "cross_server_communications": sum(_crossings(workload, server, part) for part in _blocks(spread)),
    }


def _spanning(workload: Workload, cluster: Cluster) -> Any:
    """Return which workflows have a model whose gangs span servers."""
    wide = {model.id for model in workload.models if model.gpus_required > cluster.server_size}
    return np.array([any(node.model in wide for node in flow.nodes) for flow in workload.workflows])


def _blocks(column: Any) -> Iterator[Any]:
    return (column[begin : begin + _BLOCK] for begin in range(0, len(column), _BLOCK))


def _crossings(workload: Workload, server: Ints, requests: Any) -> int:
    """Return the number of edges of these requests whose nodes both ran, in different servers."""
    pairs = [[(a, b) for b, parents in enumerate(flow.parents) for a in parents] for flow in workload.workflows]
    parent, child = np.array([pair for edges in pairs for pair in edges], np.int64).reshape(-1, 2).T
    count = np.array([len(edges) for edges in pairs], np.int64)
    size, skip = (column[workload.workflow[requests]] for column in (count, np.cumsum(count) - count))
    edge = np.arange(size.sum()) + np.repeat(skip - (np.cumsum(size) - size), size)
    node = np.repeat(workload.first_node[requests], size)
    one, other = server[node + parent[edge]], server[node + child[edge]]
    return int(np.count_nonzero((one != other) & (other != _NOWHERE)))  # where a child ran, its parent did


# -- GPUs and models


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


def utilization(uses: Sequence[GpuUse]) -> dict[str, float]:
    """Return the average and the population variance of the GPUs' utilization in percent."""
    percent = np.array([use.utilization_percent for use in uses])
    return {"average_utilization": float(percent.mean()), "utilization_variance": float(percent.var())}


def model_executions(log: Log) -> dict[str, int]:
    """Return how many nodes each executed model had."""
    counts = np.bincount(log.model_name.codes, minlength=len(log.model_name.values)).tolist()
    return {name: count for name, count in zip(log.model_name.values, counts, strict=True) if count}


# -- static placements


def _placement_parts(
    placement: Placement, workload: Workload, cluster: Cluster, uses: Sequence[GpuUse]
) -> dict[str, Any]:
    """Return what stands where, by instance, by GPU and by server; nothing without a placement."""
    if not placement:
        return {}
    size = cluster.server_size
    on_gpu: list[list[str]] = [[] for _ in uses]
    in_server: dict[int, dict[str, None]] = {server: {} for server in range(-(-cluster.gpus // size))}
    instances = []
    for position, gpu in placement:
        model = workload.models[position]
        gang = list(range(gpu, gpu + model.gpus_required))
        instances.append({"model": model.id, "gpu_ids": gang})
        for member in gang:
            on_gpu[member].append(model.id)
            in_server[member // size][model.id] = None
    return {
        "placement": instances,
        "gpu_assignments": {
            str(use.gpu): {
                "server_id": use.gpu // size,
                "assigned_models": on_gpu[use.gpu],
                "utilization": use.utilization_percent,
            }
            for use in uses
        },
        "server_assignments": {
            str(server): {
                "gpu_ids": list(range(server * size, min((server + 1) * size, cluster.gpus))),
                "models": list(models),
            }
            for server, models in in_server.items()
        },
    }
