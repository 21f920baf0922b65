"""The parts of a page about logs: the comparison, and a panel of charts and tables for each log."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from gsched.checker.outcome import read_outcome
from gsched.comparison import Outcome
from gsched.report.colours import Look
from gsched.report.page.chart import Axis, Layers, Line, axis_of, axis_to, chart, key_of_lines
from gsched.report.page.placement import placement_map
from gsched.report.page.views import Palette, View, number_in
from gsched.report.scales import Scale
from gsched.report.schedule import (
    MOST_BINS,
    Distribution,
    busy_gpus,
    distribution,
    edges_of,
    gpu_shares,
    queue_lengths,
)
from gsched.report.tables import Column, comparison_cells, comparison_columns
from gsched.workload import Config, Floats

EXECUTING, LOADING = "var(--executing)", "var(--loading)"
MOST_MODELS = 12  # with a colour of their own in a chart of queues
MOST_ROWS = 100
MOST_TIERS = 5  # side by side
_TIERS_COMPARED = (("SLO", "slo_attainment_percent", 1, "%", 1), ("p99", "p99_request_time", None, "", -1))
_COARSE = 80  # bins where logs are compared
_SKEWED = 20  # times the median: a straight axis would hide what most requests got
QUIET = '<p class="quiet">{}</p>'


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> str:
    """Return a table that scrolls in itself.

    Args:
        titles: HTML of the columns' heads.
        rows: HTML of the cells.
        name: what it holds.
    """
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    text = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">{text}</div>'


def comparison(group: Sequence[View], palette: Palette) -> str:
    """Return the table of logs that can be compared, the best valid value of each column marked."""
    outcomes = [view.outcome for view in group]
    columns = comparison_columns(outcomes, without=("wall",))
    titles = [f'<abbr title="{column.meaning}">{column.title}</abbr>' for column in columns]
    competing = [view.competes for view in group]
    cells = [comparison_cells(column, outcomes, competing=competing) for column in columns]
    widest = max((view.number("gap_percent") or 0.0 for view in group), default=0.0)
    rows = []
    for i, view in enumerate(group):
        figures = []
        for column, of in zip(columns, cells, strict=True):
            text, best = of[i]
            shown = f"<b>{text}</b>" if best else text
            if column.figure == "gap_percent" and widest:
                share = 100 * max(view.number("gap_percent") or 0.0, 0.0) / widest
                shown = f'<div class="share" style="--share:{share:.1f}%">{shown}</div>'
            figures.append(shown)
        valid = "yes" if view.outcome.valid else '<strong class="bad">NO</strong>'
        lacking = f"<br><small>{escape(view.unfinished)}</small>" if view.unfinished else ""
        rows.append([_dotted(view, palette) + lacking, *figures, valid])
    return table(["policy", *titles, "valid"], rows, "Comparison") + _tiers_compared(group, palette)


def _dotted(view: View, palette: Palette) -> str:
    colour, _ = palette.policy(view.name)
    return f'<i class="dot" style="background:{colour}"></i>{escape(view.name)}'


def _tiers_compared(group: Sequence[View], palette: Palette) -> str:
    """Return the table of deadlines met and of the P99 by tier, where several logs tell them."""
    told = [_tier_figures(view) for view in group]
    tiers = sorted({tier for figures in told for tier in figures}, key=lambda tier: (len(tier), tier))[:MOST_TIERS]
    if sum(map(bool, told)) < 2 or len(tiers) < 2:
        return ""
    outcomes = [
        Outcome(view.name, {f"{tier}{figure}": value for tier, of in figures.items() for figure, value in of.items()})
        for view, figures in zip(group, told, strict=True)
    ]
    columns = [
        Column(f"tier {tier} {title}", f"{tier}{figure}", "", digits, unit, better)
        for tier in tiers
        for title, figure, digits, unit, better in _TIERS_COMPARED
        if any(outcome.summary.get(f"{tier}{figure}") is not None for outcome in outcomes)
    ]
    competing = [view.competes for view in group]
    cells = [comparison_cells(column, outcomes, competing=competing) for column in columns]
    rows = [
        [_dotted(view, palette), *(f"<b>{text}</b>" if best else text for text, best in (of[i] for of in cells))]
        for i, view in enumerate(group)
    ]
    return table(["policy", *(escape(column.title) for column in columns)], rows, "Tiers compared")


def _tier_figures(view: View) -> dict[str, dict[str, float | None]]:
    """Return the figures of each tier that a summary has."""
    found = view.run.log.summary.get("tiers")
    tiers = found if isinstance(found, Mapping) else {}
    return {
        str(tier): {name: number_in(value) for name, value in figures.items()} if isinstance(figures, Mapping) else {}
        for tier, figures in tiers.items()
    }


def row_of(charts: str, names: Iterable[str], palette: Palette) -> str:
    """Return charts side by side with one key of policies, where there are several."""
    looks = {name: palette.policy(name) for name in names}
    lines = [Line(name, colour, (), (), look.dashes) for name, (colour, look) in looks.items()]
    key = key_of_lines(lines) if len(lines) > 1 else ""
    return f'{key}<div class="plots">{charts}</div>'


def latencies(group: Sequence[View], palette: Palette) -> str:
    """Return the chart of the requests' times, a line for each log that tells them."""
    known = {view.name: view.seconds for view in group if view.seconds is not None and len(view.seconds)}
    if not known:
        return QUIET.format("The logs do not tell how long requests took.")
    x = _seconds_axis(list(known.values()))
    lines = []
    for name, seconds in known.items():
        colour, look = palette.policy(name)
        points = _from_nothing(distribution(seconds), x.low)
        lines.append(Line(name, colour, points.value, 100 * points.share, look.dashes, steps=True))
    note = "share of requests done within a time"
    return chart("Latency", x, Axis("requests, %", 0.0, 100.0), lines, note=note, key=False)


