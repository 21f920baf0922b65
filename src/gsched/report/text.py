"""A run as text: the log of events line by line, and the metrics."""

import heapq
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from itertools import islice
from typing import Any, ParamSpec

import numpy as np

from gsched.errors import one_line
from gsched.log import Log
from gsched.metrics import gpu_use, model_executions
from gsched.workload import Workload

_RULE = "=" * 60
SHOWN_GPUS = 32
SHOWN_INCIDENTS = 5
P = ParamSpec("P")


def _printable(lines: Callable[P, Iterator[str]]) -> Callable[P, Iterator[str]]:
    """Return the function with what it yields made printable, as names may hold anything."""

    @wraps(lines)
    def printable(*args: P.args, **kwargs: P.kwargs) -> Iterator[str]:
        return map(one_line, lines(*args, **kwargs))

    return printable


@_printable
def log_lines(log: Log, workload: Workload, *, events: bool) -> Iterator[str]:
    """Yield the lines of the text log: a head, every event (or, for large runs, a note in their place), the metrics."""
    summary = log.summary
    yield f"Starting {summary['policy']} scheduler with {summary['total_requests']} requests"
    yield f"Mode: {summary['mode']}, Simulate: {str(summary['simulate']).lower()}"
    if summary["policy_options"]:
        yield "Options: " + ", ".join(f"{name}={value}" for name, value in summary["policy_options"].items())
    yield f"Available GPUs: {summary['gpus']}"
    yield from _placement(log)
    yield "Running models..." if summary["simulate"] else "Starting discrete event simulation..."
    if events:
        yield from _event_lines(log, workload)
    else:
        yield f"({len(log)} nodes: their events are in the execution log only)"
    what = "Run" if summary["simulate"] else "Simulation"
    how = "stopped before its end, the last node ended" if summary.get("partial") else "completed"
    yield f"{what} {how} at time {summary['makespan']:.2f}s"
    yield ""
    yield from metrics_lines(log, shown_gpus=len(summary["gpus"]), shown_incidents=None)


def _placement(log: Log) -> Iterator[str]:
    """Yield what stands where before time 0; nothing without a static placement."""
    if "placement" not in log.extra:
        return
    yield "Model-to-GPU assignments:"
    for gpu, part in log.extra["gpu_assignments"].items():
        yield f"  GPU {gpu} (Server {part['server_id']}): {', '.join(part['assigned_models']) or 'none'}"
    yield "Server configurations:"
    for server, part in log.extra["server_assignments"].items():
        first, last = part["gpu_ids"][0], part["gpu_ids"][-1]
        gpus = f"GPU {first}" if first == last else f"GPUs {first}-{last}"
        yield f"  Server {server} ({gpus}): {', '.join(part['models']) or 'none'}"


def _event_lines(log: Log, workload: Workload) -> Iterator[str]:
    """Yield a line for every arrival, load, start, completion and finished request, in the order of time."""
    arrival = workload.arrival(log.summary["mode"])
    arrivals = np.argsort(arrival, kind="stable").tolist()
    names = (log.request_id.texts(), log.node_id.texts(), log.model_name.texts())
    gangs = _gang_texts(log)
    decided = log.start_time - _column(log.switch_time)
    latest = (decided + np.spacing(log.start_time)).tolist()  # at which it was decided, as the difference is rounded
    starts, ends, switches = log.start_time.tolist(), log.end_time.tolist(), _column(log.switch_time).tolist()
    remaining = np.diff(workload.first_node).tolist()
    running: list[tuple[float, int]] = []

    def until(time: float) -> Iterator[str]:
        while running and running[0][0] <= time:
            end, row = heapq.heappop(running)
            yield f"[{end:.2f}s] Completed node {names[1][row]} of request {names[0][row]} on GPU(s) {gangs[row]}"
            request = log.request_id.codes[row]
            remaining[request] -= 1
            if remaining[request] == 0:
                yield f"[{end:.2f}s] Request {names[0][row]} completed"

    arrived = 0
    for row, time in enumerate(decided.tolist()):
        while arrived < len(arrivals) and arrival[arrivals[arrived]] <= latest[row]:
            request = arrivals[arrived]
            yield from until(arrival[request])
            flow = workload.workflows[workload.workflow[request]].id
            yield f"[{arrival[request]:.2f}s] Processing request {workload.request_ids[request]} (workflow: {flow})"
            arrived += 1
        yield from until(latest[row])
        if switches[row]:
            loading = f"Loading model {names[2][row]} on GPU(s) {gangs[row]} (switch time: {switches[row]:.2f}s)"
            yield f"[{time:.2f}s] {loading}"
        what = f"Scheduled node {names[1][row]} of request {names[0][row]} on GPU(s) {gangs[row]}"
        yield f"[{time:.2f}s] {what} (start: {starts[row]:.2f}s, end: {ends[row]:.2f}s)"
        heapq.heappush(running, (ends[row], row))
    yield from until(np.inf)


