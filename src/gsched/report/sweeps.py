"""A sweep for the terminal: tables by cluster size, and what a suite's document claims beside what is so."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from gsched.errors import one_line
from gsched.report.sweep_figures import Cell, SweepFigure, cell_of, figure_rows, sweep_figures
from gsched.sweep.intervals import Interval, Run, curves, interval, speedups
from gsched.sweep.results import Results
from gsched.table import plain_table

if TYPE_CHECKING:
    from rich.table import Table


def sweep_tables(results: Results) -> Iterator[tuple[str, "Table"]]:
    """Yield a table, with its title, for each workload, load and figure: lines are cluster sizes, columns policies.

    Cells are means over the seeds, with half of their 95% interval where there are several; the best of a line is bold.
    """
    shown = sweep_figures(results.runs, results.about["mode"])[:-1]  # the last tells least
    found = [(figure, curves(results.runs, figure.figure, apart=("workload", "load"))) for figure in shown]
    places = dict.fromkeys(place for _, groups in found for place in groups)
    order = list(results.about["policies"])
    several_loads = len({load for _, load in places}) > 1
    for workload, load in places:
        where = f"{workload}, load {load:g}" if several_loads else workload
        for figure, groups in found:
            group = groups.get((workload, load), {})
            if group:
                yield f"{where}: {figure.title}", _table(figure, {name: group[name] for name in order if name in group})


def _table(shown: SweepFigure, policies: Mapping[str, Mapping[float, Interval]]) -> "Table":
    from rich.text import Text

    table = plain_table()
    table.add_column("GPUs", justify="right", no_wrap=True)
    for policy in policies:
        table.add_column(Text(one_line(policy)), justify="right", no_wrap=True)
    for gpus, cells in figure_rows(shown, policies):
        table.add_row(f"{gpus:g}", *(Text(_cell(cell), "bold" if cell and cell.best else "") for cell in cells))
    return table


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    return cell.mean + (f" ±{cell.half}" if cell.half else "") + (f" ({cell.few})" if cell.few else "")


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


_RANGE = {4, 30}  # the smallest and the largest cluster of which the document speaks
_CLAIMS = (
    _Claim("simple", "average speed-up", 1.13),
    _Claim("simple", "best speed-up, on 6 GPUs", 1.83, 6),
    _Claim("simple", "model switches", 3, speedup=False),
    _Claim("complex", "average speed-up", 1.06),
    _Claim("complex", "model switches", 12, speedup=False),
)


def claims_table(results: Results) -> "Table":
    """Return what is claimed of `offline` beside its figures, and what no schedule that loads its models can exceed."""
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
    shown = _cell(cell_of(measured, unit, digits))
    if claim.gpus is None and not {run["gpus"] for run in mine} >= _RANGE:
        return f"{claim.claimed:g}{unit}", shown, "-", "not judged"
    if not claim.speedup:
        return f"{claim.claimed:g}", shown, "-", "yes" if measured.mean <= claim.claimed else "no, it takes more"
    limits = _by_seed(mine, "baseline", lambda run: run["makespan"] / run["lower_bound"])
    verdict = "yes" if measured.mean >= claim.claimed else "no, it is less"
    if max(limits) < claim.claimed:
        verdict = "impossible"
    return f"{claim.claimed:g}{unit}", shown, f"{max(limits):.2f}{unit}", verdict


def _by_seed(runs: Sequence[Run], policy: str, figure: Callable[[Any], float | None]) -> list[float]:
    """Return the mean of a figure over the cluster sizes, for each seed."""
    values: dict[int, list[float]] = {}
    for run in runs:
        if run["policy"] == policy and run["valid"] and (value := figure(run)) is not None:
            values.setdefault(run["seed"], []).append(value)
    return [sum(those) / len(those) for those in values.values()]