def over_time(group: Sequence[View], palette: Palette) -> str:
    """Return charts of all nodes that wait and of the GPUs that execute, a line for each of several logs."""
    if len(group) == 1:
        return ""
    longest = max(view.schedule.makespan for view in group)
    edges = np.linspace(0.0, longest or 1.0, _COARSE + 1)
    waiting = {view.name: queue_lengths(view.schedule, edges) for view in group}
    queues = {name: queue.sum(axis=0) for name, queue in waiting.items() if queue is not None}
    busy = {view.name: busy_gpus(view.schedule, edges)[0] for view in group}
    time = Axis("time, s", 0.0, float(edges[-1]))
    charts = []
    for title, note, unit, levels in (
        ("Waiting", "ready nodes without a GPU", "nodes", queues),
        ("Executing", "GPUs that execute", "GPUs", busy),
    ):
        if levels:
            highest = max(float(level.max()) for level in levels.values())
            lines = [_level(name, level, edges, palette.policy(name)) for name, level in levels.items()]
            charts.append(chart(title, time, axis_to(unit, highest), lines, note=note, key=False))
    return "".join(charts)


def _level(name: str, level: Floats, edges: Floats, of: tuple[str, Look]) -> Line:
    colour, look = of
    return Line(name, colour, edges, [*level.tolist(), level[-1]], look.dashes, steps=True)


def _from_nothing(points: Distribution, low: float) -> Distribution:
    return Distribution(np.array([low, *points.value]), np.array([0.0, *points.share]))


def _seconds_axis(values: Sequence[Floats]) -> Axis:
    """Return an axis for times: logarithmic where the longest is far above the middle."""
    together = np.concatenate(values)
    middle, longest = float(np.median(together)), float(together.max())
    if middle > 0 and longest > _SKEWED * middle:
        low = max(float(np.percentile(together, 1)), longest / 1e5)
        return axis_of("seconds from arrival to completion", Scale(low / 1.2, longest * 1.05, low / 1.2))
    return axis_to("seconds from arrival to completion", longest)


def panel(view: View, palette: Palette, config: Config | None) -> str:
    """Return all about one log but its Gantt chart."""
    parts = [_left_out(view), f'<div class="plots">{"".join(_charts(view, palette))}</div>']
    parts += [tiers(view), placement_map(view, palette, config), incidents(view)]
    return "".join(parts)


def _left_out(view: View) -> str:
    missing = len(view.run.log) - len(view.schedule.rows)
    if not missing:
        return ""
    rows = f"{missing:,} row{'s' if missing > 1 else ''} of the log"
    return QUIET.format(f"{rows} cannot be drawn: their times or GPUs make no sense.")


def _charts(view: View, palette: Palette) -> Iterable[str]:
    schedule = view.schedule
    if not len(schedule.rows):
        yield QUIET.format("There is nothing to draw.")
        return
    edges = edges_of(schedule.makespan, 2 * len(schedule.rows))
    time = Axis("time, s", 0.0, float(edges[-1]))
    queue = queue_lengths(schedule, edges)
    if queue is None:
        yield QUIET.format("The log has no ready_time, which queue lengths and waiting times need.")
    else:
        layers = _by_model(view, queue, edges, palette)
        title, note = "Queue length", "ready nodes without a GPU"
        yield chart(title, time, axis_to("nodes", float(queue.sum(axis=0).max())), layers, note=note)
    count = len(schedule.gpus)
    states = Layers(("executing", "loading"), (EXECUTING, LOADING), edges, busy_gpus(schedule, edges))
    yield chart("GPUs in use", time, Axis(f"GPUs of {count:,}", 0.0, float(count)), states, note="over time")
    yield _per_gpu(gpu_shares(schedule))


