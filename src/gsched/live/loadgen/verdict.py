"""LoadGen's own verdict on a class's run, with its reasons in words."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsched.errors import InputError

_DETAIL = "mlperf_log_detail.txt"
_MARK = ":::MLLOG "
_MORE = re.compile(r"at least (\d+) more")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What LoadGen says.

    Args:
        valid: whether it calls the run VALID.
        reasons: why not.
        following: nanoseconds from the start at which the query after the last would have been scheduled.
    """

    valid: bool
    reasons: tuple[str, ...]
    following: int


def clear_logs(folder: Path) -> None:
    """Make the folder of LoadGen's logs, and remove an earlier verdict: LoadGen leaves it where it cannot start.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _DETAIL).unlink(missing_ok=True)
    except OSError as error:
        raise InputError.one(folder, "", f"cannot be written ({error.strerror})", "choose another place") from error


def read_verdict(folder: Path, target_ns: int) -> Verdict:
    """Read the verdict from the folder of LoadGen's logs.

    Args:
        folder: of one class.
        target_ns: its latency target.

    Raises:
        ValueError: the logs hold none, because LoadGen did not come to its end.
    """
    path = folder / _DETAIL
    try:
        lines = path.read_text(errors="replace").splitlines()
        entries = [json.loads(line.removeprefix(_MARK)) for line in lines if line.startswith(_MARK)]
        found = {entry["key"]: entry["value"] for entry in entries}
        valid = found["result_validity"] == "VALID"
        reasons = () if valid else tuple(_reasons(found, target_ns))
        return Verdict(valid, reasons, int(found["generated_query_duration"]))
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{path} holds no result of LoadGen") from error


def _reasons(found: dict[str, Any], target_ns: int) -> list[str]:
    count, late = found["result_query_count"], found["result_overlatency_query_count"]
    reasons = []
    if not found["result_perf_constraints_met"]:
        p99 = found["result_99.00_percentile_latency_ns"] / 1e6
        reasons.append(f"p99 {p99:,.0f} ms is above {target_ns / 1e6:,.0f} ms ({late:,} of {count:,} late)")
    if not found["result_min_duration_met"]:
        reasons.append("shorter than the minimum duration")
    if not found["result_min_queries_met"]:
        reasons.append("fewer queries than the minimum")
    if not found["early_stopping_met"]:
        reasons.append(_too_few(str(found["early_stopping_result"]), count, late))
    return reasons or [str(found["result_invalid_reason"]) or "LoadGen gives no reason"]


def _too_few(text: str, count: int, late: int) -> str:
    more = _MORE.search(text)
    enough = f", at least {count + int(more[1]):,} are needed" if more else ""
    return f"too few queries to be sure of p99: {count:,} with {late:,} late{enough}"
