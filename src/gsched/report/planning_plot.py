"""The curves of a search for the smallest cluster, as a picture."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsched.files import whole_file
from gsched.pictures import write_picture
from gsched.planning import Plan
from gsched.report.colours import policy_looks
from gsched.report.panels import DPI, Panel, Picture, count_axis, draw, line_look, numbers, size_of, value_axis

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_WIDE = 10  # times the smallest value; from there on, a line that crosses the limit is seen on a logarithmic axis only
_LIMIT: dict[str, Any] = {"color": "#444444", "linestyle": (0, (1, 1.5)), "linewidth": 1.3}


def plot_plan(plan: Plan, path: Path) -> None:
    """Draw the first SLO's figure against the number of GPUs, a line for each policy, and the limit.

    Args:
        plan: with policies, at least one of which ran.
        path: of the picture; its suffix tells the format, .svg, .png or .pdf.

    Raises:
        InputError: the file cannot be written.
    """
    title = f"{plan.slos[0].name} by cluster size"
    picture = Picture(path.stem, title, [Panel("", partial(_curves, plan), "")], partial(_key, plan))
    with whole_file(path) as file:
        form = path.suffix.removeprefix(".").lower()
        write_picture(file, form, partial(draw, picture), size_of(picture), dpi=DPI)


def _lines(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return how the line of each policy that ran is drawn."""
    ran = [found.policy for found in plan.policies if found.curve]
    return {policy: line_look(look) for policy, look in policy_looks(ran).items()}


def _curves(plan: Plan, axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    slo, lines = plan.slos[0], _lines(plan)
    shown = [(found.policy, point) for found in plan.policies for point in found.curve]
    for policy, line in lines.items():
        points = [(point.gpus, point.figures[slo.name]) for name, point in shown if name == policy]
        axes.plot(*zip(*points, strict=True), **line)
    axes.axhline(slo.limit, **_LIMIT)
    count_axis(axes, "GPUs", [point.gpus for _, point in shown])
    label = "deadlines met (%)" if slo.name == "attainment" else f"{slo.name} (s)"
    values = [slo.limit, *(point.figures[slo.name] for _, point in shown)]
    value_axis(axes, label, values)
    if min(values) > 0 and max(values) > _WIDE * min(values):
        axes.set_yscale("log")
        axes.set_ylim(0.8 * min(values), 1.25 * max(values))
        axes.set_ylabel(f"{label}, log scale")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())  # its own labels are formulas, which pictures do not set
        numbers(axes.yaxis)


def _key(plan: Plan) -> "list[Artist]":
    from matplotlib.lines import Line2D

    policies: list[Artist] = [Line2D([], [], label=name, **line) for name, line in _lines(plan).items()]
    return [*policies, Line2D([], [], label=str(plan.slos[0]), **_LIMIT)]