def _by_model(view: View, queue: Floats, edges: Floats, palette: Palette) -> Layers:
    """Return the queues of the models, those with the least in them as one."""
    names = view.run.log.model_name.values
    total = queue.sum(axis=1)
    order = [i for i in np.argsort(-total, kind="stable").tolist() if total[i] > 0]
    shown = sorted(order[:MOST_MODELS], key=lambda i: palette.numbers[names[i]])
    labels = [names[i] for i in shown]
    colours, values = [palette.model(name) for name in labels], [queue[i] for i in shown]
    if rest := order[MOST_MODELS:]:
        labels.append(f"{len(rest)} other models")
        colours.append("var(--quiet)")
        values.append(queue[rest].sum(axis=0))
    return Layers(labels, colours, edges, np.array(values).reshape(len(labels), len(edges) - 1))


def _per_gpu(shares: Floats) -> str:
    """Return the chart of what each GPU did, of very many as means over neighbours."""
    count = shares.shape[1]
    block = -(-count // MOST_BINS)
    first = np.arange(0, count, block)
    widths = np.diff([*first.tolist(), count])
    means = np.add.reduceat(shares, first, axis=1) / widths
    edges = np.array([*first.tolist(), count]) - 0.5
    highest = max(100.0, 100 * float(means.sum(axis=0).max()))
    layers = Layers(("executing", "loading"), (EXECUTING, LOADING), edges, 100 * means)
    note = "share of the makespan" + (f", mean of {block} GPUs each" if block > 1 else "")
    return chart(
        "Use of each GPU", Axis("GPU", -0.5, count - 0.5, whole=True), Axis("%", 0.0, highest), layers, note=note
    )


_TIER_COLUMNS = (
    ("requests", "requests", "{:,.0f}"),
    ("with deadline", "with_deadline", "{:,.0f}"),
    ("SLO", "slo_attainment_percent", "{:,.1f}%"),
    ("good/s", "goodput", "{:,.3f}"),
    ("mean", "average_request_time", "{:,.1f}"),
    ("p50", "median_request_time", "{:,.1f}"),
    ("p90", "p90_request_time", "{:,.1f}"),
    ("p99", "p99_request_time", "{:,.1f}"),
)


_SLO = [title for title, _, _ in _TIER_COLUMNS].index("SLO")


def tiers(view: View) -> str:
    """Return the table of the tiers, where the summary has them."""
    found = _tier_figures(view)
    if not found:
        return ""
    rows = []
    for tier, figures in found.items():
        numbers = [figures.get(figure) for _, figure, _ in _TIER_COLUMNS]
        cells = ["-" if n is None else column[2].format(n) for n, column in zip(numbers, _TIER_COLUMNS, strict=True)]
        if (share := numbers[_SLO]) is not None:
            cells[_SLO] = f'<div class="share" style="--share:{share:.1f}%">{cells[_SLO]}</div>'
        rows.append([f"tier {escape(tier)}", *cells])
    what = "SLO: share of the deadlines that were met. good/s: requests done in time, per second. The rest are seconds"
    heading = f"<h3>Tiers</h3>{QUIET.format(f'{what} from arrival to completion.')}"
    return heading + table(["tier", *(title for title, _, _ in _TIER_COLUMNS)], rows, "Tiers")


def incidents(view: View) -> str:
    """Return what went wrong in a real run: requests that were given up, GPUs that were not to be had."""
    found = read_outcome(view.run.log.summary, view.run.log.extra)
    parts = []
    if found.failures:
        rows = [
            [
                escape(one.request_id),
                escape(one.node_id),
                escape(one.model_name),
                f"{one.attempts:,}",
                escape(one.reason),
            ]
            for one in found.failures
        ]
        titles = ["request", "node", "model", "attempts", "reason"]
        parts.append(f"<h3>Requests that failed</h3>{_first(rows)}{table(titles, rows[:MOST_ROWS], 'Failures')}")
    if found.interruptions:
        rows = [
            [
                _ranges(one.gpu_ids),
                f"{one.start_time:,.1f}",
                "-" if one.end_time is None else f"{one.end_time:,.1f}",
                escape(one.model_name or "-"),
                escape(one.reason),
            ]
            for one in found.interruptions
        ]
        titles = ["GPUs", "from, s", "to, s", "model", "reason"]
        listed = table(titles, rows[:MOST_ROWS], "Interruptions")
        parts.append(f"<h3>GPUs that were not to be had</h3>{_first(rows)}{listed}")
    return "".join(parts)


def _ranges(gpus: Sequence[int]) -> str:
    """Return GPUs in few words."""
    ids = np.unique(gpus)
    runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _first(rows: Sequence[Any]) -> str:
    return QUIET.format(f"The first {MOST_ROWS} of {len(rows):,}.") if len(rows) > MOST_ROWS else ""
