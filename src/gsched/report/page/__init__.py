"""One HTML page about schedules and sweeps, to be opened anywhere: nothing to fetch, nothing to install."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from gsched.errors import one_line
from gsched.files import PathLike, whole_file
from gsched.report.page.chart import key_of
from gsched.report.page.pack import json_text, pack
from gsched.report.page.sections import comparison, latencies, over_time, panel, row_of
from gsched.report.page.sweeps import SweepView
from gsched.report.page.views import PageRun, Palette, View, groups_of
from gsched.report.page.words import about, finding, verdict, version
from gsched.sweep.results import Results
from gsched.workload import Config, Workload

__all__ = ["PageRun", "write_page"]

_HERE = Path(__file__).parent
_SCRIPTS = ("data.js", "gantt.js", "pointer.js", "page.js")


def write_page(
    path: PathLike, runs: Sequence[PageRun], results: Results | None = None, *, workload: Workload | None = None
) -> None:
    """Write a page about logs, a sweep, or both; whole or not at all.

    Args:
        path: the file.
        runs: the logs, each with what the checker found in it.
        results: of a sweep.
        workload: what the logs executed: it tells how much memory models take and which requests are complete.

    Raises:
        InputError: the file cannot be written.
    """
    page = _page(runs, results, workload)
    with whole_file(Path(path)) as file:
        file.write(page.encode(errors="replace"))  # names may hold half a character


def _page(runs: Sequence[PageRun], results: Results | None, workload: Workload | None) -> str:
    groups = groups_of(runs, workload)
    views = [view for group in groups for view in group]
    sweep = SweepView(results) if results else None
    used = dict.fromkeys(name for view in views for name in view.models)
    configured = [name for name in workload.config.models if name in used] if workload else []
    palette = Palette([*(view.name for view in views), *(sweep.policies if sweep else ())], [*configured, *used])
    script = "".join(_read(name) for name in _SCRIPTS)
    headline, lead = _head(groups, sweep)
    config = workload.config if workload else None
    shown = {"models": list(palette.models), "labels": [view.label for view in views]}
    return Template(_read("page.html")).substitute(
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=escape(one_line(headline)),
        headline=escape(one_line(headline)),
        style=_read("page.css") + palette.css(),
        lead=lead,
        verdict=verdict(views) if views else "",
        comparison=_comparisons(groups, palette),
        schedules=_schedules(views, palette, "".join(_panel(i, v, palette, config) for i, v in enumerate(views))),
        sweep=sweep.section(palette) if sweep else "",
        version=version(),
        data="".join(
            f'<script type="application/json" id="log{i}">{_data(v, palette)}</script>' for i, v in enumerate(views)
        ),
        shown=json_text(shown),
        script=script,
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _data(view: View, palette: Palette) -> str:
    return pack(view.schedule, palette.numbers)


def _head(groups: Sequence[Sequence[View]], sweep: SweepView | None) -> tuple[str, str]:
    """Return the headline, and what stands below it as HTML."""
    found = [(*finding(group), about(group)) for group in groups]
    headlines = [headline for headline, _, _ in found]
    if len(groups) > 1:
        headlines = [f"{name}: {headline}" for name, headline in zip(_names(groups), headlines, strict=True)]
    if sweep:
        found.append((*sweep.finding(), sweep.about()))
        headlines.append(found[-1][0])
    parts = []
    for i, (headline, (_, grounds, what)) in enumerate(zip(headlines, found, strict=True)):
        parts.append(f"<h2 class='also'>{escape(headline)}</h2>" if i else "")
        parts.append(f"<p>{escape(grounds)}</p>" if grounds else "")
        parts.append(f'<p class="quiet">{escape(what)}</p>')
    return headlines[0] if headlines else "Nothing to report", "".join(parts)


def _names(groups: Sequence[Sequence[View]]) -> list[str]:
    """Return what tells groups of logs apart, in few words."""
    names = [(group[0].mode or "unknown mode").capitalize() for group in groups]
    sizes = [f"{name}, {len(group[0].schedule.gpus):,} GPUs" for name, group in zip(names, groups, strict=True)]
    names = [size if names.count(name) > 1 else name for name, size in zip(names, sizes, strict=True)]
    return [f"{name}, no. {i}" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]


def _comparisons(groups: Sequence[Sequence[View]], palette: Palette) -> str:
    if not groups:
        return ""
    best = "; the best value of each column is bold" if len(groups[0]) > 1 else ""
    what = f"Times are in seconds{best}. Pointing at a title tells what it means."
    names = _names(groups) if len(groups) > 1 else [""]
    parts = "".join(_comparison(group, name, palette) for name, group in zip(names, groups, strict=True))
    title = "Comparison" if sum(map(len, groups)) > 1 else "Figures"
    return f'<section id="comparison"><h2>{title}</h2><p class="quiet">{what}</p>{parts}</section>'


def _comparison(group: Sequence[View], name: str, palette: Palette) -> str:
    heading = f'<h3>{escape(name)}</h3><p class="quiet">{escape(about(group))}</p>' if name else ""
    charts = row_of(latencies(group, palette) + over_time(group, palette), (view.name for view in group), palette)
    return f"{heading}{comparison(group, palette)}{charts}"


def _panel(number: int, view: View, palette: Palette, config: Config | None) -> str:
    heading = f'<h3 class="name">{escape(view.label)}</h3>'
    return f'<div class="panel" id="panel{number}">{heading}{panel(view, palette, config)}</div>'


def _schedules(views: Sequence[View], palette: Palette, panels: str) -> str:
    if not views:
        return ""
    tabs = "".join(
        f'<button type="button" role="tab" id="tab{i}" aria-controls="schedule">{escape(view.label)}</button>'
        for i, view in enumerate(views)
    )
    key = key_of((name, palette.model(name)) for name in palette.models)
    return Template(_read("schedules.html")).substitute(tabs=tabs, key=key, panels=panels)
