"""Scenarios beside the run of today: a table with differences, and sentences."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gsched.report.tables import Column, comparison_cells, comparison_columns, comparison_notes
from gsched.scenarios import Scenario, Situation
from gsched.table import decimals, plain_table

if TYPE_CHECKING:
    from rich.table import Table

_LEFT_OUT = ("ovhd", "good/s", "wall")
_GPU_HOURS = Column("GPU-hours", "gpu_hours", "all GPUs from time 0 to the last end", 2)
_TOLD = (("makespan", "makespan"), ("P99", "p99_request_time"))


def scenario_columns(scenarios: Sequence[Scenario]) -> list[Column]:
    """Return the figures that are shown of scenarios."""
    return [*comparison_columns([known.outcome for known in scenarios], without=_LEFT_OUT), _GPU_HOURS]


def difference(column: Column, scenario: Scenario, today: Scenario) -> float | None:
    """Return by how many percent a figure differs from today's, or percentage points where it is a percentage.

    None where one of them is missing, or today's is 0 and the other is not.
    """
    now, other = (known.outcome.summary.get(column.figure) for known in (today, scenario))
    if now is None or other is None:
        return None
    if column.unit == "%":
        return float(other - now)
    if now == 0:
        return 0.0 if other == 0 else None
    return float(other / now - 1) * 100


def scenario_table(scenarios: Sequence[Scenario]) -> "Table":
    """Return a table with a line for each scenario that ran and, below each but the first, the differences to that.

    Args:
        scenarios: the first is today's.
    """
    from rich.text import Text

    ran = [known for known in scenarios if not known.outcome.problem]
    columns = scenario_columns(ran)
    table = plain_table()
    table.add_column("scenario", no_wrap=True)
    for title in ("GPUs", "requests", *(column.title for column in columns)):
        table.add_column(title, justify="right", no_wrap=True)
    cells = [[text for text, _ in comparison_cells(column, [known.outcome for known in ran])] for column in columns]
    for row, known in enumerate(ran):
        assert known.situation
        size = f"{known.situation.cluster.gpus:,}", f"{known.situation.workload.request_count:,}"
        table.add_row(Text(known.name), *size, *(column[row] for column in cells))
        if known is not scenarios[0]:
            table.add_row("", "", "", *(_signed(column, known, scenarios[0]) for column in columns), style="dim")
    return table


def _signed(column: Column, scenario: Scenario, today: Scenario) -> str:
    points = difference(column, scenario, today)
    return "-" if points is None else f"{points:+,.1f}{'pt' if column.unit == '%' else '%'}"


def scenario_notes(scenarios: Sequence[Scenario]) -> Iterator[str]:
    """Yield what each scenario changes and what that does, then what the table does not say."""
    today = scenarios[0]
    for known in scenarios[1:]:
        if known.situation and today.situation and not known.outcome.problem:
            changed = "; ".join(_changed(today.situation, known.situation)) or "nothing changes"
            yield f"{known.name}: {changed}; so {_effect(known, today)}."
    yield from comparison_notes([known.outcome for known in scenarios])


def _changed(now: Situation, other: Situation) -> Iterator[str]:
    """Yield in which respects two situations differ."""
    if other.cluster.gpus != now.cluster.gpus:
        yield f"{other.cluster.gpus:,} GPUs instead of {now.cluster.gpus:,}"
    before, after = now.workload.request_count, other.workload.request_count
    if after < before:
        yield f"{before - after:,} of {before:,} requests are gone"
    elif after > before:
        yield f"{after:,} requests instead of {before:,}"
    last, first = (float(known.workload.arrival(known.mode).max()) for known in (other, now))
    if last != first:
        digits = decimals([last, first])
        yield f"the last request arrives at {last:,.{digits}f} s instead of {first:,.{digits}f} s"
    if other.policy is not now.policy:
        yield f"{other.policy.name} instead of {now.policy.name}"


def _effect(scenario: Scenario, today: Scenario) -> str:
    texts = []
    for title, figure in _TOLD:
        after, before = (known.outcome.summary[figure] for known in (scenario, today))
        digits = decimals([after, before])
        texts.append(f"{title} {after:,.{digits}f} s instead of {before:,.{digits}f} s")
    return ", ".join(texts)
