"""What was asked of each class's load and what was delivered, with LoadGen's verdict."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gsched.live.loadgen.metrics import ANSWERS, OUTCOMES, latencies_ms
from gsched.live.loadgen.run import ClassRun
from gsched.table import plain_table

if TYPE_CHECKING:
    from rich.table import Table


def stimulus_table(runs: Sequence[ClassRun]) -> "Table":
    """Return a table of the load that was asked for and delivered, how late it was sent, and how it ended."""
    table = plain_table()
    table.add_column("class")
    for title in ("asked/s", "sent/s", "lag_p50_ms", "lag_p99_ms", "expired", "rejected", "failed", "no answer"):
        table.add_column(title, justify="right")
    if any(run.verdict for run in runs):
        table.add_column("LoadGen")
    for run in runs:
        counts = _outcomes(run)
        unanswered = sum(counts[outcome] for outcome in OUTCOMES if outcome not in ANSWERS)
        lags = [f"{np.percentile(run.lag_ms, q):,.2f}" if len(run.lag_ms) else "-" for q in (50, 99)]
        cells = [f"{run.plan.qps:,.2f}", f"{run.delivered_qps:,.2f}", *lags]
        cells += [f"{count:,}" for count in (counts["expired"], counts["rejected"], counts["failed"], unanswered)]
        if run.verdict:
            cells.append("VALID" if run.verdict.valid else "INVALID")
        table.add_row(run.plan.name, *cells)
    return table


def _outcomes(run: ClassRun) -> dict[str, int]:
    counts = dict.fromkeys(OUTCOMES, 0)
    for record in run.records:
        counts[record["outcome"]] += 1
    return counts


def figures(runs: Sequence[ClassRun]) -> list[dict[str, Any]]:
    """Return the same and the latencies as data, for scripts."""
    return [_figures(run) for run in runs]


def _figures(run: ClassRun) -> dict[str, Any]:
    times = latencies_ms(run.records)
    verdict = run.verdict and {"valid": run.verdict.valid, "reasons": run.verdict.reasons}
    return {
        "tier": run.plan.tier,
        "slo": run.plan.slo,
        "requests": run.issued,
        "records": len(run.records),
        "outcomes": _outcomes(run),
        "requested_qps": run.plan.qps,
        "delivered_qps": run.delivered_qps,
        "send_lag_ms": {f"p{q}": float(np.percentile(run.lag_ms, q)) for q in (50, 99) if len(run.lag_ms)},
        "latency_ms": {f"p{q}": float(np.percentile(times, q)) for q in (50, 95, 99) if len(times)},
        "slo_attainment": run.attainment,
        "loadgen": verdict,
    }
