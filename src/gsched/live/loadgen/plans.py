"""From what a user wants to the plan of each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsched.errors import InputError
from gsched.live.loadgen.class_process import ClassPlan
from gsched.live.loadgen.schedule import PATTERNS, Class, draw_schedule, pattern_profile, read_trace
from gsched.live.loadgen.sut import Connection
from gsched.live.loadgen.workload_config import REQUEST_CLASSES, WORKLOAD_DISTRIBUTIONS

SMALLEST_RATE = 0.01  # requests/s of a class below which it is left out
MOST_REQUESTS = 5_000_000
MOST_QPS = 100_000.0
SHORTEST, LONGEST = 1.0, 86_400.0  # seconds over which a trace's rate is taken at least; of any load at most

Seeds = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Load:
    """The load to offer.

    Args:
        connection: to the scheduler.
        qps: rate of all classes together.
        duration: in seconds.
        workload: name of the distribution over the classes.
        min_queries: LoadGen goes on until a class has as many.
        seed: of everything that is drawn.
        pattern: None for MLPerf LoadGen's Poisson arrivals; else one of `PATTERNS`, sent by a driver of our own.
        peak: highest rate of a pattern, relative to the base rate.
        trace: file with arrivals, for the pattern `trace`.
        logs: folder for LoadGen's logs, one within it for each class.

    Raises:
        InputError: a value is out of range, or values contradict each other.
    """

    connection: Connection
    qps: float = 30.0
    duration: float = 60.0
    workload: str = "balanced"
    min_queries: int = 100
    seed: int = 0
    pattern: str | None = None
    peak: float = 4.0
    trace: Path | None = None
    logs: Path = Path("loadgen_logs")

    def __post_init__(self) -> None:
        if self.workload not in WORKLOAD_DISTRIBUTIONS:
            known = ", ".join(WORKLOAD_DISTRIBUTIONS)
            raise InputError.one("options", "", f"there is no workload {self.workload!r}", f"choose one of {known}")
        if not 0 < self.qps <= MOST_QPS:
            raise InputError.one("options", "", f"the load must be above 0 and at most {MOST_QPS:,.0f} requests/s", "")
        if not 0 < self.duration <= LONGEST:
            raise InputError.one("options", "", f"the duration must be above 0 and at most {LONGEST:,.0f} s", "")
        if self.pattern not in (None, *PATTERNS):
            known = ", ".join(PATTERNS)
            raise InputError.one("options", "", f"there is no pattern {self.pattern!r}", f"choose one of {known}")
        if (self.trace is not None) != (self.pattern == "trace"):
            raise InputError.one("options", "", "--pattern trace and --trace FILE belong together", "give both")
        if not 1 <= self.peak <= 1000:
            raise InputError.one("options", "", f"the peak must be 1 to 1000 times the load, not {self.peak:g}", "")
        if self.requests > MOST_REQUESTS:
            raise _too_many("options", self.requests)

    @property
    def requests(self) -> float:
        """About how many requests will be sent; 0 with a trace, which tells."""
        if self.trace is not None:
            return 0.0
        if self.pattern is not None:
            return self.qps * self.duration * pattern_profile(self.pattern, self.duration, self.peak)[1]
        return sum(max(qps * self.duration, self.min_queries) for qps in self.rates.values())

    @property
    def rates(self) -> dict[Class, float]:
        """Base rate of each class that has any load."""
        shares = WORKLOAD_DISTRIBUTIONS[self.workload]
        rates = {kind: shares[kind] * self.qps for kind in REQUEST_CLASSES}
        return {kind: qps for kind, qps in rates.items() if qps >= SMALLEST_RATE}


def class_plans(load: Load) -> list[ClassPlan]:
    """Return the plan of each class that has any load.

    Raises:
        InputError: no class has any, a class would take too long, or the trace cannot be used.
    """
    seeds = class_seeds(load.seed)
    if load.trace:
        plans = _traced_plans(load, load.trace, seeds)
    else:
        plans = [_class_plan(load, kind, qps, seeds[kind]) for kind, qps in load.rates.items()]
    if not plans:
        message = f"no class would get {SMALLEST_RATE:g} requests/s"
        raise InputError.one("options", "", message, "raise --total-qps")
    longest = max(plans, key=lambda plan: plan.sending)
    if longest.sending > LONGEST:
        message = f"{longest.name} would be loaded for {longest.sending:,.0f} s"
        raise InputError.one(load.trace or "options", "", message, f"a run takes at most {LONGEST:,.0f} s")
    return plans


def class_seeds(seed: int) -> Mapping[Class, Seeds]:
    """Return independent seeds for each class; LoadGen keeps 32 bits of one."""
    children = np.random.SeedSequence(seed).spawn(len(REQUEST_CLASSES))
    drawn: Sequence[list[int]] = [child.generate_state(4, np.uint32).tolist() for child in children]
    return {kind: (a, b, c, d) for kind, (a, b, c, d) in zip(REQUEST_CLASSES, drawn, strict=True)}


def _class_plan(load: Load, kind: Class, qps: float, seeds: Seeds) -> ClassPlan:
    """Return the plan of a class that is loaded by LoadGen or after a pattern."""
    tier, slo = kind
    if load.pattern is None:
        logs = load.logs / f"tier{tier}_{slo}"
        return ClassPlan(tier, slo, qps, load.duration, load.connection, seeds, load.min_queries, logs)
    schedule = draw_schedule(load.pattern, qps, load.duration, load.peak, seeds[0])
    _, mean = pattern_profile(load.pattern, load.duration, load.peak)
    return ClassPlan(tier, slo, qps * mean, load.duration, load.connection, seeds, schedule=schedule)


def _traced_plans(load: Load, trace: Path, seeds: Mapping[Class, Seeds]) -> list[ClassPlan]:
    schedules = read_trace(trace, WORKLOAD_DISTRIBUTIONS[load.workload], load.seed)
    count = sum(len(schedule.times) for schedule in schedules.values())
    if count > MOST_REQUESTS:
        raise _too_many(trace, count)
    duration = max(SHORTEST, *(schedule.times[-1] / 1e9 for schedule in schedules.values()))
    return [
        ClassPlan(*kind, len(schedule.times) / duration, duration, load.connection, seeds[kind], schedule=schedule)
        for kind, schedule in schedules.items()
    ]


def _too_many(source: object, count: float) -> InputError:
    message = f"that would be about {count:,.0f} requests"
    return InputError.one(source, "", message, f"a run has at most {MOST_REQUESTS:,}")
