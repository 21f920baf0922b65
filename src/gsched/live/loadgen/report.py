"""A load test as one page: what was offered and what was kept, with nothing to fetch and no scripts."""

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gsched.files import whole_file
from gsched.live.loadgen.metrics import latencies_ms
from gsched.live.loadgen.plans import Load
from gsched.live.loadgen.run import MAX_LAG, MOST_LATE, ClassRun, complaints
from gsched.live.loadgen.workload_config import SLO_LATENCY_NS, TIERS
from gsched.pictures import write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 500  # of a curve
MOST_BINS = 100
FEWEST_IN_BIN = 20  # requests, on average; shares of fewer are noise
PANEL, WIDE = (4.0, 2.7), (4.8, 2.6)  # inches, of which a browser makes what fits

# Matplotlib draws in these, and the page's style says what they are, so that they follow light and dark
INK = "#010101"
TIER_INK = {1: "#020202", 2: "#030303", 3: "#040404"}
CSS = {INK: "currentColor"} | {ink: f"var(--tier{tier})" for tier, ink in TIER_INK.items()}
DASHES: dict[int, tuple[float, ...]] = {1: (), 2: (5, 2), 3: (1.2, 1.6)}
WIDTH = 1.8
LOOK = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    **{"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False},
    **{"axes.grid": True, "grid.color": INK, "grid.alpha": 0.12},
}
USABLE = f"every request was sent and answered, and no more than {MOST_LATE:.0%} of any class was sent late"
NOTHING = '<p class="quiet">There is nothing to show.</p>'

Floats = npt.NDArray[np.float64]
Values = tuple[Floats, int]  # what is known of some requests, and how many there are


