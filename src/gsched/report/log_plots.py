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
from gsched.report.timeline import by_text, concurrent, gangs_of, waits
from gsched.workload import Floats

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_MODELS = 8  # with a line of their own in a picture of queues; the others share one
BINS = 400  # of time, over which the length of a queue is averaged
_POINTS = 1000  # of a curve
_MARKERS = 6
_BARS_APART = 32  # bars, up to which there is room between them
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
        InputError: there is no such kind, a log is empty or has times that are not finite, or what was asked for cannot
            be drawn of these.
    """
    wanted = chosen(kinds, list(LOG_KINDS), "logs")
    for name, log in logs:
        if not len(log):
            raise InputError.one(name, "", "has no rows to plot", "plot another log")
        columns = (log.start_time, log.end_time, log.switch_time, log.ready_time)
        if not all(np.isfinite(column).all() for column in columns if column is not None):
            raise InputError.one(name, "", "has times that are not finite", "see what gsched check finds")
    pictures, notes = [], []
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
            pictures.append(picture(logs, notes))
    return pictures, notes


# -- request times


def request_times(log: Log) -> Floats:
    """Return the seconds from arrival to completion of each request in the log, but for those that were given up.

    A request arrives when the first of its nodes is ready, so the log must have `ready_time`.
    """
    assert log.ready_time is not None
    failed = read_outcome(log.summary, log.extra).failed
    kept = (rows for request, rows in by_text(log.request_id).items() if request not in failed)
    ready, end = log.ready_time, log.end_time
    return np.array([end[rows].max() - ready[rows].min() for rows in kept])


def _latency_cdf(logs: Sequence[NamedLog], notes: list[str]) -> Picture:
    times = {name: np.sort(request_times(log)) for name, log in logs}
    for name, log in logs:
        outcome = read_outcome(log.summary, log.extra)
        if outcome.partial:
            notes.append(f"{name} is of a run that was stopped: the last requests may look shorter than they are")
        if outcome.failed:
            notes.append(f"{name} has {len(outcome.failed)} failed requests, whose times are not shown")

    def draw(axes: "Axes") -> None:
        for place, (name, look) in enumerate(policy_looks(times).items()):
            seconds = times[name]
            shown = np.unique(np.linspace(0, len(seconds) - 1, min(len(seconds), _POINTS)).round().astype(int))
            share = 100 * np.concatenate([[0.0], (shown + 1) / len(seconds)])
            every = max(1, len(share) // _MARKERS)
            line = line_look(look) | {"drawstyle": "steps-post", "markevery": (place * every // len(times), every)}
            axes.plot(np.concatenate([seconds[:1], seconds[shown]]), share[: len(shown) + 1], **line)
        axes.set(xlabel="request time (s)", ylabel="requests done (%)", ylim=(0, 101))
        axes.set_xlim(left=0)
        numbers(axes.xaxis)

    def key() -> "list[Artist]":
        from matplotlib.lines import Line2D

        return [Line2D([], [], label=name, **line_look(look)) for name, look in policy_looks(times).items()]

    return Picture("latency-cdf", "Distribution of request times", [Panel("", draw, "all")], key)


# -- GPUs


def _utilization(logs: Sequence[NamedLog], _notes: list[str]) -> Picture:
    def key() -> "list[Artist]":
        from matplotlib.patches import Patch

        return [Patch(**look) for look in (_EXECUTING, _LOADING)]

    panels = [Panel(name, partial(_draw_utilization, gpu_shares(log)), name) for name, log in logs]
    return Picture("utilization", "What each GPU did, as a share of the makespan", panels, key)


def gpu_shares(log: Log) -> tuple[Floats, Floats]:
    """Return for how much of the makespan each GPU executed and loaded, in percent, shape (GPUs,) each."""
    gangs = gangs_of(log)
    stated = log.cluster_fields.get("gpus")
    gpus = max(stated if isinstance(stated, int) else 0, int(gangs.gpus.max()) + 1)
    loading = np.zeros(len(log)) if log.switch_time is None else log.switch_time
    makespan = float(log.end_time.max()) or 1.0
    executed, loaded = (
        np.bincount(gangs.gpus, np.repeat(seconds, gangs.sizes), minlength=gpus) / makespan * 100
        for seconds in (log.end_time - log.start_time, loading)
    )
    return executed, loaded


def _draw_utilization(shares: tuple[Floats, Floats], axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    executed, loaded = shares
    gpus = np.arange(len(executed))
    width = 0.8 if len(gpus) <= _BARS_APART else 1.0
    axes.set_axisbelow(True)
    axes.bar(gpus, executed, width, **_EXECUTING)
    axes.bar(gpus, loaded, width, bottom=executed, **_LOADING)
    axes.set(xlabel="GPU", ylabel="time (%)", xlim=(-0.7, len(gpus) - 0.3))
    axes.set_ylim(0, max(100.0, float((executed + loaded).max())))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False, axis="x")


# -- queues


def _queues(logs: Sequence[NamedLog], _notes: list[str]) -> Picture:
    waiting = {name: waits(log) for name, log in logs}
    models = list(dict.fromkeys(model for queues in waiting.values() for model in queues))
    total = dict.fromkeys(models, 0.0)
    for queues in waiting.values():
        for model, (ready, begin) in queues.items():
            total[model] += float((begin - ready).sum())
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
    for name, log in logs:
        edges = np.linspace(0.0, float(log.end_time.max()) or 1.0, BINS + 1)
        lines = {model: mean_lengths(*waiting[name][model], edges) for model in own if model in waiting[name]}
        rest = [mean_lengths(*queue, edges) for model, queue in waiting[name].items() if model not in own]
        lines |= {_OTHERS[0]: np.sum(rest, axis=0)} if rest else {}
        panels.append(Panel(name, partial(_draw_queues, edges, lines, looks), name))
    return Picture("queues", "Nodes that are ready and wait for GPUs, by model", panels, key)


def mean_lengths(ready: Floats, begin: Floats, edges: Floats) -> Floats:
    """Return the mean number of nodes that wait in each of b bins of time, shape (b,).

    Args:
        ready: from when each node waits.
        begin: until when.
        edges: of the bins, shape (b + 1,).
    """
    time, level = concurrent(ready, begin)
    if not len(time):
        return np.zeros(len(edges) - 1)
    waited = np.concatenate([[0.0], np.cumsum(level[:-1] * np.diff(time))])  # seconds of waiting until each time
    lengths: Floats = np.diff(np.interp(edges, time, waited)) / np.diff(edges)
    return lengths


def _draw_queues(
    edges: Floats, lines: Mapping[str, Floats], looks: Mapping[str, Mapping[str, Any]], axes: "Axes"
) -> None:
    for model, lengths in lines.items():
        axes.stairs(lengths, edges, baseline=None, **looks[model])
    highest = max((float(lengths.max()) for lengths in lines.values()), default=0.0)
    axes.set(xlabel="time (s)", ylabel="waiting nodes", xlim=(0, edges[-1]), ylim=(0, 1.06 * highest or 1.0))
    numbers(axes.xaxis)
    numbers(axes.yaxis)


LOG_KINDS: Mapping[str, tuple[str, Callable[[Sequence[NamedLog], list[str]], Picture]]] = {
    "latency-cdf": ("ready_time", _latency_cdf),
    "utilization": ("", _utilization),
    "queues": ("ready_time", _queues),
}
