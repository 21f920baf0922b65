"""A load test: one process for each class, started together, watched, and never waited for without a limit."""

import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import numpy as np

from gsched.live.loadgen.class_process import ClassPlan, Report, run_class
from gsched.live.loadgen.metrics import ANSWERS, Record, attainment
from gsched.live.loadgen.schedule import loadgen_arrivals
from gsched.live.loadgen.verdict import Verdict, clear_logs
from gsched.live.loadgen.workload_config import SLO_LATENCY_NS
from gsched.workload import Longs

START_LIMIT = 120.0  # seconds until every process must be ready
SLACK = 30.0  # seconds that a class may take beyond what its schedule and the timeout of calls allow
MIN_DELIVERED = 0.95  # share of the requested load below which a run says little
MAX_LAG = 0.1  # share of the SLO after which a request was sent late, for which the generator is to blame
MOST_LATE = 0.01  # share of requests that may be; a single one always may
ROUNDING = 1000  # nanoseconds by which our copy of LoadGen's arrivals may differ


@dataclass(slots=True)
class ClassRun:
    """What came of a class.

    Args:
        plan: what was to be done.
        records: one for each request.
        issued: how many requests there were.
        verdict: LoadGen's, where it was used.
        problem: why the class did not come to its end; empty where it did.
        lag_ms: from a request's scheduled time to its sending, where both are known.
        seconds: from the first scheduled time to the last.
    """

    plan: ClassPlan
    records: list[Record] = field(default_factory=list)
    issued: int = 0
    verdict: Verdict | None = None
    problem: str = ""
    lag_ms: "np.ndarray[tuple[int], np.dtype[np.float64]]" = field(default_factory=lambda: np.zeros(0))
    seconds: float = 0.0

    @property
    def delivered_qps(self) -> float:
        """Rate at which requests were sent."""
        sent = sum(record["timestamp_sent"] > 0 for record in self.records)
        return sent / self.seconds if self.seconds > 0 else 0.0

    @property
    def attainment(self) -> float:
        """Share of requests whose SLO was met."""
        return attainment(self.records)

    def complaints(self) -> Iterator[str]:
        """Yield why the class says little about the scheduler."""
        if self.problem:
            yield self.problem
        if len(self.records) != self.issued:
            yield f"{self.issued - len(self.records):,} of {self.issued:,} requests have no record"
        lost = [record for record in self.records if record["outcome"] not in ANSWERS]
        if lost:
            kinds = Counter(record["outcome"] for record in lost)
            told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(kinds.items()))
            yield f"{len(lost):,} of {self.issued:,} requests got no answer ({told}; the first: {lost[0]['error']})"
        failed = next((record for record in self.records if record["outcome"] == "failed"), None)
        if failed and not any(record["outcome"] == "done" for record in self.records):
            yield f"no request was done (the first that failed: {failed['error']})"
        sent, wanted = sum(record["timestamp_sent"] > 0 for record in self.records), self.issued
        if wanted and sent < MIN_DELIVERED * wanted:
            yield f"only {sent:,} of {wanted:,} requests were sent"
        limit = MAX_LAG * SLO_LATENCY_NS[self.plan.slo] / 1e6
        if (late := int((self.lag_ms > limit).sum())) > max(1, MOST_LATE * len(self.lag_ms)):
            yield f"{late:,} requests were sent late, up to {self.lag_ms.max():,.0f} ms (over {limit:g} ms each)"


def complaints(runs: Sequence[ClassRun]) -> list[str]:
    """Return why the runs of all classes together say little about the scheduler, by class."""
    if not any(run.issued for run in runs) and not any(run.problem for run in runs):
        return ["not one request was due: the load is too small, or too short"]
    return [f"{run.plan.name}: {complaint}" for run in runs for complaint in run.complaints()]


Progress = Callable[[float, int, int, int], None]
"""Called now and then with the seconds since the start, and how many requests were issued, ended and in time."""


def run_load(plans: Sequence[ClassPlan], progress: Progress | None = None) -> list[ClassRun]:
    """Run the load of all classes at once, and return what came of each.

    Raises:
        InputError: the logs cannot be written.
    """
    for logs in filter(None, (plan.logs for plan in plans)):
        clear_logs(logs)
    workers: list[_Worker] = []
    try:
        with ThreadPoolExecutor(1) as starter:  # signals interrupt the main thread: here, each start is a whole one
            starter.submit(_start, plans, workers).result()
        _Watch(workers, progress).run()
    finally:
        for worker in workers:
            worker.end()
    for worker in workers:
        _add_schedule(worker)
    return [worker.run for worker in workers]