def write_report(runs: Sequence[ClassRun], load: Load, path: Path) -> None:
    """Write the page about a load test, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    page = _page(runs, load)
    with whole_file(path) as file:
        file.write(page.encode(errors="replace"))  # what a scheduler says may hold half a character


def _page(runs: Sequence[ClassRun], load: Load) -> str:
    template = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    timeline, bins = _timeline(runs)
    return template.substitute(
        headline=escape(_headline(runs)),
        delivered=escape(_delivered(runs)),
        about=escape(_about(runs, load)),
        verdict=_verdict(runs),
        outcomes=_outcome_table(runs),
        key="".join(map(_key, TIERS)),
        latencies=_cdf_panels(runs, lambda run: (latencies_ms(run.records), _count([run])), "latency", "SLO", 1.0),
        bins=bins,
        timeline=timeline,
        most_lag=f"{MAX_LAG:.0%}",
        most_late=f"{MOST_LATE:.0%}",
        lags=_cdf_panels(runs, lambda run: (run.lag_ms, len(run.lag_ms)), "send lag", "limit", MAX_LAG),
        stimulus=_stimulus_table(runs),
    )


def _headline(runs: Sequence[ClassRun]) -> str:
    count = _count(runs)
    if not count:
        return "No request was offered"
    return f"{count:,} {'request was' if count == 1 else 'requests were'} offered and {_share(runs)} done in time"


def _delivered(runs: Sequence[ClassRun]) -> str:
    """Return what was sent of what was asked for, and how much of each tier was in time."""
    sent = sum(record["timestamp_sent"] > 0 for run in runs for record in run.records)
    asked, rate = sum(run.plan.qps for run in runs), sum(run.delivered_qps for run in runs)
    groups = [(tier, [run for run in runs if run.plan.tier == tier]) for tier in TIERS]
    tiers = ", ".join(f"tier\N{NO-BREAK SPACE}{tier} {_share(group)}" for tier, group in groups)
    return f"Sent: {sent:,}, at {rate:,.2f} requests/s of {asked:,.2f} asked for. In time: {tiers}."


def _about(runs: Sequence[ClassRun], load: Load) -> str:
    driver = "MLPerf LoadGen" if load.pattern is None else f"gsched's own driver, pattern {load.pattern}"
    if load.pattern in ("burst", "spike", "ramp"):
        driver += f" up to {load.peak:g} times the base rate"
    seconds = max((run.plan.duration for run in runs), default=0.0)
    about = f"Workload {load.workload}, {seconds:,.1f} s, seed {load.seed}, by {driver}, to {load.connection.url}"
    starts = [record["timestamp_issued"] for run in runs for record in run.records]
    began = f", from {datetime.fromtimestamp(min(starts) // 10**9, UTC):%Y-%m-%d %H:%M:%S} UTC" if starts else ""
    return f"{about}{began}."


def _verdict(runs: Sequence[ClassRun]) -> str:
    problems = complaints(runs)
    if not problems:
        return f'<div class="verdict"><strong>Usable as a measurement:</strong> {USABLE}.</div>'
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f'<div class="verdict bad"><strong>Not usable as a measurement:</strong><ul>{items}</ul></div>'


def _count(runs: Sequence[ClassRun]) -> int:
    """Return how many requests there were, those without a record among them."""
    return sum(max(run.issued, len(run.records)) for run in runs)


def _share(runs: Sequence[ClassRun]) -> str:
    count, in_time = _count(runs), sum(record["slo_met"] for run in runs for record in run.records)
    if not count:
        return "-"
    percent = 100 * in_time / count
    return f"{percent if in_time == count else min(percent, 99.9):.1f}%"  # a single miss must show


def _outcome_table(runs: Sequence[ClassRun]) -> str:
    titles = ("count", "done", "p50 ms", "p95 ms", "p99 ms", "in time", "expired", "rejected", "failed", "no answer")
    rows = [_outcome_row(f"tier {run.plan.tier} {run.plan.slo}", [run]) for run in runs]
    return _table(titles, [*rows, _outcome_row("all", runs)])


def _outcome_row(name: str, runs: Sequence[ClassRun]) -> str:
    records = [record for run in runs for record in run.records]
    kinds, count, times = Counter(record["outcome"] for record in records), _count(runs), latencies_ms(records)
    percentiles = [f"{np.percentile(times, q):,.1f}" if len(times) else "-" for q in (50, 95, 99)]
    share = f'<div class="share" style="--share: {_share(runs) if count else 0}">{_share(runs)}</div>'
    answers = [kinds[kind] for kind in ("expired", "rejected", "failed")]
    numbers = (count, kinds["done"], *answers, count - kinds["done"] - sum(answers))
    counts = [f"{number:,}" for number in numbers]
    return _row(name, [*counts[:2], *percentiles, share, *counts[2:]])


def _stimulus_table(runs: Sequence[ClassRun]) -> str:
    with_verdict = any(run.verdict for run in runs)
    titles = ("SLO ms", "asked/s", "sent/s", "lag p50 ms", "lag p99 ms", *(("LoadGen",) if with_verdict else ()))
    return _table(titles, [_stimulus_row(run, with_verdict) for run in runs])


def _stimulus_row(run: ClassRun, with_verdict: bool) -> str:
    lags = [f"{np.percentile(run.lag_ms, q):,.2f}" if len(run.lag_ms) else "-" for q in (50, 99)]
    sent = f"{run.delivered_qps:,.2f}" if run.seconds > 0 else "-"
    cells = [f"{SLO_LATENCY_NS[run.plan.slo] / 1e6:,g}", f"{run.plan.qps:,.2f}", sent, *lags]
    return _row(f"tier {run.plan.tier} {run.plan.slo}", [*cells, _loadgen(run)] if with_verdict else cells)


def _loadgen(run: ClassRun) -> str:
    if run.verdict is None or run.verdict.valid:
        return "<b>VALID</b>" if run.verdict else "-"
    return f'<b class="bad">INVALID</b>: {escape("; ".join(run.verdict.reasons))}'


def _table(titles: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for title in ("class", *titles))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(name: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _key(tier: int) -> str:
    dashes = " ".join(f"{WIDTH * length:g}" for length in DASHES[tier]) or "none"
    line = f"stroke: var(--tier{tier}); stroke-width: {WIDTH}; stroke-dasharray: {dashes}"
    return (
        f'<span><svg viewBox="0 0 36 12" aria-hidden="true"><path d="M0 6H36" style="{line}"/></svg>tier {tier}</span>'
    )


def _cdf_panels(runs: Sequence[ClassRun], of: Callable[[ClassRun], Values], what: str, mark: str, share: float) -> str:
    """Return a panel for each SLO that has requests, with a line for each tier and a mark at a share of the SLO."""
    figures = []
    for slo, limit_ns in SLO_LATENCY_NS.items():
        curves = {run.plan.tier: of(run) for run in runs if run.plan.slo == slo and of(run)[1]}
        if curves:
            limit = share * limit_ns / 1e6
            plot = _svg(f"{what} of {slo} requests", PANEL, partial(_draw_cdfs, curves, limit, f"{what}, ms"))
            figures.append(_figure(slo, f"{mark} {limit:,g} ms", plot))
    return "".join(figures) or NOTHING


def _figure(title: str, text: str, plot: str) -> str:
    return f"<figure><figcaption>{title} <span>{text}</span></figcaption>{plot}</figure>"


def _draw_cdfs(curves: Mapping[int, Values], limit: float, label: str, axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = _log_range(np.concatenate([values for values, _ in curves.values()]), limit)
    axes.axvline(limit, color=INK, linewidth=1)
    for tier, (values, count) in curves.items():
        x, y = _cdf(values, count)
        x, y = np.clip([low, *x, high], low, high), np.array([0.0, *y, len(values) / count])
        axes.plot(x, 100 * y, drawstyle="steps-post", clip_on=False, **_line(tier))
    axes.set(xscale="log", xlim=(low, high), ylim=(0, 100), xlabel=label, ylabel="requests, %")
    axes.xaxis.set_major_locator(LogLocator(subs=_subs(high / low)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _subs(ratio: float) -> tuple[float, ...]:
    """Return the multiples of powers of ten whose labels find room on a panel."""
    return (1.0, 2.0, 5.0) if ratio < 100 else (1.0, 3.0) if ratio < 3000 else (1.0,)


def _log_range(values: Floats, limit: float) -> tuple[float, float]:
    """Return an axis that holds the limit and the values, but for those too small to tell from nothing."""
    smallest, largest = (values.min(), values.max()) if len(values) else (limit, limit)
    return max(min(smallest, limit / 10), limit / 1e4) / 1.1, max(largest, 2 * limit) * 1.1


def _cdf(values: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the values in order, and which share of so many requests is no more than each."""
    picks = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).round().astype(int))
    return np.sort(values)[picks], (picks + 1) / count


