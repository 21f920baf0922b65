"""Arrival processes: when the requests of a generated workload come in."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from gsched.errors import InputError
from gsched.workload import Floats

Process = Literal["poisson", "uniform", "gamma"]
Profile = Sequence[tuple[float, float]]

LAST = 2**63 - 1  # nanosecond since 1970 that a timestamp may name, so that differences fit into 64 bits
YEARS = "1970 to 2262"  # from nanosecond 0 to the last

BURSTINESS = (0.001, 1000.0)  # beyond, the gaps are all equal, or all but one are zero, to double precision


def draw_arrivals(
    count: int,
    duration: float,
    rng: np.random.Generator,
    process: Process = "poisson",
    burstiness: float = 1.0,
    profile: Profile | None = None,
) -> Floats:
    """Return `count` arrival times in ascending order, in the unit of `duration` and within it.

    The gaps of the process, one more than there are arrivals, are scaled to fill the duration. For exponential gaps
    that is a Poisson process given the number of its arrivals (Devroye, Non-Uniform Random Variate Generation, 1986,
    section VI.1). A profile then bends time, so that equal shares of the process get equal shares of its area.

    Args:
        count: number of arrivals.
        duration: time over which they come.
        rng: source of the gaps.
        process: how the gaps vary: `poisson` (exponential), `uniform` (not at all), `gamma`.
        burstiness: coefficient of variation of the gaps of `gamma`; at 1 they are exponential.
        profile: pairs of the time from which a rate holds, in the unit of `duration`, and that rate, relative to the
            others. The first time is 0.

    Raises:
        InputError: the process is unknown, or burstiness or profile make no sense.
    """
    check_process(process, burstiness)
    check_profile(profile, duration)
    passed = np.cumsum(_gaps(count + 1, rng, process, burstiness))
    share: Floats = passed[:-1] / passed[-1]
    if profile is None:
        return share * duration
    times, rates = np.array([*profile, (duration, 0.0)]).T
    area = np.concatenate([[0.0], np.cumsum(rates[:-1] / rates.max() * np.diff(times))])
    arrivals: Floats = np.interp(share * area[-1], area, times)
    return np.maximum.accumulate(arrivals).clip(max=duration)  # rounding may carry one past the end of its stretch


def _gaps(count: int, rng: np.random.Generator, process: Process, burstiness: float) -> Floats:
    """Return the gaps between arrivals, in no unit: the caller scales them."""
    if process == "uniform":
        return np.ones(count)
    if process == "poisson":
        return rng.standard_exponential(count)
    # Gamma(a) is Gamma(a + 1) * U**(1 / a). In logarithms, as very bursty gaps would otherwise all underflow to zero.
    shape = burstiness**-2
    logs = np.log(rng.standard_gamma(shape + 1, count)) - rng.standard_exponential(count) / shape
    gaps: Floats = np.exp(logs - logs.max())
    return gaps


def check_process(process: str, burstiness: float) -> None:
    """Raise an `InputError` unless the process is known and its burstiness has a meaning."""
    if process not in get_args(Process):
        known = ", ".join(get_args(Process))
        raise InputError.one("arrivals", "", f"{process!r} is not an arrival process", f"choose one of {known}")
    low, high = BURSTINESS
    if not low <= burstiness <= high:
        hint = "1 is like poisson, more is burstier"
        raise InputError.one("burstiness", "", f"must be between {low} and {high:g}, not {burstiness}", hint)
    if process != "gamma" and burstiness != 1:
        message = f"{burstiness} has no effect on {process} arrivals"
        raise InputError.one("burstiness", "", message, "choose gamma arrivals with it")


def check_profile(profile: Profile | None, duration: float) -> None:
    """Raise an `InputError` unless the times ascend from 0 within the duration and the rates let requests in."""
    if profile is None:
        return
    times, rates = [time for time, _ in profile], [rate for _, rate in profile]
    if not times or times[0] != 0:
        raise InputError.one("profile", "", "must begin at minute 0", "for example 0:1,5:4,6:1")
    if not all(a < b for a, b in zip(times, [*times[1:], duration], strict=True)):
        message = f"minutes must ascend and stay below the duration ({duration:g} minutes)"
        raise InputError.one("profile", "", message, "reorder them, or lengthen the duration")
    if not all(0 <= rate < math.inf for rate in rates) or max(rates) == 0:
        raise InputError.one("profile", "", "rates must not be negative and not all zero", "for example 0:1,5:4,6:1")


def parse_profile(text: str) -> tuple[tuple[float, float], ...]:
    """Read a rate profile such as `0:1,5:4,6:1`: from minute 5 to 6, four times the rate of before and after.

    Raises:
        InputError: the text is not a list of MINUTE:RATE.
    """
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple((float(minute), float(rate)) for minute, rate in pairs)
    except ValueError:
        message = f"{text!r} is not a list of MINUTE:RATE"
        raise InputError.one("profile", "", message, "for example 0:1,5:4,6:1") from None
