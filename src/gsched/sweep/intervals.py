"""Means over seeds, and how far they can be trusted."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

# Student's t for 95% on both sides, by degrees of freedom from 1 (any textbook's table).
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL95 = 1.960

Run = Mapping[str, Any]
"""A run of a sweep: its configuration and its figures, by column (docs/formats.md)."""


class Interval(NamedTuple):
    """The mean of n values and its 95% confidence interval; of a single value, `low` and `high` are that value."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of some values with Student's confidence interval; there must be at least one.

    The interval holds for values that are independent and nearly normal, as those of different seeds are.
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Interval(mean, mean, mean, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = _t95(count - 1) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def _t95(freedom: int) -> float:
    """Return Student's t; beyond the table by its expansion in 1 / freedom, right to a thousandth."""
    return _T95[freedom - 1] if freedom <= len(_T95) else _NORMAL95 + 2.372 / freedom + 2.82 / freedom**2


Figure = Callable[[Run], float | None]
"""What is shown of a run; None where it has no such figure."""


def curves(
    runs: Iterable[Run], figure: Figure, over: str = "gpus", *, apart: Sequence[str] = ("workload",)
) -> dict[tuple[Any, ...], dict[str, dict[float, Interval]]]:
    """Return a figure over `gpus` or `load`, as an interval over the seeds, by policy.

    Args:
        runs: those without a schedule, or with one that breaks a rule, are left out.
        figure: what is shown.
        over: the column that varies along a curve.
        apart: columns whose values must not be mixed: a group of curves for each combination.

    Returns:
        Groups by their values of `apart`, in each the curves by policy, of each the intervals by `over`, ascending.
    """
    found: dict[tuple[Any, ...], dict[str, dict[float, list[float]]]] = {}
    for run in runs:
        value = figure(run) if run["valid"] else None
        if value is not None:
            group = found.setdefault(tuple(run[column] for column in apart), {})
            group.setdefault(run["policy"], {}).setdefault(run[over], []).append(value)
    return {
        key: {policy: {x: interval(values) for x, values in sorted(points.items())} for policy, points in group.items()}
        for key, group in found.items()
    }


def speedups(runs: Sequence[Run], baseline: str = "baseline") -> Figure:
    """Return a figure: how many times shorter a run's makespan is than the baseline's in the same circumstances.

    It compares run by run, so that what a seed draws for both does not blur the mean. None where the baseline has no
    valid run.
    """
    makespans = {_circumstances(run): run["makespan"] for run in runs if run["policy"] == baseline and run["valid"]}

    def speedup(run: Run) -> float | None:
        reference = makespans.get(_circumstances(run))
        return reference / run["makespan"] if reference and run["makespan"] else None

    return speedup


def _circumstances(run: Run) -> tuple[Any, ...]:
    return tuple(run[column] for column in ("workload", "mode", "gpus", "load", "seed"))
