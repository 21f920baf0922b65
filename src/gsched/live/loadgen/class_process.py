"""A class's load, in a process of its own: LoadGen's controller is one to a process, and threads of one abort it."""

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from gsched.live.loadgen.metrics import Record
from gsched.live.loadgen.qsl import make_qsl
from gsched.live.loadgen.schedule import Schedule
from gsched.live.loadgen.sut import Connection, SchedulerSUT
from gsched.live.loadgen.verdict import Verdict, read_verdict
from gsched.live.loadgen.workload_config import SLO_LATENCY_NS

CONNECT = 5.0  # seconds for connecting before the start
REPORT = 0.25  # seconds between two reports
SPIN = 0.001  # seconds before a time from which sleeping is too coarse


@dataclass(frozen=True, slots=True)
class ClassPlan:
    """What one class's process does.

    Args:
        tier: of its requests.
        slo: of its requests.
        qps: requested rate.
        duration: seconds for which requests are sent, at least.
        connection: to the scheduler.
        seeds: five, of the schedule, LoadGen's samples (two), and inputs.
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    models = plan.schedule.models if plan.schedule else None
    complete = {} if plan.schedule is None else {"complete": lambda _ids: None}
    sut = SchedulerSUT(plan.connection, plan.tier, plan.slo, seed=plan.seeds[3], models=models, **complete)
    sut.connect(CONNECT)
    reporter = _Reporter(sut, pipe)
    pipe.send(Report())
    pipe.recv()
    reporter.start()
    end = _with_loadgen(plan, sut) if plan.schedule is None else _on_schedule(plan.schedule, sut)
    sut.drain(plan.connection.timeout + 1.0)
    reporter.finish(end)
    sut.destroy()


class _Reporter(threading.Thread):
    """Sends new records to the parent now and then, so that they outlive this process."""

    def __init__(self, sut: SchedulerSUT, pipe: Pipe) -> None:
        super().__init__(name="reporter", daemon=True)
        self._sut, self._pipe = sut, pipe
        self._sent = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Report until finished."""
        try:
            while not self._over.wait(REPORT):
                self._pipe.send(self._news())
        except OSError:  # the parent is gone, and with it every reason to go on
            os._exit(1)

    def finish(self, end: Report) -> None:
        """Send what is left together with how it ended."""
        self._over.set()
        self.join()
        news = self._news()
        end.records, end.issued, end.ended = news.records, news.issued, True
        self._pipe.send(end)

    def _news(self) -> Report:
        with self._sut.lock:
            fresh = self._sut.records[self._sent :]
        self._sent += len(fresh)
        return Report(fresh, self._sut.issued)


def _with_loadgen(plan: ClassPlan, sut: SchedulerSUT) -> Report:
    """Let MLPerf LoadGen's Server scenario issue the queries."""
    import mlperf_loadgen as lg

    assert plan.logs is not None
    folder = plan.logs.absolute()
    os.chdir(folder)  # LoadGen obeys any audit.config that it finds where it runs
    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.Server
    settings.mode = lg.TestMode.PerformanceOnly
    settings.server_target_qps = plan.qps
    settings.server_target_latency_ns = SLO_LATENCY_NS[plan.slo]
    settings.server_coalesce_queries = True
    settings.min_duration_ms = round(1000 * plan.duration)
    settings.min_query_count = max(1, plan.min_queries)
    settings.schedule_rng_seed, settings.sample_index_rng_seed, settings.qsl_rng_seed, _ = plan.seeds
    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    logs = lg.LogSettings()
    logs.log_output = output
    library = make_qsl()
    lg.StartTestWithLogSettings(sut.build_sut(), library, settings, logs)
    lg.DestroyQSL(library)
    try:
        return Report(verdict=read_verdict(folder, SLO_LATENCY_NS[plan.slo]))
    except ValueError as error:
        return Report(problem=str(error))


@dataclass(frozen=True, slots=True)
class _Sample:
    id: int


def _on_schedule(schedule: Schedule, sut: SchedulerSUT) -> Report:
    """Issue a query at each time of a schedule, whatever has become of the others."""
    began, origin = time.time_ns(), time.perf_counter_ns()
    for sample, at in enumerate(schedule.times.tolist()):
        while (ahead := (at - (time.perf_counter_ns() - origin)) / 1e9) > 0:
            time.sleep(ahead - SPIN if ahead > 2 * SPIN else 0)
        sut.issue_query([_Sample(sample)])
    return Report(began=began)
