"""Pictures of a sweep: figures by cluster size and load, a line for each policy."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np

from gsched.errors import InputError
from gsched.report.colours import Look, policy_looks
from gsched.report.panels import Panel, Picture, chosen, count_axis, line_look, numbers, value_axis
from gsched.report.scales import ratio_scale
from gsched.sweep.intervals import Figure, Interval, Run, curves, speedups
from gsched.sweep.results import PERCENTILES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Curves = Mapping[str, Mapping[float, Interval]]
Place = tuple[str, float]  # a workload and a load
_Axis = Callable[["Axes", str, Sequence[float], Sequence[float]], None]  # of a label, means, ends of intervals

_REFERENCE: Mapping[str, Any] = {"color": "#444444", "linestyle": (0, (1, 1.5)), "linewidth": 1.3}
_BOUND = "lower bound"
_REQUEST_TIME = "request time (s)"
_MARKERS = 20  # percentiles from one marker to the next
_ASIDE = 1.6 / 72  # inches from the points of one policy to those of the next


class _UndrawableError(Exception):
    """A picture cannot be drawn of these runs, for a reason."""


@dataclass(frozen=True)
class _Sweep:
    """The valid runs of a sweep, and what was asked for.

    Args:
        runs: valid ones.
        gpus: the cluster size of pictures that show only one; None: the middle one of those of a workload.
        baseline: the policy with which others are compared.
    """

    runs: Sequence[Run]
    gpus: int | None
    baseline: str

    @property
    def looks(self) -> dict[str, Look]:
        """The look of each policy, in their order."""
        return policy_looks(run["policy"] for run in self.runs)

    @property
    def loads(self) -> list[float]:
        """The loads that occur, ascending."""
        return sorted({run["load"] for run in self.runs})

    def title(self, place: Place) -> str:
        """Return what a panel is about: the workload, and the load where there are several."""
        return f"{place[0]}, load {place[1]:g}" if len(self.loads) > 1 else place[0]

    @property
    def sizes(self) -> dict[str, int]:
        """The cluster size that is shown of each workload, where only one is."""
        found: dict[str, set[int]] = {}
        for run in self.runs:
            found.setdefault(run["workload"], set()).add(run["gpus"])
        return {workload: self.gpus or sorted(sizes)[(len(sizes) - 1) // 2] for workload, sizes in found.items()}

    def size_of(self, workload: str | None = None) -> str:
        """Return the cluster size for a panel's title, or for the picture's, where all panels have the same."""
        sizes = self.sizes
        same = len(set(sizes.values())) == 1
        size = next(iter(sizes.values())) if workload is None else sizes[workload]
        return f", {size:,} GPUs" if same == (workload is None) else ""

    def key(self, policies: Iterable[str], *references: str) -> "list[Artist]":
        """Return a line for each policy, in the order of all, and for each reference."""
        from matplotlib.lines import Line2D

        used = set(policies)
        lines: list[Artist] = [
            Line2D([], [], label=name, **line_look(look)) for name, look in self.looks.items() if name in used
        ]
        return lines + [Line2D([], [], label=name, **_REFERENCE) for name in references]

    @property
    def means(self) -> str:
        """What the values are, in the words of a title."""
        seeds = len({run["seed"] for run in self.runs} - {None})
        return f": means of {seeds} seeds, 95% intervals" if seeds > 1 else ""


def sweep_pictures(
    runs: Sequence[Run], kinds: Sequence[str] | None = None, *, gpus: int | None = None, baseline: str = "baseline"
) -> tuple[list[Picture], list[str]]:
    """Return pictures of a sweep, and what was left out of them, a sentence each.

    Args:
        runs: of a sweep; those that have no valid schedule are left out.
        kinds: keys of `SWEEP_KINDS`; by default all that can be drawn.
        gpus: the cluster size of pictures that show only one; by default the middle one.
        baseline: the policy with which others are compared.

    Raises:
        InputError: there is no such kind or cluster size, no valid run, or what was asked for cannot be drawn of these.
    """
    wanted = chosen(kinds, list(SWEEP_KINDS), "a sweep")
    valid = [run for run in runs if run["valid"]]
    if not valid:
        raise InputError.one("results", "", "have no valid run to plot", "see the column problem")
    if gpus is not None and all(run["gpus"] != gpus for run in valid):
        sizes = ", ".join(map(str, sorted({run["gpus"] for run in valid})))
        raise InputError.one("options", f"--gpus {gpus}", "is no size of this sweep", f"use one of {sizes}")
    notes = _left_out([run for run in runs if not run["valid"]], len(runs))
    pictures = []
    for kind in wanted:
        try:
            pictures.append(SWEEP_KINDS[kind](_Sweep(valid, gpus, baseline)))
        except _UndrawableError as reason:
            if kinds:
                raise InputError.one("options", f"--kind {kind}", f"cannot be drawn: {reason}", "omit it") from None
            notes.append(f"{kind} is not drawn: {reason}")
    return pictures, notes


def _left_out(invalid: Sequence[Run], total: int) -> list[str]:
    if not invalid:
        return []
    counts = Counter(run["policy"] for run in invalid)
    policies = ", ".join(f"{policy}: {count}" for policy, count in counts.items())
    return [f"{len(invalid)} of {total} runs have no valid schedule and are left out ({policies})"]


# -- figures by cluster size


def _by_size(
    sweep: _Sweep,
    name: str,
    title: str,
    label: str,
    figure: Figure,
    *,
    reference: Callable[[_Sweep, Place], tuple[str, Mapping[float, float]] | None] = lambda *_: None,
    axis: _Axis = value_axis,
) -> Picture:
    """Return a picture of a figure by cluster size, with a panel for each workload and load."""
    groups = curves(sweep.runs, figure, apart=("workload", "load"))
    if not groups:
        raise _UndrawableError("no run has such a figure")
    panels, references = [], dict[str, None]()
    for place in groups:
        beside = reference(sweep, place)
        references |= {beside[0]: None} if beside else {}
        drawing = partial(_draw_curves, sweep.looks, groups[place], label, beside and beside[1], axis)
        panels.append(Panel(sweep.title(place), drawing, sweep.title(place)))
    policies = {policy for group in groups.values() for policy in group}
    return Picture(name, title + sweep.means, panels, lambda: sweep.key(policies, *references))


def _draw_curves(
    looks: Mapping[str, Look],
    group: Curves,
    label: str,
    reference: Mapping[float, float] | None,
    axis: _Axis,
    axes: "Axes",
) -> None:
    if reference:
        axes.plot(list(reference), list(reference.values()), **_REFERENCE)
    _draw_lines(looks, group, axes)
    count_axis(axes, "GPUs", [size for points in group.values() for size in points])
    axis(axes, label, [*_ends(group, "mean"), *(reference or {}).values()], _ends(group, "high"))


def _ends(group: Curves, end: str) -> list[float]:
    return [getattr(point, end) for points in group.values() for point in points.values()]


def _draw_lines(looks: Mapping[str, Look], group: Curves, axes: "Axes") -> None:
    """Draw a line for each policy, with bars for the intervals, side by side so that none hides another."""
    from matplotlib.transforms import ScaledTranslation

    assert axes.figure is not None
    for place, (policy, look) in enumerate(looks.items()):
        if policy in group:
            points = group[policy]
            aside = (place - (len(looks) - 1) / 2) * _ASIDE
            moved = axes.transData + ScaledTranslation(aside, 0, axes.figure.dpi_scale_trans)
            means = np.array([point.mean for point in points.values()])
            below, above = ([point[end] for point in points.values()] for end in (1, 2))
            reach = [means - below, above - means] if any(point.low < point.high for point in points.values()) else None
            line = line_look(look) | {"transform": moved}
            axes.errorbar(list(points), means, reach, capsize=2, elinewidth=0.7, **line)


def _makespan(sweep: _Sweep) -> Picture:
    get = methodcaller("get", "makespan")
    return _by_size(sweep, "makespan", "Makespan by cluster size", "makespan (s)", get, reference=_bounds)


def _bounds(sweep: _Sweep, place: Place) -> tuple[str, Mapping[float, float]] | None:
    """Return the lower bound by cluster size that holds for every policy: the mean over seeds of the lowest."""
    lowest: dict[tuple[float, Any], float] = {}
    for run in sweep.runs:
        bound = run.get("lower_bound")
        if (run["workload"], run["load"]) == place and bound is not None:
            lowest[run["gpus"], run["seed"]] = min(bound, lowest.get((run["gpus"], run["seed"]), bound))
    sizes = sorted({gpus for gpus, _ in lowest})
    means = {size: float(np.mean([bound for (gpus, _), bound in lowest.items() if gpus == size])) for size in sizes}
    return (_BOUND, means) if means else None


def _gap(sweep: _Sweep) -> Picture:
    title = "Gap of the makespan to the proven lower bound"
    return _by_size(sweep, "gap", title, "gap (%)", methodcaller("get", "gap_percent"))


def _speedup(sweep: _Sweep) -> Picture:
    if all(run["policy"] != sweep.baseline for run in sweep.runs):
        raise _UndrawableError(f"there is no valid run of {sweep.baseline}")
    others = [run for run in sweep.runs if run["policy"] != sweep.baseline]
    ratio = speedups(sweep.runs, sweep.baseline)
    figure: Figure = lambda run: ratio(run) if run["policy"] != sweep.baseline else None  # noqa: E731
    if not others:
        raise _UndrawableError(f"there is no other policy than {sweep.baseline}")

    def one(sweep: _Sweep, place: Place) -> tuple[str, Mapping[float, float]]:
        sizes = [run["gpus"] for run in sweep.runs if (run["workload"], run["load"]) == place]
        return sweep.baseline, dict.fromkeys((min(sizes), max(sizes)), 1.0)

    title = f"Speed-up over {sweep.baseline}, as the ratio of makespans"
    return _by_size(sweep, "speedup", title, f"speed-up over {sweep.baseline} (×)", figure, reference=one, axis=_ratio)


def _ratio(axes: "Axes", label: str, means: Sequence[float], _highs: Sequence[float]) -> None:
    low, high, _ = ratio_scale(means)
    axes.set_ylim(low, high)
    axes.set_ylabel(label)


def _switches(sweep: _Sweep) -> Picture:
    get = methodcaller("get", "total_model_switches")
    return _by_size(sweep, "switches", "Model switches by cluster size", "model switches", get)


def _utilization(sweep: _Sweep) -> Picture:
    def percent(axes: "Axes", label: str, *_values: Sequence[float]) -> None:
        axes.set_ylim(0, 105)
        axes.set_ylabel(label)

    title, get = "Share of the makespan in which GPUs execute or load", methodcaller("get", "average_utilization")
    return _by_size(sweep, "utilization", title, "average utilization (%)", get, axis=percent)


# -- request times


def _latency_cdf(sweep: _Sweep) -> Picture:
    panels = []
    policies: set[str] = set()
    for workload, size in sweep.sizes.items():
        runs = [run for run in sweep.runs if run["workload"] == workload and run["gpus"] == size]
        for load in sorted({run["load"] for run in runs}):
            lines = _percentiles(run for run in runs if run["load"] == load)
            if lines:
                policies |= lines.keys()
                title = sweep.title((workload, load))
                draw = partial(_draw_cdfs, sweep.looks, lines)
                panels.append(Panel(title + sweep.size_of(workload), draw, title))
    if not panels:
        raise _UndrawableError("no run has latency_percentiles")
    title = f"Distribution of request times{sweep.size_of()}{sweep.means.removesuffix(', 95% intervals')}"
    return Picture("latency-cdf", title, panels, lambda: sweep.key(policies))


def _percentiles(runs: Iterable[Run]) -> dict[str, Any]:
    """Return the 0th to 100th percentile of the request times of each policy, means over its runs."""
    found: dict[str, list[Sequence[float]]] = {}
    for run in runs:
        if run.get(PERCENTILES):
            found.setdefault(run["policy"], []).append(run[PERCENTILES])
    return {policy: np.mean(lines, axis=0) for policy, lines in found.items()}


def _draw_cdfs(looks: Mapping[str, Look], lines: Mapping[str, Any], axes: "Axes") -> None:
    for place, (policy, look) in enumerate(looks.items()):
        if policy in lines:
            first = place * _MARKERS // len(looks)
            axes.plot(lines[policy], np.arange(101), markevery=(first, _MARKERS), **line_look(look))
    axes.set(xlabel=_REQUEST_TIME, ylabel="requests done (%)", ylim=(0, 101))
    axes.set_xlim(left=0)
    numbers(axes.xaxis)


def _latency_load(sweep: _Sweep) -> Picture:
    if len(sweep.loads) < 2:
        raise _UndrawableError("the sweep has only one load")
    panels, policies = [], set[str]()
    for workload, size in sweep.sizes.items():
        runs = [run for run in sweep.runs if run["workload"] == workload and run["gpus"] == size]
        for percentile, column in (("P50", "median_request_time"), ("P99", "p99_request_time")):
            for group in curves(runs, methodcaller("get", column), "load").values():
                policies |= group.keys()
                title = f"{workload}{sweep.size_of(workload)}: {percentile}"
                draw = partial(_draw_loads, sweep.looks, group, f"{percentile} of {_REQUEST_TIME}")
                panels.append(Panel(title, draw, f"{workload}_{percentile}"))
    if not panels:
        raise _UndrawableError("no run has request times")
    title = f"Request times by load{sweep.size_of()}{sweep.means}"
    return Picture("latency-load", title, panels, lambda: sweep.key(policies))


def _draw_loads(looks: Mapping[str, Look], group: Curves, label: str, axes: "Axes") -> None:
    _draw_lines(looks, group, axes)
    count_axis(axes, "load (× the workload's own rate)", [load for points in group.values() for load in points])
    value_axis(axes, label, _ends(group, "mean"), _ends(group, "high"))


SWEEP_KINDS: Mapping[str, Callable[[_Sweep], Picture]] = {
    "makespan": _makespan,
    "gap": _gap,
    "speedup": _speedup,
    "switches": _switches,
    "latency-cdf": _latency_cdf,
    "latency-load": _latency_load,
    "utilization": _utilization,
}
