"""Tiers and deadlines of generated requests: shares of tiers, and a rule for the deadlines of each tier."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from gsched.cluster import LARGEST
from gsched.errors import InputError
from gsched.workload import LOWEST_TIER, Floats, Ints, Workload

Tiers = Mapping[int, float]
"""How often each tier is drawn, relative to the others."""

Deadlines = Mapping[int, str]
"""The deadlines of each tier: `30s`, `2x` the request's critical path, their sum `10s+2x`, or `none`."""

_TIERS_HINT = "for example 1=0.2,2=0.5,3=0.3"
_DEADLINES_HINT = "for example 1=30s,2=10s+2x,3=none"


def parse_tiers(text: str) -> dict[int, float]:
    """Read shares of tiers such as `1=0.2,2=0.8`.

    Raises:
        InputError: the text is not a list of TIER=SHARE, or names a tier twice.
    """
    try:
        return {tier: float(share) for tier, share in _pairs(text, "tiers", _TIERS_HINT).items()}
    except ValueError:
        raise InputError.one("tiers", "", f"{text!r} is not a list of TIER=SHARE", _TIERS_HINT) from None


def parse_deadlines(text: str, tiers: Collection[int]) -> dict[int, str]:
    """Read deadlines such as `1=30s,2=2x`, or a single one for all of the tiers, such as `30s`.

    Raises:
        InputError: the text is neither, or names a tier twice.
    """
    if "=" not in text:
        return dict.fromkeys(tiers, text.strip())
    try:
        return _pairs(text, "deadlines", _DEADLINES_HINT)
    except ValueError:
        raise InputError.one("deadlines", "", f"{text!r} is not a list of TIER=DEADLINE", _DEADLINES_HINT) from None


def _pairs(text: str, option: str, hint: str) -> dict[int, str]:
    """Return what stands for each tier; raise a `ValueError` where the text is no list of TIER=WHAT."""
    pairs = [part.split("=") for part in text.split(",")]
    found = {int(tier): value.strip() for tier, value in pairs}
    if len(found) < len(pairs):
        raise InputError.one(option, "", f"{text!r} names a tier twice", hint)
    return found


def check_tiers(tiers: Tiers) -> None:
    """Raise an `InputError` unless tiers are in range and can be drawn."""
    for tier, share in tiers.items():
        if not 1 <= tier <= LOWEST_TIER:
            raise InputError.one(
                "tiers", "", f"a tier is a whole number from 1 to {LOWEST_TIER}, not {tier}", "1 is the most important"
            )
        if not 0 <= share < math.inf:
            raise InputError.one("tiers", str(tier), f"must be a share that is not negative, not {share}", _TIERS_HINT)
    if not any(tiers.values()):
        raise InputError.one("tiers", "", "no tier has a share above 0", _TIERS_HINT)


def deadlines_of(deadlines: Deadlines, tiers: Collection[int], tier: Ints, critical_path: Floats) -> Floats:
    """Return the seconds after its arrival within which each request should be done, infinity where there is no rule.

    Args:
        deadlines: the rules.
        tiers: the tiers that requests may have.
        tier: that of each request.
        critical_path: seconds that each request takes without loading or waiting.

    Raises:
        InputError: a rule cannot be read, or its tier is never drawn.
    """
    column = np.full(len(tier), np.inf)
    for of, rule in deadlines.items():
        if of not in tiers:
            raise InputError.one(
                "deadlines", "", f"no request is of tier {of}", f"there is {', '.join(map(str, tiers))}"
            )
        if rule != "none":
            seconds, factor = _amounts(rule)
            members = tier == of
            column[members] = (seconds + factor * critical_path[members]).round(9)
            if column[members].max(initial=0.0) > LARGEST:
                raise InputError.one("deadlines", "", f"{rule!r} makes one above {LARGEST:g} s", "choose a smaller one")
    return column


def _amounts(rule: str) -> tuple[float, float]:
    """Return the seconds of a rule and its factor on the critical path."""
    sums = {"s": 0.0, "x": 0.0}
    try:
        for part in rule.split("+"):
            sums[part[-1:]] += float(part[:-1])
    except (KeyError, ValueError):
        sums["s"] = math.nan
    if not all(0 <= amount <= LARGEST for amount in sums.values()):
        raise InputError.one("deadlines", "", f"{rule!r} is not a deadline", "write 30s, 2x, 10s+2x or none")
    return sums["s"], sums["x"]


def tier_figures(workload: Workload) -> dict[str, Any]:
    """Return the requests of each tier and their deadlines in figures; nothing where there are neither."""
    if workload.tier is None and workload.deadline is None:
        return {}
    requests = workload.request_count
    tier = np.ones(requests, np.int32) if workload.tier is None else workload.tier
    deadline = np.full(requests, np.inf) if workload.deadline is None else workload.deadline
    tiers = {}
    for number in np.unique(tier).tolist():
        members = deadline[tier == number]
        given = members[np.isfinite(members)]
        tiers[str(number)] = {
            "requests": len(members),
            "percent": round(100 * len(members) / requests, 2),
            "with_deadline": len(given),
            "median_deadline_seconds": round(float(np.median(given)), 9) if len(given) else None,
        }
    return tiers
