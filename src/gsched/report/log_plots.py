"""Pictures of execution logs: request times, what each GPU did, and queues."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gsched.checker.outcome import read_outcome
from gsched.errors import InputError
from gsched.log import Log
from gsched.report.colours import model_colours, policy_looks
from gsched.report.panels import Panel, Picture, chosen, line_look, numbers
from gsched.report.schedule import Schedule, distribution, gpu_shares, queue_lengths, request_seconds
from gsched.workload import Floats

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_MODELS = 8  # with a line of their own in a picture of queues; the others share one
BINS = 400  # of time, over which the length of a queue is averaged
_POINTS = 1000  # of a curve
_MARKERS = 6
_BARS_APART = 32  # bars, up to which there is room between them
Schedules = Mapping[str, Schedule]  # by the name of the log
_EXECUTING: Mapping[str, Any] = {"color": "#0072b2", "label": "executing", "linewidth": 0}
_LOADING: Mapping[str, Any] = {"color": "#e69f00", "label": "loading", "linewidth": 0}
_OTHERS = ("other models", "#888888")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


class NamedLog(NamedTuple):
    """A log and how a key calls it; names differ."""

    name: str
    log: Log


def log_pictures(logs: Sequence[NamedLog], kinds: Sequence[str] | None = None) -> tuple[list[Picture], list[str]]:
    """Return pictures of logs, and what was left out of them, a sentence each.

    Args:
        logs: at least one.
        kinds: keys of `LOG_KINDS`; by default all that can be drawn.

    Raises:
        InputError: there is no such kind, a log has no row that can be drawn, or what was asked for cannot be drawn of
            these.
    """
    wanted = chosen(kinds, list(LOG_KINDS), "logs")
    schedules = {name: Schedule(log) for name, log in logs}
    pictures, notes = [], []
    for name, schedule in schedules.items():
        if not len(schedule.rows):
            raise InputError.one(name, "", "has no rows to plot", "see what gsched check finds")
        if missing := len(schedule.log) - len(schedule.rows):
            notes.append(f"{missing:,} of {len(schedule.log):,} rows of {name} make no sense and are not drawn")
    for kind in wanted:
        needs, picture = LOG_KINDS[kind]
        lacking = [name for name, log in logs if needs and getattr(log, needs) is None]
        if lacking and kinds:
            raise InputError.one(
                lacking[0], f"column {needs}", f"is missing, which {kind} needs", f"omit --kind {kind}"
            )
        if lacking:
            notes.append(f"{kind} is not drawn: {lacking[0]} has no column {needs}")
        else:
            pictures.append(picture(schedules, notes))
    return pictures, notes


# -- request times


def _latency_cdf(schedules: Schedules, notes: list[str]) -> Picture:
    times = {}
    if (
        len(
            {
                (one.log.summary.get("mode"), one.cluster, one.log.summary.get("total_requests"))
                for one in schedules.values()
            }
        )
        > 1
    ):
        notes.append("the logs differ in mode, cluster or number of requests, so their request times do not compare")
    for name, schedule in schedules.items():
        outcome = read_outcome(schedule.log.summary, schedule.log.extra)
        if outcome.partial:
            notes.append(f"{name} is of a run that was stopped: the last requests may look shorter than they are")
        if failed := len(outcome.failed):
            many = f"{failed:,} failed request{'s' if failed > 1 else ''}"
            notes.append(f"{name} has {many}, whose times are not shown")
        seconds = request_seconds(schedule, None)
        if seconds is not None and len(seconds):
            times[name] = distribution(seconds, _POINTS)
        else:
            notes.append(f"{name} has no completed request, whose time could be shown")

    def draw(axes: "Axes") -> None:
        for place, (name, look) in enumerate(policy_looks(times).items()):
            value, share = times[name]
            every = max(1, (len(share) + 1) // _MARKERS)
            line = line_look(look) | {"drawstyle": "steps-post", "markevery": (place * every // len(times), every)}
            axes.plot([value[0], *value], [0.0, *(100 * share)], **line)
        axes.set(xlabel="request time (s)", ylabel="requests done (%)", ylim=(0, 101))
        axes.set_xlim(left=0)
        numbers(axes.xaxis)

    def key() -> "list[Artist]":
        from matplotlib.lines import Line2D

        return [Line2D([], [], label=name, **line_look(look)) for name, look in policy_looks(times).items()]

    return Picture("latency-cdf", "Distribution of request times", [Panel("", draw, "all")], key)


# -- GPUs


def _utilization(schedules: Schedules, _notes: list[str]) -> Picture:
    def key() -> "list[Artist]":
        from matplotlib.patches import Patch

        return [Patch(**look) for look in (_EXECUTING, _LOADING)]

    panels = [Panel(name, partial(_draw_utilization, schedule), name) for name, schedule in schedules.items()]
    return Picture("utilization", "What each GPU did, as a share of the makespan", panels, key)


def _draw_utilization(schedule: Schedule, axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    executed, loaded = 100 * gpu_shares(schedule)
    ids = schedule.gpus.tolist()
    axes.set_axisbelow(True)
    if len(ids) <= _BARS_APART:
        axes.bar(range(len(ids)), executed, 0.8, **_EXECUTING)
        axes.bar(range(len(ids)), loaded, 0.8, bottom=executed, **_LOADING)
    else:
        edges = np.arange(len(ids) + 1) - 0.5
        axes.stairs(executed, edges, fill=True, **_EXECUTING)
        axes.stairs(executed + loaded, edges, baseline=executed, fill=True, **_LOADING)
    axes.set(xlabel="GPU", ylabel="time (%)", xlim=(-0.7, len(ids) - 0.3))
    axes.set_ylim(0, max(100.0, float((executed + loaded).max())))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(lambda at, _: str(ids[round(at)]) if 0 <= at < len(ids) else "")
    axes.grid(visible=False, axis="x")


# -- queues


def _queues(schedules: Schedules, _notes: list[str]) -> Picture:
    waiting = {name: _lengths(schedule) for name, schedule in schedules.items()}
    models = list(dict.fromkeys(model for _, queues in waiting.values() for model in queues))
    total = dict.fromkeys(models, 0.0)
    for edges, queues in waiting.values():
        for model, lengths in queues.items():
            total[model] += float(lengths.sum() * edges[1])
    own = sorted(sorted(models, key=lambda model: -total[model])[:MOST_MODELS], key=models.index)
    colours = model_colours(models)
    looks = {
        model: {"color": colours[model], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.3}
        for i, model in enumerate(own)
    }
    if len(own) < len(models):
        looks[_OTHERS[0]] = {"color": _OTHERS[1], "linestyle": "-", "linewidth": 1.3}

    def key() -> "list[Artist]":
        from matplotlib.lines import Line2D

        return [Line2D([], [], label=model, **look) for model, look in looks.items()]

    panels = []
    for name, (edges, queues) in waiting.items():
        lines = {model: queues[model] for model in own if model in queues}
        rest = [lengths for model, lengths in queues.items() if model not in own]
        lines |= {_OTHERS[0]: np.sum(rest, axis=0)} if rest else {}
        panels.append(Panel(name, partial(_draw_queues, edges, lines, looks), name))
    return Picture("queues", "Nodes that are ready and wait for GPUs, by model", panels, key)


def _lengths(schedule: Schedule) -> tuple[Floats, dict[str, Floats]]:
    """Return edges of bins of time, and the mean number of nodes of each model that wait in each bin."""
    edges = np.linspace(0.0, schedule.makespan or 1.0, BINS + 1)
    lengths = queue_lengths(schedule, edges)
    assert lengths is not None
    names = schedule.log.model_name.values
    return edges, {names[code]: lengths[code] for code in np.unique(schedule.model).tolist()}


def _draw_queues(
    edges: Floats, lines: Mapping[str, Floats], looks: Mapping[str, Mapping[str, Any]], axes: "Axes"
) -> None:
    for model, lengths in lines.items():
        axes.stairs(lengths, edges, baseline=None, **looks[model])
    highest = max((float(lengths.max()) for lengths in lines.values()), default=0.0)
    axes.set(xlabel="time (s)", ylabel="waiting nodes", xlim=(0, edges[-1]), ylim=(0, 1.06 * highest or 1.0))
    numbers(axes.xaxis)
    numbers(axes.yaxis)


LOG_KINDS: Mapping[str, tuple[str, Callable[[Schedules, list[str]], Picture]]] = {
    "latency-cdf": ("ready_time", _latency_cdf),
    "utilization": ("", _utilization),
    "queues": ("ready_time", _queues),
}
