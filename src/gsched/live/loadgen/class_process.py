"""A class's load, in a process of its own: LoadGen's controller is one to a process, and threads of one abort it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from gsched.live.loadgen.metrics import Record
from gsched.live.loadgen.qsl import make_qsl
from gsched.live.loadgen.schedule import Schedule
from gsched.live.loadgen.sut import Connection, SchedulerSUT
from gsched.live.loadgen.verdict import Verdict, read_verdict
from gsched.live.loadgen.workload_config import SLO_LATENCY_NS
from gsched.live.memory import keep_large_blocks

CONNECT = 5.0  # seconds for connecting before the start
REPORT = 0.25  # seconds between two reports
NO_AUDIT = ""  # LoadGen would obey any audit.config that it finds where it runs


@dataclass(frozen=True, slots=True)
class ClassPlan:
    """What one class's process does.

    Args:
        tier: of its requests.
        slo: of its requests.
        qps: requested rate, on average.
        duration: seconds for which requests are sent, at least.
        connection: to the scheduler.
        seeds: of the schedule, LoadGen's samples (two), and models and inputs.
        min_queries: LoadGen goes on until there are as many.
        logs: folder for LoadGen's logs.
        schedule: when to send; None lets LoadGen do it.
    """

    tier: int
    slo: str
    qps: float
    duration: float
    connection: Connection
    seeds: tuple[int, int, int, int]
    min_queries: int = 1
    logs: Path | None = None
    schedule: Schedule | None = None

    @property
    def sending(self) -> float:
        """About how many seconds requests are sent for."""
        if self.schedule is None:
            return max(self.duration, self.min_queries / self.qps)
        return float(self.schedule.times[-1] / 1e9) if len(self.schedule.times) else 0.0

    @property
    def name(self) -> str:
        """The class, as its folder is called."""
        return f"tier{self.tier}_{self.slo}"


@dataclass(slots=True)
class Report:
    """What a class's process tells: what is new since its last report, and in the last one how it ended."""

    records: list[Record] = field(default_factory=list)
    issued: int = 0
    ended: bool = False
    began: int | None = None  # nanosecond since 1970 from which our own schedule counts
    verdict: Verdict | None = None
    problem: str = ""


def run_class(plan: ClassPlan, pipe: Pipe) -> None:
    """Wait for the word to go, send the class's requests, and report what comes of them."""
    keep_large_blocks()
    sut, drive = _with_loadgen(plan) if plan.schedule is None else _on_schedule(plan, plan.schedule)
    sut.connect(CONNECT)
    reporter = _Reporter(sut, pipe)
    with _parent():
        pipe.send(Report())
        pipe.recv()
    reporter.start()
    end = drive()
    sut.drain(plan.connection.timeout + 1.0)
    reporter.finish(end)
    sut.destroy()


@contextmanager
def _parent() -> Iterator[None]:
    """Talk to the parent; end at once where it is gone, and with it every reason to go on."""
    try:
        yield
    except (EOFError, OSError):
        os._exit(1)


class _Reporter(threading.Thread):
    """Sends new records to the parent now and then, so that they outlive this process."""

    def __init__(self, sut: SchedulerSUT, pipe: Pipe) -> None:
        super().__init__(name="reporter", daemon=True)
        self._sut, self._pipe = sut, pipe
        self._sent = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Report until finished."""
        with _parent():
            while not self._over.wait(REPORT):
                self._pipe.send(self._news())

    def finish(self, end: Report) -> None:
        """Send what is left together with how it ended."""
        self._over.set()
        self.join()
        news = self._news()
        end.records, end.issued, end.ended = news.records, news.issued, True
        with _parent():
            self._pipe.send(end)

    def _news(self) -> Report:
        with self._sut.lock:
            fresh = self._sut.records[self._sent :]
        self._sent += len(fresh)
        return Report(fresh, self._sut.issued)


Drive = Callable[[], Report]
"""Sends a class's requests, and says how that ended."""


def _with_loadgen(plan: ClassPlan) -> tuple[SchedulerSUT, Drive]:
    """Return a SUT whose queries MLPerf LoadGen's Server scenario issues."""
    import mlperf_loadgen as lg

    assert plan.logs is not None
    folder = plan.logs
    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.Server
    settings.mode = lg.TestMode.PerformanceOnly
    settings.server_target_qps = plan.qps
    settings.server_target_latency_ns = SLO_LATENCY_NS[plan.slo]
    settings.server_coalesce_queries = True
    settings.min_duration_ms = round(1000 * plan.duration)
    settings.min_query_count = max(1, plan.min_queries)
    settings.schedule_rng_seed, settings.sample_index_rng_seed, settings.qsl_rng_seed, seed = plan.seeds
    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    logs = lg.LogSettings()
    logs.log_output = output
    logs.enable_trace = False  # megabytes a minute about its own threads
    sut = SchedulerSUT(plan.connection, plan.tier, plan.slo, seed=seed)
    system, library = sut.build_sut(), make_qsl()

    def drive() -> Report:
        lg.StartTestWithLogSettings(system, library, settings, logs, NO_AUDIT)
        lg.DestroyQSL(library)
        try:
            return Report(verdict=read_verdict(folder, SLO_LATENCY_NS[plan.slo]))
        except ValueError as error:
            return Report(problem=str(error))

    return sut, drive


@dataclass(frozen=True, slots=True)
class _Sample:
    id: int


def _on_schedule(plan: ClassPlan, schedule: Schedule) -> tuple[SchedulerSUT, Drive]:
    """Return a SUT that gets a query at each time of a schedule, whatever has become of the others."""
    models, seed = schedule.models, plan.seeds[3]
    sut = SchedulerSUT(plan.connection, plan.tier, plan.slo, seed=seed, models=models, complete=lambda _ids: None)

    def drive() -> Report:
        began, origin = time.time_ns(), time.perf_counter_ns()
        for sample, at in enumerate(schedule.times.tolist()):
            while (ahead := at - (time.perf_counter_ns() - origin)) > 0:
                time.sleep(ahead / 1e9)
            sut.issue_query([_Sample(sample)])
        return Report(began=began)

    return sut, drive