def _timeline(runs: Sequence[ClassRun]) -> tuple[str, str]:
    """Return the plots over time, and in words what they show."""
    records = [record for run in runs for record in run.records]
    if not records:
        return NOTHING, ""
    at = np.array([record["timestamp_sent"] or record["timestamp_issued"] for record in records])
    seconds = (at - at.min()) / 1e9
    tiers = np.array([record["tier"] for record in records])
    sent = np.array([record["timestamp_sent"] > 0 for record in records])
    in_time = np.array([record["slo_met"] for record in records])
    span = float(seconds.max()) or 1.0
    edges, coarse = _edges(span, len(records)), _edges(span, len(records) / len(set(tiers.tolist())))
    rates = [np.histogram(seconds[mask], edges)[0] / edges[1] for mask in (sent, in_time)]
    shares = {tier: _shares(seconds[tiers == tier], in_time[tiers == tier], coarse) for tier in TIERS}
    rate_plot = _svg("requests per second over time", WIDE, partial(_draw_rates, edges, rates))
    share_plot = _svg("share in time over time", WIDE, partial(_draw_shares, coarse, shares))
    figures = _figure("Requests/s", "sent (line) and of those in time (filled)", rate_plot)
    figures += _figure("In time", "share of each tier's requests", share_plot)
    return figures, f"Requests count where they were sent; bins of {edges[1]:.2g} s, for shares {coarse[1]:.2g} s."


def _edges(span: float, count: float) -> Floats:
    return np.linspace(0.0, span, int(np.clip(count / FEWEST_IN_BIN, 1, MOST_BINS)) + 1)


def _shares(seconds: Floats, in_time: npt.NDArray[np.bool_], edges: Floats) -> Floats:
    """Return the share in time in each bin; no number where there was no request."""
    every, kept = np.histogram(seconds, edges)[0], np.histogram(seconds[in_time], edges)[0]
    shares: Floats = np.divide(kept, every, out=np.full(len(every), np.nan), where=every > 0)
    return shares


def _draw_rates(edges: Floats, rates: Sequence[Floats], axes: "Axes") -> None:
    sent, in_time = rates
    axes.stairs(in_time, edges, fill=True, color=INK, alpha=0.25, linewidth=0)
    axes.stairs(sent, edges, color=INK, linewidth=1.3, baseline=None)
    axes.set(xlim=(0, edges[-1]), ylim=(0, max(1.08 * sent.max(), 1e-9)), xlabel="time, s", ylabel="requests/s")


def _draw_shares(edges: Floats, shares: Mapping[int, Floats], axes: "Axes") -> None:
    for tier, share in shares.items():
        axes.stairs(100 * share, edges, baseline=None, clip_on=False, **_line(tier))
    axes.set(xlim=(0, edges[-1]), ylim=(0, 100), xlabel="time, s", ylabel="in time, %")


def _line(tier: int) -> dict[str, Any]:
    return {"color": TIER_INK[tier], "linewidth": WIDTH, "linestyle": (0, DASHES[tier]) if DASHES[tier] else "-"}


def _svg(title: str, size: tuple[float, float], draw: Callable[["Axes"], None]) -> str:
    """Return a plot as part of a page, the same bytes for the same data."""
    file = io.BytesIO()
    write_picture(file, "svg", lambda figure: draw(figure.subplots()), size, look=LOOK, salt=title, transparent=True)
    return _inline(file.getvalue().decode(), title)


def _inline(svg: str, title: str) -> str:
    """Return an SVG file as an element that takes its colours from the page, with no ids but those it refers to."""
    body = re.sub(r'<g id="[^"]*">', "<g>", svg[svg.index("<svg ") + len("<svg ") :].strip())
    for ink, css in CSS.items():
        body = body.replace(ink, css)
    return f'<svg role="img" aria-label="{escape(title)}" {body}'
