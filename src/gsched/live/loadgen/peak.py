"""The highest load at which every class still keeps its SLO."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gsched.live.loadgen.plans import MOST_QPS, Load, class_plans
from gsched.live.loadgen.run import ClassRun, run_load

PRECISION = 0.05  # of the load, to which the search goes


@dataclass(frozen=True, slots=True)
class Trial:
    """A load that was tried.

    Args:
        qps: the load.
        kept: whether every class kept its SLO and every request had its record.
        worst: the lowest attainment of a class, 0 to 1.
        worst_class: that class.
        runs: what came of the classes.
    """

    qps: float
    kept: bool
    worst: float
    worst_class: str
    runs: Sequence[ClassRun]


def find_peak(
    load: Load, attainment: float, tried: Callable[[Trial], None], run: Callable[..., list[ClassRun]] = run_load
) -> float:
    """Return the highest load, in requests/s, that was tried and kept; 0 where none was.

    Doubles the load until a class misses, or halves it until none does, then bisects.

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

    low, high = 0.0, load.qps
    while high <= MOST_QPS and keeps(high):
        low, high = high, 2 * high
    while low == 0.0 and high > load.qps / 64:
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
    kept = worst.attainment >= attainment and not any(list(run.complaints()) for run in runs)
    return Trial(load.qps, kept, worst.attainment, worst.plan.name, runs)