def _gang_texts(log: Log) -> list[str]:
    if log.gpu_ids is None:
        return [f"[{gpu}]" for gpu in log.gpu_id.tolist()]
    first, gpus = log.gpu_ids.first.tolist(), log.gpu_ids.gpus.tolist()
    return [str(gpus[a:b]) for a, b in zip(first, islice(first, 1, None), strict=False)]


def _column(values: Any) -> Any:
    return np.zeros(1) if values is None else values


@_printable
def metrics_lines(
    log: Log, *, shown_gpus: int = SHOWN_GPUS, shown_incidents: int | None = SHOWN_INCIDENTS
) -> Iterator[str]:
    """Yield the metrics of a run; of the GPUs, the first `shown_gpus`, of what went wrong, the first or all."""
    s = log.summary
    yield from (_RULE, "EXECUTION METRICS", _RULE)
    yield f"Total execution time (makespan): {s['makespan']:.2f} seconds"
    if s["lower_bound"] is not None:
        yield f"Proven lower bound: {s['lower_bound']:.2f} seconds ({s['lower_bound_name']}), {_gap(s['gap_percent'])}"
    yield f"Total requests processed: {s['completed_requests']}"
    yield f"Total nodes executed: {s['total_nodes_executed']}"
    yield f"Dependency levels: {s['dependency_levels']}"
    yield f"Average throughput: {_rate(s['throughput'], 'nodes')}"
    yield f"Simulation mode: {'models were called' if s['simulate'] else 'no models were called'}"
    if s.get("partial"):
        yield f"Stopped before its end: {s['total_requests'] - s['completed_requests']} requests are not complete"
    yield ""
    yield from _incidents(log, shown_incidents)
    yield from _servers(s)
    yield "Request completion times:"
    yield from _times(s, "request")
    bound, name = s["mean_latency_lower_bound"], s["mean_latency_lower_bound_name"]
    if bound is not None:
        yield f"  Proven lower bound of the average: {bound:.2f}s ({name}), {_gap(s['mean_latency_gap_percent'])}"
    yield ""
    yield from _deadlines(s)
    yield "Waiting times of nodes:"
    yield from _times(s, "waiting")
    yield ""
    yield "GPU utilization:"
    yield from _gpus(log, shown_gpus)
    yield ""
    yield "Overall GPU statistics:"
    yield f"  Average utilization: {s['average_utilization']:.1f}%"
    yield f"  Utilization variance: {s['utilization_variance']:.1f}"
    yield ""
    yield "Model execution counts:"
    yield from (f"  {model}: {count} executions" for model, count in model_executions(log).items())
    yield ""
    yield "Model switching:"
    yield f"  Total switches: {s['total_model_switches']}"
    yield f"  Total loads: {s['total_model_loads']}"
    yield f"  Total switch time: {s['total_switch_time']:.2f} seconds"
    yield f"  Switch overhead: {s['switch_overhead_percent']:.1f}%"


def _incidents(log: Log, shown: int | None) -> Iterator[str]:
    """Yield what went wrong: requests that were given up, and GPUs that were not to be had; nothing if all was well."""
    parts = (("Failed requests", "failures", _failure), ("Interruptions of GPUs", "interruptions", _interruption))
    for title, part, line in parts:
        incidents = log.extra.get(part, ())
        if not incidents:
            continue
        yield f"{title}: {len(incidents)}"
        yield from (f"  {line(incident)}" for incident in incidents[:shown])
        if shown is not None and len(incidents) > shown:
            yield f"  … and {len(incidents) - shown} more (the .log file has them all)"
        yield ""


