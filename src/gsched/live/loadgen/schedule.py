"""When requests are sent: the arrivals that LoadGen will make, and patterns of our own."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gsched.arrivals import Profile, draw_arrivals
from gsched.errors import InputError
from gsched.files import read_bytes
from gsched.live.loadgen.workload_config import MODEL_FOR_SLO, REQUEST_CLASSES
from gsched.workload import Longs

PATTERNS = ("poisson", "burst", "spike", "ramp", "trace")
BURST_PERIOD, BURST_LENGTH = 10.0, 2.0  # seconds
SPIKE_SHARE = 0.1  # of the duration, in its middle
RAMP_STEPS = 100

NANOSECONDS = {"timestamp_scheduled": 1, "seconds": 10**9}  # columns of a trace with times, and their units

Class = tuple[int, str]
"""Tier and SLO."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a class's requests are sent, in nanoseconds from the start, and for which models where that is given."""

    times: Longs
    models: Sequence[str] | None = None


def loadgen_arrivals(seed: int, qps: float, count: int) -> Longs:
    """Return when LoadGen's Server scenario schedules its first queries, in nanoseconds from its start.

    LoadGen does not tell its SUT, so this repeats what it computes: gaps from a `std::mt19937` of the seed through
    libstdc++'s exponential distribution, each cut to whole nanoseconds.
    """
    generator = np.random.MT19937()
    generator._legacy_seeding(seed)
    low, high = generator.random_raw(2 * count).astype(np.float64).reshape(-1, 2).T
    gaps = -np.log(1 - (low + high * 2.0**32) / 2.0**64) / qps
    times: Longs = np.concatenate([[0], np.cumsum((gaps * 1e9).astype(np.int64))])[:count]
    return times


def pattern_profile(pattern: str, duration: float, peak: float) -> tuple[Profile | None, float]:
    """Return how the rate of a pattern changes, and its mean, relative to the base rate.

    Args:
        pattern: `poisson` (no change), `burst` (`peak` times the rate for 2 of every 10 seconds), `spike` (once, for a
            tenth of the duration), `ramp` (from once to `peak` times the rate).
        duration: in seconds.
        peak: the highest rate.
    """
    if pattern == "burst":
        starts = np.arange(0.0, duration, BURST_PERIOD)
        profile = [step for start in starts for step in ((start, peak), (start + BURST_LENGTH, 1.0))]
        profile = [step for step in profile if step[0] < duration]
    elif pattern == "spike":
        half = SPIKE_SHARE * duration / 2
        profile = [(0.0, 1.0), (duration / 2 - half, peak), (duration / 2 + half, 1.0)]
    elif pattern == "ramp":
        shares = np.arange(RAMP_STEPS) / RAMP_STEPS
        profile = [(share * duration, 1.0 + (peak - 1.0) * (share + 0.5 / RAMP_STEPS)) for share in shares.tolist()]
    else:
        return None, 1.0
    times, rates = np.array(profile).T
    lengths = np.diff([*times, duration])
    return profile, float((rates * lengths).sum() / duration)


def draw_schedule(pattern: str, qps: float, duration: float, peak: float, seed: int) -> Schedule:
    """Draw a class's arrivals: a Poisson process whose rate follows the pattern.

    Args:
        pattern: its name.
        qps: base rate of the class.
        duration: in seconds.
        peak: the highest rate, relative to the base rate.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    profile, mean = pattern_profile(pattern, duration, peak)
    count = int(rng.poisson(qps * mean * duration))
    seconds = draw_arrivals(count, duration, rng, profile=profile)
    return Schedule((seconds * 1e9).astype(np.int64))


def read_trace(path: Path, shares: Mapping[Class, float], seed: int) -> dict[Class, Schedule]:
    """Read arrivals from a CSV file, by class.

    Args:
        path: with a header and a column `seconds`, or `timestamp_scheduled` in nanoseconds as the load generator
            writes it; further columns `tier` and `slo`, and `model`, where they are given. The first arrival is the
            start.
        shares: of the classes, from which those of lines without `tier` and `slo` are drawn.
        seed: of that draw.

    Raises:
        InputError: the file cannot be read, or a line of it makes no sense.
    """
    text = read_bytes(path).decode("utf-8-sig", errors="replace")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = _rows(reader, path)
    except csv.Error as error:
        raise InputError.one(path, f"line {reader.reader.line_num}", f"is no CSV ({error})", "correct it") from None
    if not rows:
        raise InputError.one(path, "", "holds no arrivals", "give one a line")
    drawn = _drawn_classes(shares, len(rows), seed)
    first = min(time for time, _, _ in rows)
    found: dict[Class, list[tuple[int, str]]] = {}
    for (time, kind, model), fallback in zip(rows, drawn, strict=True):
        found.setdefault(kind or fallback, []).append((time - first, model))
    return {kind: _schedule(sorted(found[kind])) for kind in REQUEST_CLASSES if kind in found}


def _schedule(rows: Sequence[tuple[int, str]]) -> Schedule:
    models = [model for _, model in rows]
    return Schedule(np.array([time for time, _ in rows], np.int64), models if any(models) else None)


def _drawn_classes(shares: Mapping[Class, float], count: int, seed: int) -> list[Class]:
    classes = list(shares)
    weights: npt.NDArray[np.float64] = np.array([shares[kind] for kind in classes])
    picks = np.random.default_rng(seed).choice(len(classes), count, p=weights / weights.sum())
    return [classes[pick] for pick in picks.tolist()]


def _rows(reader: "csv.DictReader[str]", path: Path) -> list[tuple[int, Class | None, str]]:
    """Return the time, the class and the model of each line."""
    columns = reader.fieldnames or ()
    column = next((name for name in NANOSECONDS if name in columns), None)
    if column is None:
        raise InputError.one(path, "line 1", "names no column seconds or timestamp_scheduled", "add a header")
    if ("tier" in columns) != ("slo" in columns):
        raise InputError.one(path, "line 1", "names only one of the columns tier and slo", "give both or neither")
    unit, rows = NANOSECONDS[column], []
    for row in reader:
        place = f"line {reader.line_num}"
        try:
            time = int(row[column]) if unit == 1 else round(float(row[column]) * unit)
            kind = (int(row["tier"]), row["slo"]) if row.get("tier") or row.get("slo") else None
        except (TypeError, ValueError, OverflowError):
            raise InputError.one(path, place, "has a time or tier that is no number", "correct it") from None
        if not 0 <= time < 2**63 or (kind is not None and kind not in REQUEST_CLASSES):
            message = f"has a time out of range, or no class of tier 1 to 3 and SLO {', '.join(MODEL_FOR_SLO)}"
            raise InputError.one(path, place, message, "correct it")
        rows.append((time, kind, row.get("model") or ""))
    return rows
