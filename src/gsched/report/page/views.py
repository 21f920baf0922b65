"""Logs as a page shows them: under which name and colour, and with which figures."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gsched.bounds import lower_bounds
from gsched.checker import Report
from gsched.checker.deployment import read_deployment
from gsched.checker.outcome import read_outcome
from gsched.cluster import LARGEST
from gsched.comparison import Outcome
from gsched.log import Log
from gsched.metrics import gap_percent
from gsched.report.colours import Look, model_colours, policy_looks
from gsched.report.schedule import Schedule, gpu_shares, request_seconds
from gsched.workload import Floats, Mode, Workload

_DIM = 72  # brightness, of 255, below which colours drown in a dark ground
_MODES: tuple[Mode, ...] = ("offline", "online")
_BOUND = ("lower_bound", "lower_bound_name", "gap_percent")


@dataclass(frozen=True)
class PageRun:
    """A log for a page.

    Args:
        log: the schedule, of gsched or of another tool.
        report: what the checker found in it.
        source: where the log is from, such as the name of its file.
    """

    log: Log
    report: Report
    source: str = ""


@dataclass(frozen=True)
class View:
    """A log on a page.

    Args:
        run: the log.
        label: a name that no other log on the page has.
        name: a name that no other log has with which it can be compared.
        workload: what was executed, where that is known.
    """

    run: PageRun
    label: str
    name: str
    workload: Workload | None = None

    @cached_property
    def schedule(self) -> Schedule:
        """The rows that can be drawn."""
        return Schedule(self.run.log)

    @property
    def mode(self) -> Mode | None:
        """How requests arrived, None where the summary does not say."""
        mode = self.run.log.summary.get("mode")
        return next((known for known in _MODES if known == mode), None)

    @cached_property
    def models(self) -> list[str]:
        """The models that were executed or stand on GPUs."""
        log = self.run.log
        executed = [log.model_name.values[code] for code in np.unique(log.model_name.codes).tolist()]
        placed = [name for on_gpu in read_deployment(log.extra).models_on.values() for name in sorted(on_gpu)]
        return list(dict.fromkeys([*executed, *placed]))

    @cached_property
    def seconds(self) -> Floats | None:
        """From arrival to completion of each completed request, ascending; None where the log does not tell."""
        return request_seconds(self.schedule, self.workload)

    @cached_property
    def outcome(self) -> Outcome:
        """Its figures as a comparison shows them: what the summary leaves out is worked out from the rows."""
        stated = self.run.log.summary
        summary: dict[str, Any] = {name: number_in(value) for name, value in stated.items()}
        given = {name: value for name, value in summary.items() if value is not None}
        summary = summary | self._derived() | given | {"lower_bound_name": _text(stated.get("lower_bound_name"))}
        if "lower_bound" not in stated:
            summary |= self._bound(summary["makespan"])
        found = tuple(f"{violation.rule}: {violation.message}" for violation in self.run.report.violations)
        return Outcome(self.name, summary, found)

    def _derived(self) -> dict[str, float]:
        schedule, figures = self.schedule, {"makespan": self.schedule.makespan}
        if schedule.cluster and schedule.makespan:
            loading = float((schedule.start - schedule.begin).sum())
            figures["average_utilization"] = 100 * float(gpu_shares(schedule).sum(axis=0).mean())
            figures["switch_overhead_percent"] = 100 * loading / schedule.makespan
        if self.seconds is not None and len(self.seconds):
            median, p99 = np.percentile(self.seconds, [50, 99]).tolist()
            figures |= {"average_request_time": float(self.seconds.mean()), "median_request_time": median}
            figures["p99_request_time"] = p99
        return figures

    def _bound(self, makespan: float) -> dict[str, Any]:
        """Return the bound on the makespan where the workload is known, the schedule sound and nothing measured."""
        cluster, log = self.schedule.cluster, self.run.log
        if not (self.workload and cluster and self.mode and self.run.report.valid) or log.summary.get("simulate"):
            return {}
        bound = lower_bounds(self.workload, cluster, self.mode, preloaded="placement" in log.extra).makespan
        return dict(zip(_BOUND, (bound.value, bound.name, gap_percent(makespan, bound.value)), strict=True))

    def number(self, figure: str) -> float | None:
        """Return a figure, None where it is not known."""
        return number_in(self.outcome.summary.get(figure))

    @property
    def requests(self) -> int:
        """How many requests there were, as far as the log tells."""
        stated = self.run.log.summary.get("total_requests")
        return stated if isinstance(stated, int) else len(self.run.log.request_id.values)

    @cached_property
    def unfinished(self) -> str:
        """What is missing, in words, where the log tells that not all was done; such a run is not ranked."""
        told = read_outcome(self.run.log.summary, self.run.log.extra)
        done = number_in(self.run.log.summary.get("completed_requests"))
        if done is not None and done < self.requests:
            return f"{done:,.0f} of {self.requests:,} requests completed"
        return "stopped before its end" if told.partial else "requests failed" if told.failures else ""

    @property
    def competes(self) -> bool:
        """Whether it may be called the best: a valid schedule of everything that was to be done."""
        return self.run.report.valid and not self.unfinished

    def same_work(self, other: "View") -> bool:
        """Return whether nothing tells that another log is of other work; nothing can where one lacks some of it."""
        if not (self.competes and other.competes):
            return True
        (counts, seconds), (others, theirs) = self._work, other._work
        measured = any(view.run.log.summary.get("simulate") is True for view in (self, other))
        return counts == others and (measured or math.isclose(seconds, theirs, rel_tol=1e-6))

    @cached_property
    def _work(self) -> tuple[dict[str, int], float]:
        """The number of nodes by model, and the seconds of their execution."""
        log, schedule = self.run.log, self.schedule
        counts = np.bincount(log.model_name.codes, minlength=len(log.model_name.values)).tolist()
        by_model = {name: count for name, count in zip(log.model_name.values, counts, strict=True) if count}
        return by_model, float((schedule.end - schedule.start).sum())


def number_in(value: Any) -> float | None:
    """Return a value of a summary if it is a number of sane size, else None."""
    return value if type(value) in (int, float) and abs(value) <= LARGEST else None


def groups_of(runs: Sequence[PageRun], workload: Workload | None) -> list[list[View]]:
    """Return runs in groups that can be compared: of one mode, on one cluster, of the same work as far as told."""
    found: list[list[View]] = []
    for run, label in zip(runs, _labels(runs), strict=True):
        view = View(run, label, label, workload)
        group = next((group for group in found if all(_comparable(view, other) for other in group)), None)
        if group is None:
            found.append([view])
        else:
            group.append(view)
    return [
        [replace(view, name=name) for view, name in zip(group, _labels([view.run for view in group]), strict=True)]
        for group in found
    ]


def _comparable(view: View, other: View) -> bool:
    kinds = ((v.mode, v.schedule.cluster, v.requests) for v in (view, other))
    return next(kinds) == next(kinds) and view.same_work(other)


def _labels(runs: Sequence[PageRun]) -> list[str]:
    """Return the shortest words that tell runs apart."""
    parts: list[Callable[[PageRun], str]] = [
        lambda run: _text(run.log.summary.get("policy")) or run.source or "log",
        lambda run: _text(run.log.summary.get("mode")),
        lambda run: f"{run.log.cluster_fields.get('gpus', '')} GPUs",
        lambda run: run.source,
        lambda run: f"no. {1 + next(i for i, other in enumerate(runs) if other is run)}",
    ]
    labels = [parts[0](run) for run in runs]
    for part in parts[1:]:
        words = [part(run) for run in runs]
        clash = {label for label in labels if labels.count(label) > 1}
        named = list(zip(labels, words, strict=True))
        apart = {label for label in clash if len({word for other, word in named if other == label}) > 1}
        labels = [f"{label} ({word})" if label in apart and word else label for label, word in named]
    return labels


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class Palette:
    """Colours of policies and models on a page, as CSS variables that follow light and dark.

    Args:
        policies: the names under which they are shown.
        models: in the order of the configuration.
    """

    def __init__(self, policies: Iterable[str], models: Iterable[str]) -> None:
        self.looks = policy_looks(policies)
        self.models = model_colours(models)
        self._policy = {name: f"var(--p{i})" for i, name in enumerate(self.looks)}
        self._model = {name: f"var(--m{i})" for i, name in enumerate(self.models)}

    def policy(self, name: str) -> tuple[str, Look]:
        """Return a policy's colour in CSS, and its look."""
        return self._policy[name], self.looks[name]

    def model(self, name: str) -> str:
        """Return a model's colour in CSS."""
        return self._model[name]

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each model, as in its variable."""
        return {name: i for i, name in enumerate(self.models)}

    def css(self) -> str:
        """Return the variables' definitions."""
        looks = list(self.looks.values())
        light = "".join(f"--p{i}:{look.light};" for i, look in enumerate(looks))
        dark = "".join(f"--p{i}:{look.dark};" for i, look in enumerate(looks))
        dark += "".join(f"--m{i}:{_on_dark(colour)};" for i, colour in enumerate(self.models.values()))
        models = "".join(f"--m{i}:{colour};" for i, colour in enumerate(self.models.values()))
        schemes = f"@media screen and (prefers-color-scheme: dark){{:root:not(.paper){{{dark}}}}}"
        return f":root{{{light}{models}}}{schemes}"


def _on_dark(colour: str) -> str:
    """Return a colour, #rrggbb, that can be told from a dark ground: itself, or lighter."""
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    bright = 0.3 * parts[0] + 0.59 * parts[1] + 0.11 * parts[2]
    return colour if bright > _DIM else "#" + "".join(f"{part + (255 - part) * 2 // 5:02x}" for part in parts)
