"""What the twin says beside what was measured, by class."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gsched.errors import InputError, PolicyError
from gsched.live.loadgen.workload_config import SLO_LATENCY_NS
from gsched.live.scheduler.engine import Batch, Engine, Outcome, Request, Rules
from gsched.live.scheduler.estimates import ServiceTimes
from gsched.live.scheduler.record import Served
from gsched.live.scheduler.twin import replay
from gsched.policies import Policy
from gsched.table import plain_table
from gsched.workload import Floats

if TYPE_CHECKING:
    from rich.table import Table


class Row(NamedTuple):
    """A class, measured and simulated; attainment in percent, latencies of what was done in ms, NaN of none."""

    tier: int
    slo: str
    requests: int
    attainment: float
    simulated_attainment: float
    p50: float
    simulated_p50: float
    p99: float
    simulated_p99: float


NEAR = 5  # measured batches before a simulated one, and as many after it, of which one is drawn


class _ServiceTimes:
    """Service times as measured: for each model a straight line over the batch size, times the drift of that moment.

    A machine is faster at one time than at another, so a batch takes the drift of a measured one that ran about then.
    `profiles` are the lines that the scheduler knew when it started.
    """

    def __init__(self, served: Iterable[Served], models: Sequence[str], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        batches = {entry.batch: entry for entry in served if entry.batch >= 0}
        self._lines: list[tuple[float, float]] = []
        self.profiles: list[tuple[float, float]] = []
        self._ends, self._drifts = [], []
        for model in models:
            own = sorted(
                (b.arrival + b.latency, b.batch_size, b.batch_seconds, b.batch_profile)
                for b in batches.values()
                if b.model == model
            )
            ends, sizes, seconds, profiles = np.array(own).T
            fixed, each = _line(sizes, seconds)
            self._lines.append((fixed, each))
            self.profiles.append(_line(sizes, profiles))
            expected = fixed + each * sizes
            self._ends.append(ends)
            self._drifts.append(np.divide(seconds, expected, out=np.ones_like(seconds), where=expected > 0))

    def draw(self, batch: Batch) -> float:
        """Return the seconds of a batch."""
        fixed, each = self._lines[batch.model]
        at = int(np.searchsorted(self._ends[batch.model], batch.started))
        drift = self._rng.choice(self._drifts[batch.model][max(0, at - NEAR) : at + NEAR])
        return float(drift) * (fixed + each * len(batch.requests))


def _line(sizes: Floats, seconds: Floats) -> tuple[float, float]:
    """Return the seconds of any batch and those of each request that fit best, neither of them negative."""
    if len(np.unique(sizes)) > 1:
        each, fixed = np.polyfit(sizes, seconds, 1).tolist()
        if fixed >= 0 and each >= 0:
            return fixed, each
    return 0.0, float(seconds.sum() / sizes.sum())


def compare(served: Sequence[Served], policy: Policy, devices: int, rules: Rules, seed: int) -> list[Row]:
    """Repeat the arrivals of a record through the engine in virtual time, with service times drawn from the record.

    Args:
        served: the record.
        policy: that of the run, or another.
        devices: batches that run at once.
        rules: those of the run, or others.
        seed: of the draw.

    Raises:
        InputError: a model was never computed, so nothing is known of how long it takes.
        PolicyError: the policy decided something against the rules, or waits for ever.
    """
    served = [entry for entry in served if entry.outcome is not Outcome.CANCELLED]
    if not served:
        raise InputError.one("record", "", "holds only cancelled requests", "record a longer run")
    models = sorted({entry.model for entry in served})
    missing = set(models) - {entry.model for entry in served if entry.batch >= 0}
    if missing:
        raise InputError.one("record", f"model {min(missing)}", "was never computed", "record a longer run")
    times = _ServiceTimes(served, models, seed)
    engine = Engine(models, devices, policy, ServiceTimes(times.profiles), rules)
    requests = [
        Request(models.index(entry.model), entry.tier, entry.arrival + entry.deadline, entry.arrival, entry)
        for entry in served
    ]
    simulated = [
        answer.request.payload._replace(outcome=answer.outcome, latency=now - answer.request.arrival)
        for now, answer in replay(engine, requests, times.draw)
    ]
    if unanswered := len(served) - len(simulated):
        raise PolicyError(f"policy {policy.name}: waits although {unanswered} requests wait and nothing runs")
    return _rows(served, simulated)


def _rows(measured: Iterable[Served], simulated: Iterable[Served]) -> list[Row]:
    groups: dict[tuple[int, str], tuple[list[Served], list[Served]]] = defaultdict(lambda: ([], []))
    for side, entries in enumerate((measured, simulated)):
        for entry in entries:
            groups[entry.tier, entry.slo][side].append(entry)
    order = [*SLO_LATENCY_NS, "longer", "none"]
    rows = []
    for (tier, slo), (real, virtual) in sorted(groups.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        pairs = zip(_figures(real), _figures(virtual), strict=True)
        rows.append(Row(tier, slo, len(real), *(figure for pair in pairs for figure in pair)))
    return rows


def _figures(entries: Sequence[Served]) -> tuple[float, float, float]:
    """Return attainment in percent, and the p50 and p99 latency in ms."""
    times = [1e3 * entry.latency for entry in entries if entry.outcome is Outcome.DONE]
    p50, p99 = np.percentile(times, [50, 99]).tolist() if times else (float("nan"), float("nan"))
    return 100 * sum(entry.in_time for entry in entries) / len(entries), p50, p99


def comparison_table(rows: Iterable[Row]) -> "Table":
    """Return a table of the classes, simulated beside measured."""
    table = plain_table()
    table.add_column("tier")
    table.add_column("slo")
    for title in ("requests", "in time", "simulated", "p50_ms", "simulated", "p99_ms", "simulated"):
        table.add_column(title, justify="right")
    for row in rows:
        shares = [f"{share:.1f}%" for share in (row.attainment, row.simulated_attainment)]
        times = [f"{time:,.1f}" for time in (row.p50, row.simulated_p50, row.p99, row.simulated_p99)]
        table.add_row(str(row.tier), row.slo, f"{row.requests:,}", *shares, *times)
    return table
