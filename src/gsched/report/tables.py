"""Tables for the terminal; plain text when piped."""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gsched.comparison import Outcome
from gsched.table import decimals, plain_table

if TYPE_CHECKING:
    from rich.table import Table


class Column(NamedTuple):
    """A figure of policies side by side.

    Args:
        title: in few characters.
        figure: its name in a summary.
        meaning: what it is, in words.
        digits: decimals; None for as few as tell its largest value.
        unit: behind the number.
        better: -1 where less is better, 1 where more is, 0 where neither.
    """

    title: str
    figure: str
    meaning: str
    digits: int | None = None
    unit: str = ""
    better: int = -1


_COLUMNS = (
    Column("makespan", "makespan", "seconds until everything is done"),
    Column("gap", "gap_percent", "how far the makespan is above a proven lower bound, at most", 1, "%"),
    Column("mean", "average_request_time", "seconds from arrival to completion, on average"),
    Column("p50", "median_request_time", "seconds from arrival to completion, of half of the requests at most"),
    Column("p99", "p99_request_time", "seconds from arrival to completion, of 99% of the requests at most"),
    Column("switches", "total_model_switches", "starts that replaced what a GPU held", 0),
    Column("ovhd", "switch_overhead_percent", "seconds of switching per second of makespan, over all GPUs", 0, "%"),
    # Loading counts as use, so more is not always better.
    Column("util", "average_utilization", "share of the time in which GPUs load or execute", 0, "%", 0),
)
_DEADLINES = (
    Column("SLO", "slo_attainment_percent", "share of deadlines that were met", 1, "%", 1),
    Column("good/s", "goodput", "requests done in time, per second of makespan", 3, "", 1),
)
_WALL = Column("wall", "wall_seconds", "seconds of planning and simulating, by the clock on the wall")


def comparison_columns(outcomes: Sequence[Outcome], *, without: Collection[str] = ()) -> list[Column]:
    """Return the columns of a comparison, those of deadlines only where a summary speaks of them.

    Args:
        outcomes: what is compared.
        without: titles of columns to leave out.
    """
    deadlines = _DEADLINES if any("goodput" in outcome.summary for outcome in outcomes) else ()
    return [column for column in (*_COLUMNS, *deadlines, _WALL) if column.title not in without]


def comparison_table(outcomes: Sequence[Outcome], *, without: Collection[str] = ()) -> "Table":
    """Return a table with a line for each policy that ran and, in bold, the best valid value of each column.

    Args:
        outcomes: of several policies on one workload.
        without: titles of columns to leave out.
    """
    from rich.text import Text

    ran = [outcome for outcome in outcomes if not outcome.problem]
    columns = comparison_columns(ran, without=without)
    table = plain_table()
    table.add_column("policy", no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    table.add_column("valid", justify="right", no_wrap=True)
    cells = [comparison_cells(column, ran) for column in columns]
    for row, outcome in enumerate(ran):
        figures = [Text(text, "bold" if best else "") for text, best in (column[row] for column in cells)]
        verdict = Text("yes") if outcome.valid else Text("NO", "bold red")
        table.add_row(Text(outcome.policy), *figures, verdict)
    return table


def comparison_cells(
    column: Column, outcomes: Sequence[Outcome], *, competing: Sequence[bool] | None = None
) -> list[tuple[str, bool]]:
    """Return for each outcome the text of its cell and whether it is the best of several that compete.

    Args:
        column: what is compared.
        outcomes: the policies.
        competing: which of them may be the best; by default those that are valid.
    """
    ranks = [outcome.valid for outcome in outcomes] if competing is None else competing
    values = [_value(column, outcome) for outcome in outcomes]
    digits = decimals(values) if column.digits is None else column.digits
    texts = ["-" if value is None else f"{value:,.{digits}f}{column.unit}" for value in values]
    ranked = [
        (value * column.better, text)
        for value, text, may in zip(values, texts, ranks, strict=True)
        if value is not None and may and column.better
    ]
    best = max(ranked)[1] if len(ranked) > 1 else None
    return [(text, text == best and may) for text, may in zip(texts, ranks, strict=True)]


def _value(column: Column, outcome: Outcome) -> float | None:
    return outcome.seconds if column.figure == "wall_seconds" else outcome.summary.get(column.figure)


def comparison_notes(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield what the table does not say: what was placed before time 0, which rules are broken, who could not run."""
    for outcome in outcomes:
        if (deployment := outcome.summary.get("deployment_time_seconds")) is not None:
            bound = outcome.summary["lower_bound"]
            placed = f"its models are in place before time 0 (loading them takes {deployment:,.0f} s, not counted)"
            yield f"{outcome.policy}: {placed}, so its bound is {bound:,.0f} s"
        for violation in outcome.violations:
            yield f"{outcome.policy}: NOT valid, {violation}"
        if outcome.problem:
            yield f"{outcome.policy} did not run: {outcome.problem}"
