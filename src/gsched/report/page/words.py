"""What a page says in words: the finding, what it is about, and what the checker found."""

import math
from collections.abc import Sequence
from html import escape

from gsched import __version__
from gsched.report.page.views import View


def finding(group: Sequence[View]) -> tuple[str, str]:
    """Return what a comparison, or a single log, has shown: a headline and a sentence or two."""
    valid = [view for view in group if view.outcome.valid]
    ranked = [view for view in group if view.competes]
    if not valid:
        return f"{group[0].name}: the schedule is not valid" if len(group) == 1 else "no schedule is valid", ""
    if not ranked:
        who = f"{group[0].name}: {group[0].unfinished}" if len(group) == 1 else "no valid run has done all of its work"
        return who, "" if len(group) == 1 else " ".join(_unranked(valid))
    best = min(ranked, key=_rank)
    equal = [view.name for view in ranked if all(map(math.isclose, _rank(view), _rank(best)))]
    lesser = [view for view in ranked if view.name not in equal]
    grounds = (*_grounds(best), *_rivals(best, lesser), *_unranked(valid))
    return f"{listed(equal)}{_claim(best, lesser, len(equal))}", " ".join(grounds)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them; there must be at least one."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _unranked(views: Sequence[View]) -> list[str]:
    return [f"{view.name} is not ranked: {view.unfinished}." for view in views if view.unfinished]


def _rank(view: View) -> tuple[float, ...]:
    """Return what is smaller the better a schedule is: online by deadlines and the P99, else by the makespan."""
    makespan = view.number("makespan") or 0.0
    p99 = view.number("p99_request_time")
    if view.mode != "online" or p99 is None:
        return (1.0, makespan)
    return (0.0, -(view.number("slo_attainment_percent") or 0.0), p99)


def _claim(view: View, lesser: Sequence[View], equal: int) -> str:
    """Return what is claimed of the best of a group, or of so many that are equally good."""
    p99, slo = view.number("p99_request_time"), view.number("slo_attainment_percent")
    meets, has, is_done = ("meets", "has", "is done") if equal == 1 else ("meet", "have", "are done")
    others = bool(lesser) or equal > 1
    if view.mode == "online" and p99 is not None:
        served = f"99% of the requests are done within {_seconds(p99)}"
        if slo is None:
            return f" {has} the lowest P99: {served}" if others else f": {served}"
        met = _floor_percent(slo)
        if any(other.number("slo_attainment_percent") == slo for other in lesser):
            return f" {has} the lowest P99 of those that meet the most deadlines, {met}: {served}"
        return f" {meets} the most deadlines, {met}; {served}" if others else f" meets {met} of the deadlines; {served}"
    makespan, gap = view.number("makespan") or 0.0, view.number("gap_percent")
    first = f" {is_done} first, after {_seconds(makespan)}" if others else f": all is done after {_seconds(makespan)}"
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


def _rivals(best: View, others: Sequence[View]) -> list[str]:
    """Return a sentence that compares with the baseline, or else with the worst, of those that are not as good."""
    if not others:
        return []
    figure, what = ("p99_request_time", "P99 is") if best.mode == "online" else ("makespan", "makespan is")
    baseline = [view for view in others if view.run.log.summary.get("policy") == "baseline"]
    rival = baseline[0] if baseline else max(others, key=_rank)
    value, own = rival.number(figure), best.number(figure)
    slo = rival.number("slo_attainment_percent") if best.mode == "online" else None
    met = [] if slo is None else [f"{rival.name} meets {_floor_percent(slo)} of the deadlines."]
    if value is None or not own:
        return met
    difference = 100 * (value / own - 1)
    how_much = f"{_seconds(value)}, {abs(difference):.1f}% {'more' if difference >= 0 else 'less'}"
    return [*met, f"{rival.name}'s {what} {'the same' if abs(difference) < 0.05 else how_much}."]


def about(group: Sequence[View]) -> str:
    """Return what logs are about: workload, cluster, mode."""
    view = max(group, key=lambda view: len(view.run.log))  # of those that were stopped, others tell more
    cluster = view.schedule.cluster
    parts = [
        _counted(view.requests, "request"),
        _counted(len(view.run.log), "node"),
        _counted(len(view.models), "model"),
    ]
    where = f"on {_counted(len(view.schedule.gpus), 'GPU')}"
    if cluster:
        servers = f" in servers of {cluster.server_size}" if cluster.server_size < cluster.gpus else ""
        where = f"on {_counted(cluster.gpus, 'GPU')}{servers}, {cluster.residency} residency"
    arrival = {"offline": "offline: all requests are there at 0", "online": "online: requests arrive over time"}
    ran = [view.name for view in group if view.run.log.summary.get("simulate") is True]
    whose = "" if len(ran) == len(group) else f"In {listed(ran)} " if ran else ""
    times = f" {whose}{'models' if whose else 'Models'} really ran, and times are measured." if ran else ""
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
        few = {1: "the schedule is valid", 2: "both schedules are valid"}
        every = few.get(len(views), f"all {len(views)} schedules are valid")
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
