"""The highest load at which every class still keeps its SLO."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gsched.live.loadgen.plans import MOST_QPS, MOST_REQUESTS, SMALLEST_RATE, Load, class_plans
from gsched.live.loadgen.run import ClassRun, complaints, run_load
from gsched.live.loadgen.workload_config import WORKLOAD_DISTRIBUTIONS

PRECISION = 0.05  # of the load, to which the search goes


@dataclass(frozen=True, slots=True)
class Trial:
    """A load that was tried.

    Args:
        qps: the load.
        kept: whether every class kept its SLO, and the trial is usable as a measurement.
        worst: the lowest attainment of a class, 0 to 1.
        worst_class: that class.
        runs: what came of the classes.
        problems: why the trial is not usable.
    """

    qps: float
    kept: bool
    worst: float
    worst_class: str
    runs: Sequence[ClassRun]
    problems: Sequence[str]


def find_peak(
    load: Load, attainment: float, tried: Callable[[Trial], None], run: Callable[..., list[ClassRun]] = run_load
) -> float:
    """Return the highest load, in requests/s, that was tried and kept; 0 where none was.

    Doubles the load until a class misses, or halves it until none does, then bisects. Every trial loads all classes.

    Args:
        load: the first load to try; its pattern and duration are those of every trial.
        attainment: share of requests, 0 to 1, that must meet their SLO in every class.
        tried: called after each trial.
        run: runs the plans of a trial.
    """

    def keeps(qps: float) -> bool:
        trial = _trial(replace(load, qps=qps), attainment, run)
        tried(trial)
        return trial.kept

    most = min(MOST_QPS, 0.99 * load.qps * MOST_REQUESTS / load.requests)
    fewest = max(load.qps / 64, SMALLEST_RATE / min(WORKLOAD_DISTRIBUTIONS[load.workload].values()))
    low, high = 0.0, load.qps
    while keeps(high):
        if high >= most:
            return high
        low, high = high, min(2 * high, most)
    while low == 0 and high / 2 >= fewest:
        if keeps(high / 2):
            low = high / 2
        else:
            high /= 2
    while low > 0 and high - low > PRECISION * high:
        middle = (low + high) / 2
        if keeps(middle):
            low = middle
        else:
            high = middle
    return low


def _trial(load: Load, attainment: float, run: Callable[..., list[ClassRun]]) -> Trial:
    runs = run(class_plans(load))
    worst = min(runs, key=lambda run: run.attainment)
    problems = complaints(runs)
    kept = worst.attainment >= attainment and not problems
    return Trial(load.qps, kept, worst.attainment, worst.plan.name, runs, problems)
