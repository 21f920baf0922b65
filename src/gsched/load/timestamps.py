"""Timestamps as nanoseconds since the epoch."""

import re
from datetime import UTC, datetime, timedelta
from typing import Literal

from gsched.arrivals import LAST, YEARS
from gsched.load.fields import show

Zone = Literal["zoned", "naive"]

_NAIVE_EPOCH = datetime(1970, 1, 1)
_ZONED_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PARTS = re.compile(r"(?P<until>[^.,]*)[.,](?P<fraction>\d+)(?P<zone>\D.*)?", re.DOTALL)


def nanoseconds(value: object) -> tuple[int, Zone]:
    """Return a timestamp in nanoseconds since the epoch, and whether it knew its zone (if not, UTC is assumed).

    Args:
        value: an ISO 8601 text with up to nine digits of a second's fraction, or seconds since the epoch.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be an ISO 8601 text or seconds since 1970")
    if not 0 <= value < 9.2e9:
        raise ValueError(f"must be seconds since 1970, not {show(value)}")
    return round(value * 1e9), "zoned"


def _from_text(text: str) -> tuple[int, Zone]:
    below_microsecond = 0
    parts = _PARTS.fullmatch(text) if len(text) > 26 else None
    if parts and len(parts["fraction"]) > 6:
        digits = parts["fraction"][:9].ljust(9, "0")
        text = f"{parts['until']}.{digits[:6]}{parts['zone'] or ''}"
        below_microsecond = int(digits[6:])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{show(text)} is no ISO 8601 timestamp") from None
    naive = moment.tzinfo is None
    since = moment - (_NAIVE_EPOCH if naive else _ZONED_EPOCH)
    timestamp = since // _MICROSECOND * 1000 + below_microsecond
    if not 0 <= timestamp <= LAST:
        raise ValueError(f"{show(text)} lies outside the years {YEARS}")
    return timestamp, "naive" if naive else "zoned"