def _failure(one: Mapping[str, Any]) -> str:
    node = f"node {one['node_id']} ({one['model_name']})"
    return f"Request {one['request_id']}, {node}, attempts: {one['attempts']}: {one['reason']}"


def _interruption(one: Mapping[str, Any]) -> str:
    end = "the end" if one["end_time"] is None else f"{one['end_time']:.2f}s"
    return f"GPU(s) {one['gpu_ids']} from {one['start_time']:.2f}s to {end}: {one['reason']}"


def _servers(s: Any) -> Iterator[str]:
    """Yield how far requests stayed inside a server, and what a static placement took to load, where there are such."""
    if "server_efficiency" not in s and "deployment_time_seconds" not in s:
        return
    yield "Static deployment metrics:" if "deployment_time_seconds" in s else "Servers:"
    if "server_efficiency" in s:
        yield f"  Server efficiency: {_percent(s['server_efficiency'])}"
        yield f"  Intra-server workflows: {s['intra_server_workflows']}"
        yield f"  Inter-server workflows: {s['inter_server_workflows']}"
        yield f"  Cross-server communications: {s['cross_server_communications']}"
    if "deployment_time_seconds" in s:
        yield f"  Deployment time: {s['deployment_time_seconds']:.2f} seconds, before time 0"
    yield ""


def _deadlines(s: Any) -> Iterator[str]:
    """Yield how well deadlines were met, in all and by tier, where there are deadlines or tiers."""
    if "tiers" not in s:
        return
    yield "Deadlines and tiers:"
    if "goodput" in s:
        yield f"  SLO attainment: {_percent(s['slo_attainment_percent'])} of the requests with a deadline"
        yield f"  Goodput: {_rate(s['goodput'], 'requests')} done in time"
    yield "  Tier   Requests   With deadline   Attained     Goodput/s       Average           P99"
    for tier, t in s["tiers"].items():
        counts = f"  {tier:>4} {t['requests']:>10} {t['with_deadline']:>15} {_percent(t['slo_attainment_percent']):>10}"
        goodput = "-" if t["goodput"] is None else f"{t['goodput']:.3f}"
        yield f"{counts} {goodput:>13} {t['average_request_time']:>12.2f}s {t['p99_request_time']:>12.2f}s"
    yield ""


def _gpus(log: Log, shown: int) -> Iterator[str]:
    """Yield what each GPU did, of the first `shown` GPUs."""
    s, placed, cluster = log.summary, log.extra.get("gpu_assignments"), log.cluster
    server_size = cluster.server_size if cluster and ("server_efficiency" in s or placed) else 0
    for use in gpu_use(log, s["gpus"][:shown]):
        server = f" (Server {use.gpu // server_size})" if server_size else ""
        busy = f"{use.busy_time:.2f}s busy time ({use.utilization_percent:.1f}% utilization)"
        held = f", Models: {{{_quoted(placed[str(use.gpu)]['assigned_models'])}}}" if placed else ""
        yield f"  GPU {use.gpu}{server}: {use.executions} executions, {busy}{held}"
    if len(s["gpus"]) > shown:
        yield f"  … and {len(s['gpus']) - shown} more GPUs (the .log file has them all)"


def _times(summary: Any, name: str) -> Iterator[str]:
    labels = {"Average": "average", "Median": "median", "P90": "p90", "P99": "p99", "Min": "min", "Max": "max"}
    return (f"  {label}: {summary[f'{figure}_{name}_time']:.2f}s" for label, figure in labels.items())


def _quoted(models: list[str]) -> str:
    return ", ".join(map(repr, models))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}%"


def _rate(value: float | None, what: str) -> str:
    return "-" if value is None else f"{value:.3f} {what}/second"


def _gap(percent: float | None) -> str:
    return "no gap can be stated" if percent is None else f"gap {percent:.2f}%"
