"""What a page says in words: the finding, what it is about, and what the checker found."""

from collections.abc import Sequence
from html import escape

from gsched import __version__
from gsched.report.page.views import View


def finding(group: Sequence[View]) -> tuple[str, str]:
    """Return what a comparison, or a single log, has shown: a headline and a sentence or two."""
    valid = [view for view in group if view.outcome.valid]
    if not valid:
        who = f"{group[0].name}: the schedule is" if len(group) == 1 else "no schedule is"
        return f"{who} not valid".replace("no schedule is not", "no schedule is"), ""
    best = min(valid, key=_rank)
    alone = len(group) == 1
    return f"{best.name}{_claim(best, alone)}", " ".join((*_grounds(best), *_rivals(best, valid)))


def _rank(view: View) -> tuple[float, ...]:
    """Return what is smaller the better a schedule is: online by deadlines and the P99, else by the makespan."""
    makespan = view.number("makespan") or 0.0
    p99 = view.number("p99_request_time")
    if view.mode != "online" or p99 is None:
        return (0.0, makespan)
    return (-(view.number("slo_attainment_percent") or 0.0), p99)


def _claim(view: View, alone: bool) -> str:
    p99, slo = view.number("p99_request_time"), view.number("slo_attainment_percent")
    if view.mode == "online" and p99 is not None:
        served = f"99% of the requests are done within {_seconds(p99)}"
        if slo is None:
            return f": {served}" if alone else f" has the lowest P99: {served}"
        met = _floor_percent(slo)
        most = f"meets {met} of the deadlines" if alone else f"meets the most deadlines, {met}"
        return f" {most}; {served}"
    makespan, gap = view.number("makespan") or 0.0, view.number("gap_percent")
    first = f": all is done after {_seconds(makespan)}" if alone else f" is done first, after {_seconds(makespan)}"
    return first if gap is None else f"{first}, at most {max(gap, 0.0):.1f}% above any possible schedule"


def _seconds(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f} s"


def _floor_percent(percent: float) -> str:
    return f"{percent if percent == 100 else min(percent, 99.9):.1f}%"  # a single miss must show


def _grounds(view: View) -> list[str]:
    """Return sentences that say what the bound is, and what a batch's or an online run's other figures are."""
    sentences = []
    bound, gap = view.number("lower_bound"), view.number("gap_percent")
    placed = " with its models in place before time 0" if view.number("deployment_time_seconds") is not None else ""
    if bound:
        name = view.outcome.summary.get("lower_bound_name")
        named = f" ({name})" if name else ""
        sentences.append(f"No schedule{placed} can be done before {_seconds(bound)}{named}.")
    if view.mode == "online":
        makespan = view.number("makespan") or 0.0
        above = "" if gap is None else f", {max(gap, 0.0):.1f}% above that bound"
        sentences.append(f"Its makespan is {_seconds(makespan)}{above}.")
    elif (p99 := view.number("p99_request_time")) is not None:
        sentences.append(f"99% of the requests are done within {_seconds(p99)}.")
    return sentences


def _rivals(best: View, valid: Sequence[View]) -> list[str]:
    """Return a sentence that compares with the baseline, or else with the worst."""
    others = [view for view in valid if view is not best]
    if not others:
        return []
    figure, what = ("p99_request_time", "P99 is") if best.mode == "online" else ("makespan", "makespan is")
    baseline = [view for view in others if view.run.log.summary.get("policy") == "baseline"]
    rival = baseline[0] if baseline else max(others, key=_rank)
    value, own = rival.number(figure), best.number(figure)
    if value is None or not own:
        return []
    difference = 100 * (value / own - 1)
    if abs(difference) < 0.05:
        return [f"{rival.name}'s {what.removesuffix(' is')} is the same."]
    return [f"{rival.name}'s {what} {_seconds(value)}, {abs(difference):.1f}% {'more' if difference >= 0 else 'less'}."]


def about(group: Sequence[View]) -> str:
    """Return what logs are about: workload, cluster, mode."""
    view = group[0]
    log, cluster = view.run.log, view.schedule.cluster
    requests = view.requests
    parts = [_counted(requests, "request"), _counted(len(log), "node"), _counted(len(view.models), "model")]
    where = f"on {_counted(len(view.schedule.gpus), 'GPU')}"
    if cluster:
        servers = f" in servers of {cluster.server_size}" if cluster.server_size < cluster.gpus else ""
        where = f"on {_counted(cluster.gpus, 'GPU')}{servers}, {cluster.residency} residency"
    arrival = {"offline": "offline: all requests are there at 0", "online": "online: requests arrive over time"}
    times = " Models really ran, and times are measured." if log.summary.get("simulate") is True else ""
    return f"{', '.join(parts)} {where}; {arrival.get(view.mode or '', 'arrivals not told')}.{times}"


def version() -> str:
    """Return the words that name gsched and its version."""
    return f"gsched {__version__}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def verdict(views: Sequence[View]) -> str:
    """Return what the checker found, as HTML."""
    broken = [view for view in views if not view.outcome.valid]
    unchecked: dict[str, list[str]] = {}
    for view in views:
        for sentence in view.run.report.unchecked:
            unchecked.setdefault(sentence, []).append(view.label)
    caveats = "".join(f"<li>{_whose(labels, views)}{escape(text)}</li>" for text, labels in unchecked.items())
    more = f"<details><summary>What was not checked</summary><ul>{caveats}</ul></details>" if caveats else ""
    if not broken:
        how = "a checker that shares no code with the simulator replayed"
        every = "the schedule is valid" if len(views) == 1 else f"all {len(views)} schedules are valid"
        short = ", as far as could be checked" if caveats else ""
        text = f"<strong>{every.capitalize()}{short}:</strong> {how} {'it' if len(views) == 1 else 'each of them'}."
        return f'<div class="verdict">{text}{more}</div>'
    items = "".join(
        f"<li><b>{escape(view.label)}</b>: {escape(found)}</li>" for view in broken for found in view.outcome.violations
    )
    text = (
        "The schedule is NOT valid:" if len(views) == 1 else f"{len(broken)} of {len(views)} schedules are NOT valid:"
    )
    return f'<div class="verdict bad" id="problems"><strong>{text}</strong><ul>{items}</ul>{more}</div>'


def _whose(labels: Sequence[str], views: Sequence[View]) -> str:
    return "" if len(labels) == len(views) else f"<b>{escape(', '.join(labels))}</b>: "
