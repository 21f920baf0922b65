"""A run as text: the log of events line by line, and the metrics."""

import heapq
from collections.abc import Callable, Iterator
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
    yield f"Available GPUs: {summary['gpus']}"
    yield "Starting discrete event simulation..."
    if events:
        yield from _event_lines(log, workload)
    else:
        yield f"({len(log)} nodes: their events are in the execution log only)"
    yield f"Simulation completed at time {summary['makespan']:.2f}s"
    yield ""
    yield from metrics_lines(log, shown_gpus=len(summary["gpus"]))


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
def metrics_lines(log: Log, *, shown_gpus: int = SHOWN_GPUS) -> Iterator[str]:
    """Yield the metrics of a run; of the GPUs, the first `shown_gpus`."""
    s = log.summary
    yield from (_RULE, "EXECUTION METRICS", _RULE)
    yield f"Total execution time (makespan): {s['makespan']:.2f} seconds"
    yield f"Proven lower bound: {s['lower_bound']:.2f} seconds ({s['lower_bound_name']}), {_gap(s['gap_percent'])}"
    yield f"Total requests processed: {s['completed_requests']}"
    yield f"Total nodes executed: {s['total_nodes_executed']}"
    yield f"Simulation mode: {'models were called' if s['simulate'] else 'no models were called'}"
    yield ""
    yield "Request completion times:"
    yield from _times(s, "request")
    bound = s["mean_latency_lower_bound"]
    name = s["mean_latency_lower_bound_name"]
    yield f"  Proven lower bound of the average: {bound:.2f}s ({name}), {_gap(s['mean_latency_gap_percent'])}"
    yield ""
    yield "Waiting times of nodes:"
    yield from _times(s, "waiting")
    yield ""
    yield "GPU utilization:"
    uses = gpu_use(log, s["gpus"])
    for use in uses[:shown_gpus]:
        busy = f"{use.busy_time:.2f}s busy time ({use.utilization_percent:.1f}% utilization)"
        yield f"  GPU {use.gpu}: {use.executions} executions, {busy}"
    if len(uses) > shown_gpus:
        yield f"  … and {len(uses) - shown_gpus} more GPUs (the .log file has them all)"
    shares = np.array([use.utilization_percent for use in uses])
    yield f"  Average utilization: {shares.mean():.1f}%"
    yield f"  Utilization variance: {shares.var():.1f}"
    yield ""
    yield "Model execution counts:"
    yield from (f"  {model}: {count} executions" for model, count in model_executions(log).items())
    yield ""
    yield "Model switching:"
    yield f"  Total switches: {s['total_model_switches']}"
    yield f"  Total loads: {s['total_model_loads']}"
    yield f"  Total switch time: {s['total_switch_time']:.2f} seconds"
    yield f"  Switch overhead: {s['total_switch_time'] / (s['makespan'] or 1.0) * 100:.1f}%"


def _times(summary: Any, name: str) -> Iterator[str]:
    labels = {"Average": "average", "Median": "median", "P90": "p90", "P99": "p99", "Min": "min", "Max": "max"}
    return (f"  {label}: {summary[f'{figure}_{name}_time']:.2f}s" for label, figure in labels.items())


def _gap(percent: float | None) -> str:
    return "no gap can be stated" if percent is None else f"gap {percent:.2f}%"
