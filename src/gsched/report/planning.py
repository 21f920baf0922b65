"""What a search for the smallest cluster found: a table, a curve of characters, and sentences."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gsched.planning import Plan, Point, PolicyPlan
from gsched.planning.search import BELOW
from gsched.planning.slo import Slo
from gsched.table import decimals, plain_table

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 50  # characters of the longest bar
_WIDE = 30  # times the smallest figure: from there on, bars are logarithmic


def plan_table(plan: Plan, price: float | None = None) -> "Table":
    """Return a table with a line for each policy: the smallest cluster, and what one step smaller would give.

    Args:
        plan: with an answer.
        price: of a GPU-hour; None for no column.
    """
    from rich.text import Text

    table = plain_table()
    rows = [_cells(plan, found, price) for found in plan.policies]
    titles = max(rows, key=len)
    for title in titles:
        table.add_column(title, justify="left" if title in ("policy", "kind") else "right", no_wrap=True)
    for found, cells in zip(plan.policies, rows, strict=True):
        texts = (Text(cells.get(title, "-")) for title in titles)
        table.add_row(*texts, style="bold" if found is plan.best else "")
    return table


def _cells(plan: Plan, found: PolicyPlan, price: float | None) -> dict[str, str]:
    """Return the texts of a policy's line, by the titles of their columns."""
    known = {"policy": found.policy, "kind": "static" if found.static else "dynamic"}
    answer = found.answer
    if not answer:
        return known
    makespan = float(answer.summary["makespan"])
    return {
        **known,
        "GPUs": f"{answer.gpus:,}",
        **{slo.name: slo.amount(answer.figures[slo.name]) for slo in plan.slos},
        "util": f"{answer.summary['average_utilization']:.0f}%",
        "makespan": f"{makespan:,.{decimals([makespan])}f} s",
        "GPU-hours": f"{answer.gpu_hours:,.2f}",
        **({} if price is None else {"cost": f"{answer.gpu_hours * price:,.2f}"}),
        "one step smaller": _smaller(plan, found.smaller),
    }


def _smaller(plan: Plan, point: Point | None) -> str:
    """Return what one step smaller would give: the figure that breaks its limit by most."""
    if not point:
        return "too small" if plan.refused else "no room"
    return f"{point.gpus:,}: {_worst(plan.slos, point) if point.figures else 'no schedule'}"


def _worst(slos: Sequence[Slo], point: Point) -> str:
    """Return the figure that breaks its limit by most, or is nearest to it."""
    slo = max(slos, key=lambda slo: slo.excess(point.figures[slo.name]))
    return f"{slo.name} {slo.amount(point.figures[slo.name])}"


def plan_notes(plan: Plan, mode: str) -> Iterator[str]:
    """Yield what was found and what it means; lines that begin with spaces belong to the one before them."""
    slos = " and ".join(map(str, plan.slos))
    if plan.impossible:
        yield f"No cluster of any size keeps {plan.impossible.slo}: {plan.impossible.reason}."
        return
    best = plan.best
    if best and best.answer:
        figures = ", ".join(f"{slo.name} {slo.amount(best.answer.figures[slo.name])}" for slo in plan.slos)
        size = _gpus(best.answer.gpus)
        yield f"The smallest cluster found that keeps {slos}, {mode}, is one of {size}, with {best.policy} ({figures})."
    elif plan.policies:
        yield f"No policy keeps {slos}, {mode}, on a size that was tried."
    if plan.refused:
        gpus, proof = plan.refused
        yield f"No policy whatever keeps {proof.slo} on {_gpus(gpus)} or fewer: {proof.reason}."
    yield from _kinds(plan)
    for found in plan.policies:
        if not found.answer:
            yield f"{found.policy} keeps it on no size that was tried: {_failure(plan.slos, found)}."
    if plan.policies:
        yield from _what_was_tried(plan)


def _gpus(count: int) -> str:
    return f"{count:,} GPU{'' if count == 1 else 's'}"


def _kinds(plan: Plan) -> Iterator[str]:
    """Yield how static deployments compare with policies that load models as they go, where there are both."""
    kinds = [[found for found in plan.policies if found.static is static] for static in (True, False)]
    if all(kinds):
        placed, loaded = map(_least, kinds)
        yield f"Models placed before time 0 (in time that is not counted): {placed}; loaded as needed: {loaded}."


def _least(plans: Sequence[PolicyPlan]) -> str:
    """Return the fewest GPUs of some policies, and the first that needs no more."""
    found = [(plan.gpus, plan.policy) for plan in plans if plan.gpus]
    gpus, policy = min(found, key=lambda entry: entry[0], default=(0, ""))
    return f"{_gpus(gpus)} ({policy})" if policy else "no size that was tried"


def _failure(slos: Sequence[Slo], found: PolicyPlan) -> str:
    """Return how near a policy came, or why it did not run."""
    if not found.curve:
        return found.points[-1].problem
    near = min(found.curve, key=lambda point: point.lack(slos))
    return f"{_worst(slos, near)} at best, on {_gpus(near.gpus)}"


def _what_was_tried(plan: Plan) -> Iterator[str]:
    sizes = plan.sizes
    steps = f" in steps of {sizes.step}" if sizes.step > 1 else ""
    yield f"Tried, of {sizes[0]:,} to {_gpus(sizes[-1])}{steps}, every schedule checked:"
    for found in plan.policies:
        asked = sorted((point.gpus, point.lack(plan.slos)) for point in found.points)
        enough, not_enough = (
            ", ".join(f"{gpus:,}" for gpus, lack in asked if (not lack) is kept) for kept in (True, False)
        )
        yield f"  {found.policy}: kept on {enough or 'none'}" + (f"; not on {not_enough}" if not_enough else "")
    if plan.best:
        yield f"The {BELOW} sizes below an answer were tried, too, where there are so many."
    yield "As more GPUs are not always better, a size that was not tried may do, and one above an answer may not."


def plan_curve(slo: Slo, found: PolicyPlan) -> Iterator[str]:
    """Yield a figure against the number of GPUs as bars of characters; `|` marks the limit.

    Args:
        slo: whose figure is shown.
        found: of a policy that ran on some size.
    """
    points = found.curve
    figures = [point.figures[slo.name] for point in points]
    low, high = min(*figures, slo.limit), max(*figures, slo.limit)
    logarithmic = low > 0 and high / low > _WIDE
    yield f"{slo} by GPUs, with {found.policy}{' (bars are logarithmic)' if logarithmic else ''}"

    def length(figure: float) -> int:
        share = 1 + math.log(figure / high) / math.log(high / low) if logarithmic else figure / high
        return round(share * _WIDTH)

    mark, digits = length(slo.limit), decimals(figures)
    width = len(f"{points[-1].gpus:,}")
    for point, figure in zip(points, figures, strict=True):
        bar = ("█" * length(figure)).ljust(_WIDTH + 1)
        verdict = "  kept" if slo.holds(figure) else ""
        yield f"{point.gpus:>{width},}  {bar[:mark]}|{bar[mark + 1 :]} {figure:>9,.{digits}f}{verdict}"
