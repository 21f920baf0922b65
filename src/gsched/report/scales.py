"""Which part of the numbers an axis shows, and where it is logarithmic: the same in pictures and on pages."""

from collections.abc import Sequence
from math import floor, log10
from typing import NamedTuple

LOG = ", log scale"  # what the label of a logarithmic axis adds

_DECADES_FROM = 50  # an axis is logarithmic where the largest value is that many times the smallest above 0
_MOST_RATIO = 1e4  # of values on the logarithmic piece of an axis
_NOTHING = 1e-5  # of the largest value: what rounding, and the care of a bound, leave of a 0
_REACH = 1.5  # times the largest mean: what intervals may add to an axis
_DOUBLINGS_FROM = 4  # sizes and loads that span more are told apart better by their ratios


class Scale(NamedTuple):
    """The range of an axis.

    Args:
        low, high: its ends.
        log: from where on it is logarithmic, `low` or, after a linear piece that begins at `low`, above it; 0 where it
            is linear.
    """

    low: float
    high: float
    log: float = 0.0


def value_scale(means: Sequence[float], highs: Sequence[float] = ()) -> Scale:
    """Return an axis that begins at 0, or that is logarithmic where values differ by decades.

    Zeros among decades, and what is next to nothing, stand below the others on a linear piece of the axis. Of an
    interval that is far wider than the values, as those of two seeds are, the axis shows a part.

    Args:
        means: what must be seen, 0 or above.
        highs: upper ends of intervals.
    """
    most = max(means) if max(means, default=0.0) > 0 else 1.0
    above = [value for value in means if value > _NOTHING * most]
    top = max(most, min(max(highs, default=0.0), _REACH * most))
    if not above or most < _DECADES_FROM * min(above):
        return Scale(0.0, 1.06 * top)
    low = max(min(above), most / _MOST_RATIO)
    if low > min(means):
        return Scale(0.0, 1.5 * top, 10.0 ** floor(log10(low)))
    return Scale(min(above) / 2, 1.5 * top, min(above) / 2)


def ratio_scale(means: Sequence[float]) -> Scale:
    """Return an axis around ratios, which need not begin at 0."""
    low, high = min(means), max(means)
    spare = 0.25 * ((high - low) or 1.0)
    return Scale(max(low - spare, 0.0), high + spare)


def count_scale(counts: Sequence[float]) -> Scale:
    """Return an axis for cluster sizes or loads, logarithmic where they span more than two doublings."""
    low, high = min(counts), max(counts)
    if low > 0 and high > _DOUBLINGS_FROM * low:
        spare = (high / low) ** 0.06
        return Scale(low / spare, high * spare, low / spare)
    spare = 0.06 * (high - low) or 1.0
    return Scale(low - spare, high + spare)
