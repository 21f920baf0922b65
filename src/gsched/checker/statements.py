"""The rules of what a summary states: totals, figures by tier, and lower bounds."""

from collections.abc import Mapping
from reprlib import repr as shortened
from typing import Any

from gsched.checker.columns import ABSOLUTE, RELATIVE
from gsched.checker.facts import Facts
from gsched.checker.problems import Problems, plain
from gsched.checker.totals import Total, agrees, is_number, tier_totals


def find_wrong_totals(facts: Facts) -> Problems:
    """Find totals that do not follow from the rows."""
    yield from _differences(facts.log.summary, facts.totals, "")


def find_wrong_tiers(facts: Facts) -> Problems:
    """Find figures of tiers that do not follow from the rows."""
    given, expected = facts.log.summary["tiers"], tier_totals(facts)
    if not isinstance(given, Mapping) or given.keys() != expected.keys():
        yield plain(f"tiers is {shortened(given)}, the workload has {', '.join(expected) or 'none'}")
        return
    for tier, figures in expected.items():
        if isinstance(given[tier], Mapping):
            yield from _differences(given[tier], figures, f" of tier {tier}")
        else:
            yield plain(f"tier {tier} is {shortened(given[tier])}, no figures")


def _differences(given: Mapping[str, Any], expected: Mapping[str, Total], of: str) -> Problems:
    for name, value in expected.items():
        if given.get(name) is not None and not agrees(given[name], value):
            rows_give = " to ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
            yield plain(f"{name}{of} is {shortened(given[name])}, the rows give {rows_give}")


_BOUNDS = (
    ("makespan", "lower_bound", "gap_percent"),
    ("average_request_time", "mean_latency_lower_bound", "mean_latency_gap_percent"),
)


def find_beaten_bounds(facts: Facts) -> Problems:
    """Find lower bounds that the rows beat, and gaps to them that are wrong."""
    for total, bound_name, gap_name in _BOUNDS:
        value, bound = facts.totals.get(total), facts.log.summary.get(bound_name)
        if not is_number(value) or bound is None:
            continue
        if not is_number(bound):
            yield plain(f"{bound_name} is {shortened(bound)}, not a number")
        elif value < bound - ABSOLUTE - RELATIVE * abs(bound):
            yield plain(f"the rows give a {total} of {value!r}, below the {bound_name} of {bound!r}")
        else:
            yield from _gap(facts, gap_name, value, bound)


def _gap(facts: Facts, name: str, value: float, bound: float) -> Problems:
    given = facts.log.summary.get(name)
    if given is not None and bound > 0 and not agrees(given, 100 * (value / bound - 1)):
        yield plain(f"{name} is {given!r}, the rows give {100 * (value / bound - 1)!r}")
