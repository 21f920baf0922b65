"""A sweep for the terminal: tables by cluster size, and what a suite's document claims beside what is so."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter, methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple

from gsched.sweep.intervals import Figure, Interval, Run, curves, interval, speedups
from gsched.sweep.results import Results
from gsched.table import plain_table

if TYPE_CHECKING:
    from rich.table import Table


class _Shown(NamedTuple):
    """A figure of the tables: title, its value, decimals, unit, and what is better, -1 or 1."""

    title: str
    figure: Figure
    digits: int
    unit: str = ""
    better: int = -1


_MAKESPAN = _Shown("Makespan, s", methodcaller("get", "makespan"), 0)
_GAP = _Shown("Gap of the makespan to the proven bound", methodcaller("get", "gap_percent"), 1, "%")
_SWITCHES = _Shown("Model switches", methodcaller("get", "total_model_switches"), 0)
_P99 = _Shown("P99 of the request times, s", methodcaller("get", "p99_request_time"), 0)
_SLO = _Shown("SLO attainment", methodcaller("get", "slo_attainment_percent"), 1, "%", 1)


def sweep_tables(results: Results) -> Iterator[tuple[str, "Table"]]:
    """Yield a table, with its title, for each workload, load and figure: lines are cluster sizes, columns policies.

    Cells are means over the seeds, with half of their 95% interval where there are several; the best of a line is bold.
    """
    speedup = _Shown("Speed-up over baseline", speedups(results.runs), 2, "×", 1)
    shown = (_P99, _SLO, _GAP) if results.about["mode"] == "online" else (_MAKESPAN, _GAP, speedup, _SWITCHES)
    found = [(figure, curves(results.runs, figure.figure, apart=("workload", "load"))) for figure in shown]
    places = dict.fromkeys(place for _, groups in found for place in groups)
    order = list(results.about["policies"])
    several_loads = len({load for _, load in places}) > 1
    for workload, load in places:
        where = f"{workload}, load {load:g}" if several_loads else workload
        for figure, groups in found:
            group = groups.get((workload, load), {})
            shown_policies = [
                name for name in order if name in group and not (figure is speedup and name == "baseline")
            ]
            if shown_policies:
                yield f"{where}: {figure.title}", _table(figure, {name: group[name] for name in shown_policies})


def _table(shown: _Shown, policies: Mapping[str, Mapping[float, Interval]]) -> "Table":
    from rich.text import Text

    table = plain_table()
    table.add_column("GPUs", justify="right", no_wrap=True)
    for policy in policies:
        table.add_column(policy, justify="right", no_wrap=True)
    for gpus in sorted({gpus for points in policies.values() for gpus in points}):
        cells = [points.get(gpus) for points in policies.values()]
        best = max((round(cell.mean, shown.digits) * shown.better for cell in cells if cell), default=None)
        texts = [
            Text(_cell(cell, shown), "bold" if cell and round(cell.mean, shown.digits) * shown.better == best else "")
            for cell in cells
        ]
        table.add_row(f"{gpus:g}", *texts)
    return table


def _cell(cell: Interval | None, shown: _Shown) -> str:
    if cell is None:
        return "-"
    half = f" ±{cell.high - cell.mean:,.{shown.digits}f}" if cell.n > 1 else ""
    return f"{cell.mean:,.{shown.digits}f}{shown.unit}{half}"


@dataclass(frozen=True)
class _Claim:
    """What the document of the offline scheduler says of a workload.

    Args:
        workload: of the suite.
        text: the claim, in words.
        claimed: the figure.
        gpus: the cluster size that it is about; None where it is about all of the suite's.
        speedup: whether it is a speed-up over `baseline`, which bounds limit; else a number of model switches.
    """

    workload: str
    text: str
    claimed: float
    gpus: int | None = None
    speedup: bool = True


_CLAIMS = (
    _Claim("simple", "average speed-up", 1.13),
    _Claim("simple", "best speed-up, on 6 GPUs", 1.83, 6),
    _Claim("simple", "model switches", 3, speedup=False),
    _Claim("complex", "average speed-up", 1.06),
    _Claim("complex", "model switches", 12, speedup=False),
)


def claims_table(results: Results) -> "Table":
    """Return what is claimed of `offline` beside its figures, and what no schedule of the same requests can exceed."""
    table = plain_table()
    for title in ("workload", "claim for offline"):
        table.add_column(title, no_wrap=True)
    for title in ("claimed", "here", "at most"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for claim in _CLAIMS:
        table.add_row(claim.workload, claim.text, *_judged(claim, results.runs))
    return table


def _judged(claim: _Claim, runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the figures of a claim: what is claimed, what is so, what can be, and the verdict."""
    unit, digits = ("×", 2) if claim.speedup else ("", 0)
    mine = [run for run in runs if run["workload"] == claim.workload and claim.gpus in (None, run["gpus"])]
    figure = speedups(mine) if claim.speedup else itemgetter("total_model_switches")
    here = _by_seed(mine, "offline", figure)
    if not here:
        return f"{claim.claimed:g}{unit}", "-", "-", "not run"
    measured = interval(here)
    shown = _cell(measured, _Shown("", figure, digits, unit))
    if not claim.speedup:
        return f"{claim.claimed:g}", shown, "-", "yes" if measured.mean <= claim.claimed else "no, it takes more"
    limits = _by_seed(mine, "baseline", lambda run: run["makespan"] / run["lower_bound"])
    verdict = "yes" if measured.mean >= claim.claimed else "no, it is less"
    if max(limits) < claim.claimed:
        verdict = "impossible: no schedule is so much shorter than baseline's"
    return f"{claim.claimed:g}{unit}", shown, f"{max(limits):.2f}{unit}", verdict


def _by_seed(runs: Sequence[Run], policy: str, figure: Callable[[Any], float | None]) -> list[float]:
    """Return the mean of a figure over the cluster sizes, for each seed."""
    values: dict[int, list[float]] = {}
    for run in runs:
        if run["policy"] == policy and run["valid"] and (value := figure(run)) is not None:
            values.setdefault(run["seed"], []).append(value)
    return [sum(those) / len(those) for those in values.values()]
