"""The part of a page about a sweep: curves over GPUs and over load, with their intervals, and a table."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from operator import methodcaller
from typing import Any, NamedTuple

from gsched.report.page.chart import Axis, Line, axis_to, chart
from gsched.report.page.sections import MOST_ROWS, QUIET, table
from gsched.report.page.views import Palette
from gsched.sweep.intervals import Figure, Interval, Run, curves, speedups
from gsched.sweep.results import Results

_APART = (*("workload", "mode", "gpus_per_server", "gpu_memory_gb", "pcie_bandwidth", "switch_overhead", "residency"),)
_TITLES = {
    "gpus_per_server": "{} GPUs per server",
    "gpu_memory_gb": "{} GB per GPU",
    "pcie_bandwidth": "{} GB/s",
    "switch_overhead": "{} s per switch",
    "residency": "{} residency",
}


class _Shown(NamedTuple):
    """A figure of runs: its title, its axis, how its numbers are written, and where it comes from."""

    title: str
    axis: str
    form: str
    figure: Figure


class _Group(NamedTuple):
    """Runs in the same circumstances but for policy, GPUs, load and seed."""

    title: str
    mode: str
    runs: Sequence[Run]


class SweepView:
    """The results of a sweep, as a page shows them."""

    def __init__(self, results: Results) -> None:
        self.runs = _named_apart(results.runs)
        self.shown = (
            _Shown("Makespan", "seconds", "{:,.0f}", methodcaller("get", "makespan")),
            _Shown("Gap to the bound", "% above the bound, at most", "{:,.1f}%", methodcaller("get", "gap_percent")),
            _Shown("Speed-up over baseline", "times", "{:,.2f}", speedups(self.runs)),
            _Shown("Switches", "switches", "{:,.0f}", methodcaller("get", "total_model_switches")),
            _Shown("P99", "seconds from arrival to completion", "{:,.1f}", methodcaller("get", "p99_request_time")),
            _Shown("SLO attainment", "% of deadlines met", "{:,.1f}%", methodcaller("get", "slo_attainment_percent")),
        )

    @property
    def policies(self) -> list[str]:
        """The policies' names, each once."""
        return list(dict.fromkeys(run["policy"] for run in self.runs))

    def finding(self) -> tuple[str, str]:
        """Return a headline about the sweep and a sentence."""
        wins: Counter[str] = Counter()
        for group in self._groups:
            figure = self.shown[4 if group.mode == "online" else 0].figure
            means: dict[tuple[Any, ...], dict[str, float]] = {}
            for (load,), policies in curves(group.runs, figure, apart=("load",)).items():
                for policy, points in policies.items():
                    for gpus, found in points.items():
                        means.setdefault((load, gpus), {})[policy] = found.mean
            wins.update(min(by_policy, key=by_policy.__getitem__) for by_policy in means.values())
        if not wins:
            return "No run of the sweep has a valid schedule", ""
        (first, count), cases = wins.most_common(1)[0], wins.total()
        where = f"{count} of {cases} settings" if cases > 1 else "the one setting"
        rivals = ", ".join(f"{policy} in {number}" for policy, number in wins.most_common()[1:])
        sentences = ["Best: the smallest mean over the seeds, offline of the makespan, online of the P99."]
        if rivals:
            sentences.append(f"Otherwise {rivals}.")
        if any(run.get("deployment_time_seconds") is not None for run in self.runs):
            sentences.append("A static deployment has its models in place before time 0, which costs it nothing here.")
        return f"{first} is best in {where} of the sweep", " ".join(sentences)

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
        text = "Lines are means over the seeds, bands their 95% confidence intervals (none where there is one seed)."
        body = "".join(self._group(group, palette) for group in self._groups)
        head = f'<h2>Sweep</h2><p class="quiet">{text} Runs without a valid schedule are left out.</p>'
        return f'<section id="sweep">{head}{self._problems()}{body}</section>'

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
        return f"<h3>{escape(group.title)}</h3>{''.join(parts)}{self._table(group, len(loads) > 1)}"

    def _series(self, group: _Group, over: str, fixed: str, values: Sequence[float], palette: Palette) -> Iterator[str]:
        """Yield charts over GPUs or load, for each value of the other; the first, or that of load 1, is open."""
        shown = self.shown if over == "gpus" else self.shown[4:]
        amount = "requests" if group.mode == "offline" else "rate of arrivals"
        label = "GPUs" if over == "gpus" else f"load, times the workload's {amount}"
        opened = values.index(1.0) if fixed == "load" and 1.0 in values else 0
        for i, value in enumerate(values):
            runs = [run for run in group.runs if run[fixed] == value]
            charts = "".join(filter(None, (_curve_chart(runs, figure, over, label, palette) for figure in shown)))
            where = f"at load {value:g}" if fixed == "load" else f"on {value:,} GPUs"
            if len(values) == 1:
                yield f'<div class="plots">{charts}</div>'
            else:
                name = f"Over {'GPUs' if over == 'gpus' else 'load'}, {where}"
                state = " open" if i == opened else ""
                yield f'<details{state}><summary>{name}</summary><div class="plots">{charts}</div></details>'

    def _table(self, group: _Group, several_loads: bool) -> str:
        columns = [(shown, curves(group.runs, shown.figure, apart=("load",))) for shown in self.shown]
        columns = [(shown, found) for shown, found in columns if found]
        keys = {
            (load, gpus, policy): points[gpus].n
            for _, groups in columns
            for (load,), policies in groups.items()
            for policy, points in policies.items()
            for gpus in points
        }
        rows = []
        for load, gpus, policy in sorted(keys, key=lambda key: (key[:2], self.policies.index(key[2]))):
            cells = [_mean(found.get((load,), {}).get(policy, {}).get(gpus), shown.form) for shown, found in columns]
            where = [f"{load:g}"] if several_loads else []
            rows.append([escape(policy), f"{gpus:,}", *where, *cells, str(keys[load, gpus, policy])])
        titles = [
            "policy",
            "GPUs",
            *(["load"] if several_loads else []),
            *(shown.title for shown, _ in columns),
            "runs",
        ]
        cut = QUIET.format(f"The first {MOST_ROWS} of {len(rows):,} lines.") if len(rows) > MOST_ROWS else ""
        return f"{cut}{table(titles, rows[:MOST_ROWS], group.title)}" if rows else QUIET.format("Nothing to show.")


