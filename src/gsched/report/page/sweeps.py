"""The part of a page about a sweep: curves over GPUs and over load, with their intervals, and the same as tables."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from gsched.report.page.chart import Line, axis_of, chart
from gsched.report.page.sections import QUIET, row_of, table
from gsched.report.page.views import Palette
from gsched.report.page.words import listed
from gsched.report.scales import count_scale, ratio_scale, value_scale
from gsched.report.sweep_figures import Cell, SweepFigure, figure_rows, sweep_figures
from gsched.sweep.intervals import Interval, Run, curves
from gsched.sweep.results import Results
from gsched.table import decimals

Curves = Mapping[str, Mapping[float, Interval]]

_ASIDE = 2.2  # in a chart's units, from the points of one policy to those of the next
_APART = (*("workload", "mode", "gpus_per_server", "gpu_memory_gb", "pcie_bandwidth", "switch_overhead", "residency"),)
_TITLES = {
    "gpus_per_server": "{} GPUs per server",
    "gpu_memory_gb": "{} GB per GPU",
    "pcie_bandwidth": "{} GB/s",
    "switch_overhead": "{} s per switch",
    "residency": "{} residency",
}


class _Group(NamedTuple):
    """Runs in the same circumstances but for policy, GPUs, load and seed."""

    title: str
    mode: str
    runs: Sequence[Run]


class SweepView:
    """The results of a sweep, as a page shows them."""

    def __init__(self, results: Results) -> None:
        self.runs = _named_apart(results.runs)

    @property
    def policies(self) -> list[str]:
        """The policies' names, each once."""
        return list(dict.fromkeys(run["policy"] for run in self.runs))

    def finding(self) -> tuple[str, str]:
        """Return a headline about the sweep and a sentence."""
        wins: Counter[str] = Counter()
        cases, shared = 0, False
        for group in self._groups:
            for policies in curves(group.runs, self._figures(group)[0].figure, apart=("load",)).values():
                for row in figure_rows(self._figures(group)[0], policies):
                    best = [policy for policy, cell in zip(policies, row.cells, strict=True) if cell and cell.best]
                    wins.update(best)
                    cases, shared = cases + 1, shared or len(best) > 1
        if not cases:
            return "No run of the sweep has a valid schedule", ""
        if not wins:
            return f"A sweep of {listed(self.policies)}", ""
        most = max(wins.values())
        first = [policy for policy, count in wins.items() if count == most]
        where = f"{most} of {cases} settings" if cases > 1 else "the one setting"
        judged = {"offline": "makespan", "online": "P99 of the request times"}
        by = dict.fromkeys(judged.get(group.mode, "makespan") for group in self._groups)
        sentences = [f"Best: the smallest mean over the seeds of the {listed(list(by))}."]
        if shared:
            sentences.append("Those that are equally good count alike.")
        if rivals := [f"{policy} in {number}" for policy, number in wins.most_common() if number < most]:
            sentences.append(f"Otherwise {', '.join(rivals)}.")
        if any(run.get("deployment_time_seconds") is not None for run in self.runs):
            sentences.append("A static deployment has its models in place before time 0, which costs it nothing here.")
        who = f"{first[0]} is" if len(first) == 1 else f"{listed(first)} are each"
        return f"{who} best in {where} of the sweep", " ".join(sentences)

    def about(self) -> str:
        """Return of what the sweep consists."""
        counts = [
            _several(len(values), name)
            for column, name in (("workload", "workload"), ("policy", "polic"), ("load", "load"), ("seed", "seed"))
            if (values := {run[column] for run in self.runs} - {None})
        ]
        gpus = sorted({run["gpus"] for run in self.runs})
        span = f"{gpus[0]:,} GPUs" if len(gpus) == 1 else f"{gpus[0]:,} to {gpus[-1]:,} GPUs" if gpus else "no GPUs"
        return f"A sweep of {_several(len(self.runs), 'run')}: {', '.join(counts)}; {span}."

    def section(self, palette: Palette) -> str:
        """Return the section as HTML."""
        text = "Points are means over the seeds, bars their 95% confidence intervals (none where there is one seed)."
        body = "".join(self._group(group, palette) for group in self._groups)
        head = f'<h2>Sweep</h2><p class="quiet">{text} Runs without a valid schedule are left out.</p>'
        return f'<section id="sweep">{head}{self._problems()}{body}</section>'

    def _figures(self, group: _Group) -> list[SweepFigure]:
        return sweep_figures(self.runs, group.mode)

    @property
    def _groups(self) -> list[_Group]:
        found: dict[tuple[Any, ...], list[Run]] = {}
        for run in self.runs:
            found.setdefault(tuple(run.get(column) for column in _APART), []).append(run)
        varied = [i for i, column in enumerate(_APART) if len({key[i] for key in found}) > 1 and column in _TITLES]
        return [
            _Group(", ".join([*map(str, key[:2]), *(_TITLES[_APART[i]].format(key[i]) for i in varied)]), key[1], runs)
            for key, runs in found.items()
        ]

    def _problems(self) -> str:
        texts = Counter(
            f"{run['policy']}: {run.get('problem') or run.get('violations') or 'no valid schedule'}"
            for run in self.runs
            if not run["valid"]
        )
        if not texts:
            return ""
        items = "".join(f"<li>{escape(text)} ({_several(count, 'run')})</li>" for text, count in texts.most_common(20))
        return f'<div class="verdict bad"><strong>Without a valid schedule:</strong><ul>{items}</ul></div>'

    def _group(self, group: _Group, palette: Palette) -> str:
        loads, gpus = (sorted({run[column] for run in group.runs}) for column in ("load", "gpus"))
        parts: list[str] = []
        if len(gpus) > 1 or len(loads) == 1:
            parts += self._series(group, "gpus", "load", loads, palette)
        if len(loads) > 1:
            parts += self._series(group, "load", "gpus", gpus, palette)
        return f"<h3>{escape(group.title)}</h3>{''.join(parts)}"

    def _series(self, group: _Group, over: str, fixed: str, values: Sequence[float], palette: Palette) -> Iterator[str]:
        """Yield charts over GPUs or load, for each value of the other; the first, or that of load 1, is open."""
        opened = values.index(1.0) if fixed == "load" and 1.0 in values else 0
        for i, value in enumerate(values):
            runs = [run for run in group.runs if run[fixed] == value]
            shown = [(figure, self._in_order(runs, figure, over)) for figure in self._figures(group)]
            names = [policy for policy in self.policies if any(policy in found for _, found in shown)]
            amount = "requests" if group.mode == "offline" else "rate of arrivals"
            label = "GPUs" if over == "gpus" else f"load, times the workload's {amount}"
            parts = _charts_and_tables([of for of in shown if of[1]], names, label, palette)
            where = f"at load {value:g}" if fixed == "load" else f"on {value:,} GPUs"
            name = f"Over {'GPUs' if over == 'gpus' else 'load'}, {where}"
            state = " open" if i == opened else ""
            yield parts if len(values) == 1 else f"<details{state}><summary>{name}</summary>{parts}</details>"

    def _in_order(self, runs: Sequence[Run], figure: SweepFigure, over: str) -> Curves:
        found = curves(runs, figure.figure, over, apart=()).get((), {})
        return {policy: found[policy] for policy in self.policies if policy in found}


