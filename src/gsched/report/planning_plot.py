"""The curves of a search for the smallest cluster, as a picture."""

from pathlib import Path

from gsched.files import whole_file
from gsched.planning import Plan
from gsched.report.colours import policy_looks

_GREY = "#555555"
_WIDE = 10  # times the smallest value: from there on, an axis is logarithmic


def plot_plan(plan: Plan, path: Path) -> None:
    """Draw the first SLO's figure against the number of GPUs, a line for each policy, and the limit.

    Args:
        plan: with policies, at least one of which ran.
        path: of the picture; its suffix tells the format, .svg, .png or .pdf.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    slo, curves = plan.slos[0], [found for found in plan.policies if found.curve]
    looks = policy_looks(found.policy for found in curves)
    picture = Figure(figsize=(7, 4.2), layout="constrained")
    axes = picture.add_subplot()
    values = [slo.limit]
    for found in curves:
        look = looks[found.policy]
        figures = [point.figures[slo.name] for point in found.curve]
        values += figures
        gpus = [point.gpus for point in found.curve]
        (line,) = axes.plot(gpus, figures, label=found.policy, color=look.light, marker=look.marker, linewidth=1.5)
        if look.dashes:
            line.set_dashes(look.dashes)
    axes.axhline(slo.limit, color=_GREY, linewidth=1, linestyle="--", label=str(slo))
    sizes = [point.gpus for found in curves for point in found.curve]
    if max(sizes) > _WIDE * min(sizes):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda gpus, _: f"{gpus:,g}")
    if min(values) > 0 and max(values) > _WIDE * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda figure, _: f"{figure:,g}")
    axes.set_xlabel("GPUs")
    axes.set_ylabel("deadlines met (%)" if slo.name == "attainment" else f"{slo.name} (s)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    with whole_file(path) as file:
        picture.savefig(file, format=path.suffix.removeprefix(".").lower(), dpi=200)
