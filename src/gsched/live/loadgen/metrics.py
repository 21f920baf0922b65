"""What came of the requests: one record each, a CSV file, and the summary by class."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from gsched.live.loadgen.workload_config import REQUEST_CLASSES
from gsched.table import plain_table

if TYPE_CHECKING:
    from rich.table import Table


class Record(TypedDict):
    """A request and its outcome; times in nanoseconds since 1970.

    `slo_met` says that it was done and that `latency_ns` is within the class's SLO. The latency counts from the
    scheduled time, as LoadGen's does; where that is not known, from `timestamp_issued`.
    """

    number: int  # of the class's requests, in the order in which they were issued
    timestamp_issued: int
    sample_id: int
    tier: int
    slo: str
    model_name: str
    latency_ns: int
    slo_met: bool
    timestamp_scheduled: int
    timestamp_sent: int
    outcome: str
    error: str


OUTCOMES = ("done", "expired", "rejected", "failed", "timeout", "unavailable", "garbage", "unsent")
"""How a request may end: the first three are answers of the scheduler, `failed` an error that it reported, `timeout` no
answer in time, `unavailable` no connection, `garbage` an answer that makes no sense, `unsent` that the load generator
could not send it, such as with too many under way."""
ANSWERS = ("done", "expired", "rejected", "failed")

COLUMNS = (
    *("timestamp_issued", "sample_id", "tier", "slo", "model", "latency_ns", "latency_ms", "slo_met"),
    *("timestamp_scheduled", "timestamp_sent", "outcome", "error"),
)


def write_csv(records: Iterable[Record], output_path: str | Path) -> None:
    """Write a line for each record, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    from gsched.files import whole_file

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for record in records:
        known = {**record, "model": record["model_name"], "latency_ms": round(record["latency_ns"] / 1e6, 3)}
        known["slo_met"] = "true" if record["slo_met"] else "false"
        writer.writerow([known[column] for column in COLUMNS])
    with whole_file(Path(output_path)) as file:
        file.write(text.getvalue().encode(errors="replace"))  # what a scheduler says may hold half a character


def by_class(records: Iterable[Record]) -> dict[tuple[int, str], list[Record]]:
    """Return the records of each class that has any, in the usual order of the classes."""
    found: dict[tuple[int, str], list[Record]] = {}
    for record in records:
        found.setdefault((record["tier"], record["slo"]), []).append(record)
    return {kind: found[kind] for kind in REQUEST_CLASSES if kind in found}


def attainment(records: Sequence[Record]) -> float:
    """Return the share of records whose SLO was met, 0 to 1; 1 of none."""
    return sum(record["slo_met"] for record in records) / len(records) if records else 1.0


def latencies_ms(records: Iterable[Record]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return the latencies of the records that were done, in milliseconds."""
    return np.array([record["latency_ns"] / 1e6 for record in records if record["outcome"] == "done"])


def summary_table(records: Iterable[Record]) -> "Table":
    """Return the table of `print_summary`."""
    table = plain_table()
    table.add_column("tier")
    table.add_column("slo")
    for title in ("count", "done", "p50_ms", "p95_ms", "p99_ms", "slo_attainment_%"):
        table.add_column(title, justify="right")
    groups = by_class(records)
    for (tier, slo), members in groups.items():
        table.add_row(str(tier), slo, *_figures(members))
    if len(groups) > 1:
        table.add_section()
        table.add_row("all", "", *_figures([record for members in groups.values() for record in members]))
    return table


def _figures(records: Sequence[Record]) -> list[str]:
    times = latencies_ms(records)
    percentiles = [f"{np.percentile(times, q):,.1f}" if len(times) else "-" for q in (50, 95, 99)]
    return [f"{len(records):,}", f"{len(times):,}", *percentiles, f"{100 * attainment(records):.1f}"]


def print_summary(records: Iterable[Record]) -> None:
    """Print counts, percentiles of the latency of what was done, and SLO attainment by tier and SLO."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(summary_table(records))