def _named_apart(runs: Sequence[Run]) -> list[Run]:
    """Return runs whose policies' names tell their options, too, where a policy has several."""
    options: dict[str, set[str]] = {}
    for run in runs:
        options.setdefault(run["policy"], set()).add(run.get("policy_options") or "{}")
    return [
        {**run, "policy": f"{run['policy']} {run.get('policy_options')}"} if len(options[run["policy"]]) > 1 else run
        for run in runs
    ]


def _charts_and_tables(
    shown: Sequence[tuple[SweepFigure, Curves]], names: Sequence[str], label: str, palette: Palette
) -> str:
    if not shown:
        return QUIET.format("Nothing to show.")
    charts = "".join(_chart(figure, found, names, label, palette) for figure, found in shown)
    tables = "".join(_table(figure, found, label.partition(",")[0]) for figure, found in shown)
    folded = f'<details><summary>The same as tables</summary><div class="tables">{tables}</div></details>'
    return row_of(charts, names, palette) + folded


def _chart(shown: SweepFigure, policies: Curves, names: Sequence[str], label: str, palette: Palette) -> str:
    """Return the chart of one figure; points of several policies stand side by side."""
    found = [interval for points in policies.values() for interval in points.values()]
    means, at = [interval.mean for interval in found], sorted({at for points in policies.values() for at in points})
    x = axis_of(label, count_scale(at), whole=label == "GPUs", at=tuple(at))
    y = axis_of(shown.axis, ratio_scale([1.0, *means]) if shown.ratio else value_scale(means, [i.high for i in found]))
    lines = []
    for policy, points in policies.items():
        colour, look = palette.policy(policy)
        spread = list(points.values()) if any(interval.n > 1 for interval in points.values()) else []
        lines.append(
            Line(
                policy,
                colour,
                list(points),
                [interval.mean for interval in points.values()],
                look.dashes,
                notes=[f"{policy}, {at:g}: {_note(interval, shown)}" for at, interval in points.items()],
                low=[interval.low for interval in spread],
                high=[interval.high for interval in spread],
                aside=_ASIDE * (names.index(policy) - (len(names) - 1) / 2),
            )
        )
    return chart(shown.title, x, y, lines, key=False)


def _note(interval: Interval, shown: SweepFigure) -> str:
    digits = decimals([interval.mean]) if shown.digits is None else shown.digits
    mean, low, high = (f"{value:,.{digits}f}{shown.unit}" for value in interval[:3])
    return mean if interval.n == 1 else f"{mean} ({low} to {high})"


def _table(shown: SweepFigure, policies: Curves, over: str) -> str:
    rows = [[f"{row.at:,g}", *map(_cell, row.cells)] for row in figure_rows(shown, policies)]
    return f"<div><h4>{escape(shown.title)}</h4>{table([over, *map(escape, policies)], rows, shown.title)}</div>"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    mean = f"<b>{cell.mean}</b>" if cell.best else cell.mean
    more = " ".join(filter(None, (f"±{cell.half}" if cell.half else "", f"({cell.few})" if cell.few else "")))
    return f"{mean} <small>{more}</small>" if more else mean


def _several(count: int, noun: str) -> str:
    if noun == "polic":
        return f"{count:,} {'policy' if count == 1 else 'policies'}"
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
