"""The figures of a sweep, and the lines of their tables: what the terminal and pages show alike."""

from collections.abc import Iterator, Mapping, Sequence
from operator import methodcaller
from typing import NamedTuple

from gsched.sweep.intervals import Figure, Interval, Run, speedups
from gsched.table import decimals


class SweepFigure(NamedTuple):
    """A figure of runs.

    Args:
        title: what it is.
        figure: its value.
        axis: what it is on a chart's axis.
        digits: decimals; None for as few as tell its largest mean.
        unit: behind the number.
        better: -1 where less is better, 1 where more is.
        ratio: whether 1 is what it is compared with, not 0.
    """

    title: str
    figure: Figure
    axis: str
    digits: int | None = None
    unit: str = ""
    better: int = -1
    ratio: bool = False


def sweep_figures(runs: Sequence[Run], mode: str) -> list[SweepFigure]:
    """Return the figures that matter in a mode; by the first a policy is judged, the last tells least."""
    makespan = SweepFigure("Makespan, s", methodcaller("get", "makespan"), "seconds")
    gap = SweepFigure(
        "Gap of the makespan to the proven bound", methodcaller("get", "gap_percent"), "%, at most", 1, "%"
    )
    switches = SweepFigure("Model switches", methodcaller("get", "total_model_switches"), "switches", 0)
    p99 = SweepFigure("P99 of the request times, s", methodcaller("get", "p99_request_time"), "seconds")
    slo = SweepFigure(
        "SLO attainment", methodcaller("get", "slo_attainment_percent"), "% of the deadlines met", 1, "%", 1
    )
    if mode == "online":
        return [p99, slo, gap, switches]
    ratio = speedups(runs)
    over = SweepFigure(
        "Speed-up over baseline",
        lambda run: None if run["policy"] == "baseline" else ratio(run),
        "times as fast",
        2,
        "×",
        1,
        ratio=True,
    )
    return [makespan, gap, over, switches, p99]


class Cell(NamedTuple):
    """A mean over seeds in a table.

    Args:
        mean: with its unit.
        half: half of its interval; empty where there is one run.
        few: how many runs there are, if fewer than others of the line have; else empty.
        best: whether it is the best of a line of several policies; one with fewer runs than others cannot be.
    """

    mean: str
    half: str = ""
    few: str = ""
    best: bool = False


class Row(NamedTuple):
    """A line of a table: a cluster size or load, and a cell for each policy; None where it has no valid run."""

    at: float
    cells: Sequence[Cell | None]


def figure_rows(shown: SweepFigure, policies: Mapping[str, Mapping[float, Interval]]) -> Iterator[Row]:
    """Yield the lines of a figure's table, ascending.

    Args:
        shown: the figure.
        policies: its intervals by policy and by cluster size or load.
    """
    found = [interval for points in policies.values() for interval in points.values()]
    digits = decimals(interval.mean for interval in found) if shown.digits is None else shown.digits
    for at in sorted({at for points in policies.values() for at in points}):
        line = [points.get(at) for points in policies.values()]
        most = max(interval.n for interval in line if interval)
        ranks = [
            round(interval.mean, digits) * shown.better if interval and interval.n == most else None
            for interval in line
        ]
        best = max(rank for rank in ranks if rank is not None)
        yield Row(
            at,
            [
                interval
                and cell_of(interval, shown.unit, digits, most)._replace(best=rank == best and len(policies) > 1)
                for interval, rank in zip(line, ranks, strict=True)
            ],
        )


def cell_of(interval: Interval, unit: str, digits: int, most: int = 0) -> Cell:
    """Return an interval in so many decimals, beside others of at most so many runs."""
    half = f"{interval.high - interval.mean:,.{digits}f}" if interval.n > 1 else ""
    few = f"{interval.n} run{'s' if interval.n > 1 else ''}" if interval.n < most else ""
    return Cell(f"{interval.mean:,.{digits}f}{unit}", half, few)
