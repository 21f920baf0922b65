"""Straight lines through measured times, of which a few may be far off."""

from typing import NamedTuple

import numpy as np

from gsched.workload import Floats, Ints

_HUBER = 1.345  # deviations up to which a time counts in full, which keeps 95% of what least squares would make of it
_DEVIATION = 1.4826  # a normal distribution's standard deviation, in median absolute deviations
_FLOOR = 0.01  # of the median time: what clocks and dispatch may be off by, however short the time
_INSTANT = 1e-9  # seconds (or GB): less is nothing, and dividing by it would overflow
_EXACT = 1e-9  # relative deviation that is rounding
_TELLS_APART = 0.1  # of the mean time: up to here, the error of the offset leaves it meaningful
_ITERATIONS = 100


class Lines(NamedTuple):
    """Lines `offset + slope * x`, one for each group, with one offset for all.

    Args:
        slope: at least 0; NaN for a group without a row whose x is above 1e-9, shape (groups,).
        spread: standard deviation of the times around the line, as a share of it; NaN for fewer than three, shape
            (groups,).
        offset: at least 0; 0 where it is not determined.
        error: standard error of the offset; NaN where it is not determined.
    """

    slope: Floats
    spread: Floats
    offset: float
    error: float

    @property
    def determined(self) -> bool:
        """Whether the offset can be told from the slopes: x varies enough for that, given the noise."""
        return not np.isnan(self.error)


def fit_lines(x: Floats, y: Floats, group: Ints, groups: int) -> Lines:
    """Fit lines to n times by Huber's estimate, with deviations relative to the line.

    Args:
        x: what the times depend on, at least 0, shape (n,).
        y: the times, at least 0, shape (n,).
        group: of each time, shape (n,).
        groups: how many there are.
    """
    kept = _iterate(x, y, group, groups, offset=True)
    if not kept.error <= _TELLS_APART * (y.mean() if len(y) else 0.0):
        kept = _iterate(x, y, group, groups, offset=False)
    return kept


def _iterate(x: Floats, y: Floats, group: Ints, groups: int, *, offset: bool) -> Lines:
    """Return the lines, with an offset or without one, by weighing rows anew until that changes nothing."""
    rows = np.bincount(group, minlength=groups)
    freedom = len(y) - np.count_nonzero(rows) - 1
    common, slope = 0.0, _ratios(x, y, group, groups)
    positive = y[y > 0]
    floor = max(_FLOOR * _median(positive), _INSTANT)
    error, scale = np.nan, 1.0
    for _ in range(_ITERATIONS):
        line = common + slope[group] * x
        unit = line + floor
        off = np.abs(y - line) / unit
        settled = max(_DEVIATION * _median(off[rows[group] > 2]), _EXACT)
        scale = max(settled, scale / 4)  # slowly, as where most times are alike, the few others tell the line
        weight = np.minimum(1.0, _HUBER * scale / np.maximum(off, _EXACT * scale)) / unit**2
        before = np.append(slope, common)
        common, error = _offset(x, y, group, groups, weight, scale) if offset and freedom > 0 else (0.0, np.nan)
        slope = _slopes(x, y - common, group, groups, weight)
        if scale == settled and np.allclose(np.append(slope, common), before, rtol=1e-12, atol=0.0):
            break
    line = common + slope[group] * x
    spread = [_spread(y[group == g], line[group == g]) for g in range(groups)]
    known = np.bincount(group[x > _INSTANT], minlength=groups) > 0
    return Lines(np.where(known, slope, np.nan), np.array(spread, np.float64), common, error)


def _ratios(x: Floats, y: Floats, group: Ints, groups: int) -> Floats:
    """Return the median ratio of each group, 0 for one that has none."""
    usable = x > _INSTANT
    return np.array([_median(y[usable & (group == g)] / x[usable & (group == g)]) for g in range(groups)])


def _offset(x: Floats, y: Floats, group: Ints, groups: int, weight: Floats, scale: float) -> tuple[float, float]:
    """Return the common offset of weighted least squares, at least 0, and its error, NaN where x cannot tell it."""
    moment = np.bincount(group, weight * x * x, minlength=groups)
    of_one = np.divide(np.bincount(group, weight * x, minlength=groups), moment, out=np.zeros(groups), where=moment > 0)
    apart = 1 - x * of_one[group]  # what of an offset no slope can stand for
    information = float(weight @ apart**2)
    if information <= _EXACT * float(weight.sum()):
        return 0.0, np.nan
    return max(float((weight * apart) @ y) / information, 0.0), scale / information**0.5


def _slopes(x: Floats, y: Floats, group: Ints, groups: int, weight: Floats) -> Floats:
    """Return the slope through the origin of each group by weighted least squares, at least 0."""
    moment = np.bincount(group, weight * x * x, minlength=groups)
    product = np.bincount(group, weight * x * y, minlength=groups)
    return np.maximum(np.divide(product, moment, out=np.zeros(groups), where=moment > 0), 0.0)


def _spread(times: Floats, line: Floats) -> float:
    usable = line > _INSTANT
    if np.count_nonzero(usable) < 3:
        return np.nan
    return _DEVIATION * _median(np.abs(times[usable] / line[usable] - 1))


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else 0.0