def _start(plans: Sequence[ClassPlan], workers: "list[_Worker]") -> None:
    """Start the processes, which Ctrl-C will not reach: this one ends them."""
    resource_tracker.ensure_running()  # its start would let interruptions in again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    context = multiprocessing.get_context("spawn")  # a fork while gRPC is in use may hang
    for plan in plans:
        ours, theirs = context.Pipe()
        process = context.Process(target=run_class, args=(plan, theirs), name=plan.name, daemon=True)
        process.start()
        theirs.close()
        workers.append(_Worker(process, ours, ClassRun(plan)))


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Pipe
    run: ClassRun
    in_time: int = 0
    ready: bool = False
    over: bool = False
    began: int | None = None

    def go(self) -> None:
        """Let the class begin."""
        with suppress(OSError):  # that it has died is told by what it sends no more
            self.pipe.send(None)

    def take(self) -> None:
        """Take a report; where there is none any more, the process has died."""
        try:
            report: Report = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5.0)
            self.give_up(f"its process ended early (exit status {self.process.exitcode})")
            return
        self.ready = True
        self.run.records += report.records
        self.in_time += sum(record["slo_met"] for record in report.records)
        self.run.issued = max(self.run.issued, report.issued)
        if report.ended:
            self.over, self.began = True, report.began
            self.run.verdict, self.run.problem = report.verdict, report.problem

    def give_up(self, reason: str) -> None:
        self.over, self.run.problem = True, reason

    def end(self) -> None:
        """End the process if it has not ended by itself."""
        self.process.join(5.0 if self.over and not self.run.problem else 0.0)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


class _Watch:
    """Waits for reports of all classes, and for none of them too long."""

    def __init__(self, workers: Sequence[_Worker], progress: Progress | None) -> None:
        self._workers, self._progress = workers, progress
        self._began: float | None = None

    def run(self) -> None:
        """Return when every class is over, one way or the other."""
        self._until(lambda worker: worker.ready, START_LIMIT, "its process did not start in time")
        self._began = time.monotonic()
        for worker in self._workers:
            if not worker.over:
                worker.go()
        longest = max(_longest(worker.run.plan) for worker in self._workers)
        self._until(lambda _worker: False, longest, f"it did not end within {longest:,.0f} s")

    def _until(self, reached: Callable[[_Worker], bool], seconds: float, reason: str) -> None:
        """Take reports until every class is over or has reached something; give up on those that take too long."""
        end = time.monotonic() + seconds
        while open_workers := [worker for worker in self._workers if not worker.over and not reached(worker)]:
            if time.monotonic() > end:
                for worker in open_workers:
                    worker.give_up(reason)
                return
            for pipe in wait([worker.pipe for worker in open_workers], timeout=0.25):
                next(worker for worker in open_workers if worker.pipe is pipe).take()
            self._tell()

    def _tell(self) -> None:
        if self._progress and self._began is not None:
            issued = sum(worker.run.issued for worker in self._workers)
            ended = sum(len(worker.run.records) for worker in self._workers)
            in_time = sum(worker.in_time for worker in self._workers)
            self._progress(time.monotonic() - self._began, issued, ended, in_time)


def _longest(plan: ClassPlan) -> float:
    """Return the seconds after which a class must be over."""
    drawn = 0.0 if plan.schedule is not None else 0.5 * plan.sending + 10 / plan.qps  # LoadGen's arrivals are random
    return plan.sending + drawn + plan.connection.timeout + SLACK


def _add_schedule(worker: _Worker) -> None:
    """Complete the records of a class with the times for which they were scheduled; latencies count from those."""
    run, plan = worker.run, worker.run.plan
    if not run.records:
        return
    run.records.sort(key=lambda record: record["number"])
    times = _scheduled(worker)
    if times is None:
        return
    limit = SLO_LATENCY_NS[plan.slo]
    for record in run.records:
        scheduled = int(times[record["number"]])
        record["latency_ns"] += record["timestamp_issued"] - scheduled
        record["timestamp_scheduled"] = scheduled
        record["slo_met"] = record["outcome"] == "done" and record["latency_ns"] <= limit
    sent = [record for record in run.records if record["timestamp_sent"]]
    run.lag_ms = np.array([(record["timestamp_sent"] - record["timestamp_scheduled"]) / 1e6 for record in sent])
    run.seconds = max(plan.duration, (times[-1] - times[0]) / 1e9)


def _scheduled(worker: _Worker) -> Longs | None:
    """Return when the requests were scheduled, in nanoseconds since 1970; None where that cannot be known."""
    run, plan = worker.run, worker.run.plan
    if plan.schedule is not None:
        return None if worker.began is None else plan.schedule.times + worker.began
    if run.verdict is None:
        return None
    arrivals = loadgen_arrivals(plan.seeds[0], plan.qps, run.issued + 1)
    if abs(arrivals[-1] - run.verdict.following) > ROUNDING:
        run.problem = "LoadGen has made another schedule than expected, so send lags and latencies are not exact"
        return None
    issued = np.array([record["timestamp_issued"] for record in run.records])
    numbers = np.array([record["number"] for record in run.records])
    began = int((issued - arrivals[numbers]).min())  # none is issued before its time, and the promptest at it
    return arrivals[:-1] + began