def _named_apart(runs: Sequence[Run]) -> list[Run]:
    """Return runs whose policies' names tell their options, too, where a policy has several."""
    options: dict[str, set[str]] = {}
    for run in runs:
        options.setdefault(run["policy"], set()).add(run.get("policy_options") or "{}")
    return [
        {**run, "policy": f"{run['policy']} {run.get('policy_options')}"} if len(options[run["policy"]]) > 1 else run
        for run in runs
    ]


def _curve_chart(runs: Sequence[Run], shown: _Shown, over: str, label: str, palette: Palette) -> str:
    """Return the chart of one figure; nothing where no run has it."""
    groups: Mapping[Any, Mapping[str, Mapping[float, Interval]]] = curves(runs, shown.figure, over, apart=())
    if not groups:
        return ""
    policies = groups[()]
    points = [(x, found) for of in policies.values() for x, found in of.items()]
    at = sorted({x for x, _ in points})
    margin = (at[-1] - at[0]) * 0.04 or max(at[-1] * 0.1, 0.5)
    x = Axis(label, at[0] - margin, at[-1] + margin, whole=over == "gpus", at=tuple(at))
    y = axis_to(shown.axis, max(max(found.mean, min(found.high, 2 * found.mean)) for _, found in points))
    form: Callable[[float], str] = shown.form.format
    lines = []
    for policy, of in policies.items():
        colour, look = palette.policy(policy)
        spread = any(found.n > 1 for found in of.values())
        lines.append(
            Line(
                policy,
                colour,
                list(of),
                [found.mean for found in of.values()],
                look.dashes,
                notes=[f"{policy}, {at:g}: {_note(found, form)}" for at, found in of.items()],
                low=[found.low for found in of.values()] if spread else (),
                high=[found.high for found in of.values()] if spread else (),
            )
        )
    return chart(shown.title, x, y, lines)


def _note(found: Interval, form: Callable[[float], str]) -> str:
    return form(found.mean) if found.n == 1 else f"{form(found.mean)} ({form(found.low)} to {form(found.high)})"


def _mean(found: Interval | None, form: str) -> str:
    if found is None:
        return "-"
    text = form.format(found.mean)
    return text if found.n == 1 else f"{text} <small>± {form.format(found.high - found.mean)}</small>"


def _several(count: int, noun: str) -> str:
    if noun == "polic":
        return f"{count:,} {'policy' if count == 1 else 'policies'}"
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
