"""The load generator as users meet it: whole runs against schedulers that work, fail, freeze, vanish and come back."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from multiprocessing import active_children
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from test_loadgen import Fake, certificate, until, write_detail  # noqa: F401 (a fixture)

from gsched.errors import InputError
from gsched.live.loadgen import run
from gsched.live.loadgen.class_process import ClassPlan
from gsched.live.loadgen.plans import class_seeds
from gsched.live.loadgen.schedule import Schedule, loadgen_arrivals
from gsched.live.loadgen.sut import Connection
from gsched.live.loadgen.workload_config import REQUEST_CLASSES, SLO_LATENCY_NS, WORKLOAD_DISTRIBUTIONS

ROOT = Path(__file__).parent.parent
GSCHED = Path(sys.executable).parent / "gsched"
FAST = ("--model", "resnet50=1ms", "--model", "vit=1ms")
LIMIT = 60.0
"""Seconds within which everything ends, whatever happens to it."""

BALANCED = WORKLOAD_DISTRIBUTIONS["balanced"]
BRIEF = "--total-qps 20 --workload balanced --duration-ms 2000 --min-query-count 1"
LATE = re.compile(r"tier\d_\w+: \d+ requests were sent late, up to .*")
"""The one complaint that a busy machine may cause."""


class Process:
    """A process in a session of its own, as a terminal would start it, with its output in files."""

    def __init__(self, folder: Path, *words: object, name: str = "process", stderr: int | None = None) -> None:
        self.out, self.err = folder.parent / f"{name}.out", folder.parent / f"{name}.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.popen = subprocess.Popen(
                list(map(str, words)), cwd=folder, stdout=out, stderr=stderr or err, start_new_session=True
            )

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def ended(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit status and what was printed."""
        status = self.popen.wait(LIMIT)
        return status, self.out.read_text(), self.err.read_text()

    def helpers(self) -> list[int]:
        """Return the other processes of its session that are alive."""
        return [pid for pid, session in sessions().items() if session == self.popen.pid != pid]

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(LIMIT)


def sessions() -> dict[int, int]:
    """Return the session of each process that is alive."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if state not in "ZX":
                found[int(stat.parent.name)] = int(session)
    return found


class Scheduler(Process):
    """gsched serve, accepting calls once made."""

    def __init__(self, folder: Path, *words: object, port: int = 0, name: str = "serve") -> None:
        command = (GSCHED, "serve", "--backend", "emulated", "--port", port, "--metrics-port", 0)
        super().__init__(folder, *command, *words, name=name)
        until(lambda: "Serving" in self.out.read_text() or self.popen.poll() is not None, LIMIT)
        serving = re.search(r"127\.0\.0\.1:(\d+)", self.out.read_text())
        metrics = re.search(r"http://\S+/metrics", self.err.read_text())
        assert serving, self.err.read_text()
        assert metrics, self.err.read_text()
        self.port, self._metrics = int(serving[1]), metrics[0]
        self.url = f"127.0.0.1:{self.port}"

    def done(self, **labels: str) -> float:
        """Return how many requests with these labels were done."""
        page = urlopen(self._metrics, timeout=LIMIT).read().decode()
        lines = [line for line in page.splitlines() if line.startswith("gsched_requests_total{")]
        wanted = {"outcome": "done", **labels}
        kept = [line for line in lines if all(f'{name}="{value}"' in line for name, value in wanted.items())]
        return sum(float(line.rpartition(" ")[2]) for line in kept)


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    """Leave no process behind."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    """A scheduler whose models take a millisecond."""
    folder = tmp_path_factory.mktemp("fast") / "work"
    folder.mkdir()
    scheduler = Scheduler(folder, *FAST)
    with running(scheduler):
        yield scheduler


def load(
    folder: Path, url: str, words: str = "", *more: object, command: Sequence[object] = (GSCHED, "loadgen")
) -> Process:
    """Start the load generator."""
    return Process(folder, *command, "--scheduler-url", url, *words.split(), *more, name="load")


def write_trace(path: Path, models: Sequence[str] = ("", ""), count: int = 40, seconds: float = 2.0) -> int:
    """Write a trace of two classes, so that there are only two processes, and return how many arrivals it has."""
    kinds = ("1,normal", "3,relaxed")
    lines = [f"{i * seconds / count},{kinds[i % 2]},{models[i % 2]}" for i in range(count)]
    path.write_text("\n".join(["seconds,tier,slo,model", *lines]))
    return count


TRACED = "--pattern trace --trace trace.csv"
Rows = list[dict[str, str]]


def read_rows(folder: Path, name: str = "metrics.csv") -> Rows:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def by_class(rows: Rows) -> dict[tuple[int, str], Rows]:
    """Return the rows of each class; there is one row for each request, and the classes are in their order."""
    names = [(int(row["tier"]), row["slo"]) for row in rows]
    assert [name for name, _ in groupby(names)] == [kind for kind in REQUEST_CLASSES if kind in names]
    assert len({(row["tier"], row["slo"], row["sample_id"], row["timestamp_issued"]) for row in rows}) == len(rows)
    found = defaultdict(list)
    for name, row in zip(names, rows, strict=True):
        found[name].append(row)
    return found


def details(folder: Path) -> dict[tuple[int, str], dict[str, object]]:
    """Return what LoadGen's logs say about each class."""
    found = {}
    for tier, slo in REQUEST_CLASSES:
        text = (folder / "loadgen_logs" / f"tier{tier}_{slo}" / "mlperf_log_detail.txt").read_text()
        entries = (json.loads(line.removeprefix(":::MLLOG ")) for line in text.splitlines())
        found[tier, slo] = {entry["key"]: entry["value"] for entry in entries}
    return found


def check_complete(folder: Path, rows: Rows) -> None:
    """Check that each query that LoadGen has issued has its row."""
    counts = {kind: told["result_query_count"] for kind, told in details(folder).items()}
    assert {kind: len(members) for kind, members in by_class(rows).items()} == counts


def outcomes(rows: Rows) -> set[str]:
    return {row["outcome"] for row in rows}


def offsets(rows: Rows) -> list[int]:
    times = [int(row["timestamp_scheduled"]) for row in rows]
    return [time - times[0] for time in times]


def check_usable(status: int, err: str) -> None:
    """Check that nothing but a busy machine has spoilt a run."""
    complaints = err.splitlines()
    if status == 1:
        assert complaints.pop() == "The run is not usable as a measurement."
        assert complaints
    else:
        assert status == 0
    assert [line for line in complaints if not LATE.fullmatch(line)] == []


# Schedulers that work


@pytest.fixture(scope="module")
def plain(fast: Scheduler, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, str, str]]:
    """A folder in which a run of LoadGen has ended, and how."""
    folder = tmp_path_factory.mktemp("plain") / "work"
    folder.mkdir()
    (folder / "audit.config").write_text("*.Server.target_qps = 90\n*.Server.min_query_count = 77\n")
    process = load(folder, fast.url, BRIEF, "--json")
    with running(process):
        return folder, process.ended()


Plain = tuple[Path, tuple[int, str, str]]


def test_each_query_of_loadgen_has_its_row(plain: Plain) -> None:
    folder, (status, out, err) = plain
    check_usable(status, err)
    told = json.loads(out)
    assert told["usable"] == (status == 0)
    assert len(told["problems"]) == max(0, len(err.splitlines()) - 1)
    rows = read_rows(folder)
    check_complete(folder, rows)
    assert outcomes(rows) <= {"done", "expired", "rejected"}
    assert [(kind["tier"], kind["slo"], kind["records"]) for kind in told["classes"]] == [
        (*kind, len(members)) for kind, members in by_class(rows).items()
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["audit.config", "loadgen_logs", "metrics.csv"]
    for tier, slo in REQUEST_CLASSES:
        summary = folder / "loadgen_logs" / f"tier{tier}_{slo}" / "mlperf_log_summary.txt"
        assert "Scenario : Server" in summary.read_text()


def test_loadgen_schedules_what_was_asked_whatever_lies_around(plain: Plain) -> None:
    folder, _ = plain
    classes = by_class(read_rows(folder))
    for kind, told in details(folder).items():
        assert told["effective_target_qps"] == pytest.approx(20 * BALANCED[kind])
        assert told["effective_target_latency_ns"] == SLO_LATENCY_NS[kind[1]]
        arrivals = loadgen_arrivals(class_seeds(0)[kind][0], 20 * BALANCED[kind], len(classes[kind]))
        assert offsets(classes[kind]) == arrivals.tolist()


def test_latencies_count_from_the_scheduled_time(plain: Plain) -> None:
    folder, _ = plain
    logs = details(folder)
    for kind, rows in by_class(read_rows(folder)).items():
        for row in rows:
            scheduled, issued, sent = (int(row[f"timestamp_{word}"]) for word in ("scheduled", "issued", "sent"))
            assert scheduled <= issued <= sent
            latency = int(row["latency_ns"])
            assert latency >= sent - scheduled
            assert float(row["latency_ms"]) == pytest.approx(latency / 1e6, abs=0.001)
            in_time = row["outcome"] == "done" and latency <= SLO_LATENCY_NS[kind[1]]
            assert row["slo_met"] == str(in_time).lower()
            assert latency <= logs[kind]["result_max_latency_ns"] + 1_000_000


def test_command_line_of_the_document_repeats_the_run(plain: Plain, fast: Scheduler, work: Path) -> None:
    script = (sys.executable, ROOT / "scripts" / "loadgen_runner.py")
    process = load(work, fast.url, BRIEF, "--metrics-csv", "results/balanced_20qps.csv", command=script)
    with running(process):
        status, out, err = process.ended()
    check_usable(status, err)
    rows = read_rows(work, "results/balanced_20qps.csv")
    check_complete(work, rows)
    first, again = by_class(read_rows(plain[0])), by_class(rows)
    for kind in REQUEST_CLASSES:
        assert [row["model"] for row in again[kind]] == [row["model"] for row in first[kind]]
        assert offsets(again[kind]) == offsets(first[kind])
    titles = out.splitlines()[0].split()
    assert titles == ["tier", "slo", "count", "done", "p50_ms", "p95_ms", "p99_ms", "slo_attainment_%"]
    assert "tier1_urgent: LoadGen says INVALID: " in out
    assert "too few queries to be sure of p99" in out
    assert out.endswith("\nRequests written to results/balanced_20qps.csv\n")


def test_other_command_line_of_the_document(fast: Scheduler, work: Path) -> None:
    words = "--total-qps 70 --workload urgent_heavy --duration-ms 1500 --min-query-count 1 --quiet"
    process = load(work, fast.url, words, "--metrics-csv", "results/urgent_heavy_70qps.csv")
    with running(process):
        status, out, err = process.ended()
    check_usable(status, err)
    assert out == ""
    rows = read_rows(work, "results/urgent_heavy_70qps.csv")
    check_complete(work, rows)
    assert {row["model"] for row in rows if row["slo"] == "urgent"} == {"resnet50"}
    assert {row["model"] for row in rows if row["slo"] == "relaxed"} == {"resnet50", "vit"}


def test_metrics_file_is_replayed(plain: Plain, fast: Scheduler, work: Path) -> None:
    process = load(work, fast.url, "--seed 5 --pattern trace --trace", plain[0] / "metrics.csv")
    with running(process):
        status, out, err = process.ended()
    check_usable(status, err)
    assert "LoadGen" not in out
    first, again = by_class(read_rows(plain[0])), by_class(read_rows(work))
    for kind in REQUEST_CLASSES:
        assert all(int(row["timestamp_issued"]) >= int(row["timestamp_scheduled"]) for row in again[kind])
        assert sorted(zip(offsets(again[kind]), (row["model"] for row in again[kind]), strict=True)) == sorted(
            zip(offsets(first[kind]), (row["model"] for row in first[kind]), strict=True)
        )
    assert [path.name for path in work.iterdir()] == ["metrics.csv"]


def test_burst_with_a_report(fast: Scheduler, work: Path) -> None:
    pytest.importorskip("matplotlib")
    process = load(work, fast.url, "--pattern burst --total-qps 15 --duration-ms 1500 --report new/report.html")
    with running(process):
        status, out, err = process.ended()
    check_usable(status, err)
    assert sum(len(rows) for rows in by_class(read_rows(work)).values()) > 45
    assert (work / "new" / "report.html").read_text().startswith("<!doctype html>")
    assert out.endswith("\nRequests written to metrics.csv\nReport written to new/report.html\n")
    assert sorted(path.name for path in work.iterdir()) == ["metrics.csv", "new"]


def test_search_of_the_peak_says_what_it_tried(fast: Scheduler, work: Path) -> None:
    process = load(work, fast.url, "--find-peak --total-qps 0.3 --duration-ms 1")
    with running(process):
        status, out, err = process.ended()
    assert status == 1
    tried, last = out.split("\n\n")
    assert tried.split(" (")[0].split() == ["0.3", "requests/s:", "unusable"]
    assert last == "No load that was tried keeps 99% in time in every class\n"
    assert err == "not one request was due: the load is too small, or too short\n"
    assert list(work.iterdir()) == []


def test_locked_door_opens_to_those_with_the_key(work: Path, certificate: tuple[bytes, bytes]) -> None:  # noqa: F811
    for name, content in zip(("cert.pem", "key.pem", "token"), (*certificate, b"open sesame\n"), strict=True):
        (work / name).write_bytes(content)
    write_trace(work / "trace.csv", count=4, seconds=0.1)
    scheduler = Scheduler(work, *FAST, "--tls-cert", "cert.pem", "--tls-key", "key.pem", "--token-file", "token")
    with running(scheduler):
        url = f"localhost:{scheduler.port}"
        for token in ("--token-file token", ""):
            process = load(work, url, f"{TRACED} --tls-ca cert.pem {token}")
            with running(process):
                status, _, err = process.ended()
            if token:
                check_usable(status, err)
                assert outcomes(read_rows(work)) == {"done"}
            else:
                assert status == 1
                assert "tier1_normal: no request was done (the first that failed: UNAUTHENTICATED: " in err


# Schedulers that do not


def test_scheduler_dies(work: Path) -> None:
    scheduler = Scheduler(work, *FAST)
    process = load(work, scheduler.url, "--total-qps 30 --duration-ms 2500 --min-query-count 1")
    with running(scheduler, process):
        until(lambda: scheduler.done() >= 15, LIMIT)
        scheduler.kill()
        status, _, err = process.ended()
    assert status == 1
    assert re.search(
        r"^tier1_relaxed: \d+ of \d+ requests got no answer \(\d+ unavailable; the first: UNAVAIL", err, re.M
    )
    assert err.endswith("\nThe run is not usable as a measurement.\n")
    rows = read_rows(work)
    check_complete(work, rows)
    assert {"done", "unavailable"} <= outcomes(rows)
    assert {row["slo_met"] for row in rows if row["outcome"] == "unavailable"} == {"false"}


def test_scheduler_freezes(work: Path) -> None:
    scheduler = Scheduler(work, *FAST)
    process = load(work, scheduler.url, "--total-qps 30 --duration-ms 2500 --min-query-count 1 --timeout 1")
    with running(scheduler, process):
        until(lambda: scheduler.done() >= 15, LIMIT)
        scheduler.signal(signal.SIGSTOP)
        status, _, err = process.ended()
    assert status == 1
    assert re.search(r"got no answer \(\d+ timeout; the first: no answer within 1 s\)\n", err)
    rows = read_rows(work)
    check_complete(work, rows)
    assert {"done", "timeout"} <= outcomes(rows)


class Terminal:
    """A terminal that remembers what was written to it."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self._text = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the other side is closed
            while data := os.read(self._ours, 4096):
                self._text += data

    def close(self) -> None:
        os.close(self.theirs)
        self._reader.join(LIMIT)
        os.close(self._ours)

    def in_time(self) -> float:
        """Return the percentage in time that the progress line told last; 100 before it does."""
        return float(([b"100", *re.findall(rb"sent, ([\d.]+)% in time", bytes(self._text))])[-1])


def test_scheduler_freezes_and_thaws(work: Path) -> None:
    write_trace(work / "trace.csv", count=12_000, seconds=600.0)
    scheduler, terminal = Scheduler(work, *FAST), Terminal()
    command = (GSCHED, "loadgen", "--scheduler-url", scheduler.url, *TRACED.split(), "--timeout", "1")
    process = Process(work, *command, name="load", stderr=terminal.theirs)
    with running(scheduler, process):
        until(lambda: scheduler.done() >= 5, LIMIT)
        scheduler.signal(signal.SIGSTOP)
        until(lambda: terminal.in_time() < 90, LIMIT)
        scheduler.signal(signal.SIGCONT)
        before = scheduler.done()
        until(lambda: scheduler.done() >= before + 5, LIMIT)
        process.signal(signal.SIGINT)
        assert process.ended()[0] == 130
    terminal.close()


def test_scheduler_comes_back(work: Path) -> None:
    write_trace(work / "trace.csv", count=12_000, seconds=600.0)
    scheduler = Scheduler(work, *FAST)
    process = load(work, scheduler.url, TRACED)
    with running(scheduler, process):
        until(lambda: scheduler.done() >= 5, LIMIT)
        scheduler.kill()
        successor = Scheduler(work, *FAST, port=scheduler.port, name="successor")
        with running(successor):
            until(lambda: successor.done() >= 5, LIMIT)
            process.signal(signal.SIGINT)
            assert process.ended()[0] == 130


def test_scheduler_talks_nonsense(work: Path) -> None:
    count = write_trace(work / "trace.csv", models=("noise", "stranger"), count=20, seconds=0.5)
    with Fake() as fake:
        process = load(work, fake.url, TRACED)
        with running(process):
            status, _, err = process.ended()
    assert status == 1
    assert "tier1_normal: 10 of 10 requests got no answer (10 garbage; the first: the answer is no InferResponse" in err
    rows = read_rows(work)
    assert len(rows) == count
    assert outcomes(rows) == {"garbage"}


def test_scheduler_is_too_slow(work: Path) -> None:
    count = write_trace(work / "trace.csv", count=60, seconds=1.0)
    slow = "--model resnet50=200ms --model vit=200ms --no-admission --no-drop --max-batch 1"
    scheduler = Scheduler(work, *slow.split())
    process = load(work, scheduler.url, f"{TRACED} --timeout 1.5 --max-in-flight 20")
    with running(scheduler, process):
        status, _, err = process.ended()
    assert status == 1
    assert re.search(r"requests got no answer \(\d+ timeout, \d+ unsent; the first: ", err)
    assert "of 30 requests were sent" in err
    rows = read_rows(work)
    assert sum(len(members) for members in by_class(rows).values()) == count
    assert {"done", "timeout", "unsent"} == outcomes(rows)
    assert {row["error"] for row in rows if row["outcome"] == "unsent"} == {"too many calls are under way"}


# Ends


def test_class_that_dies_is_told_and_its_rows_are_kept(work: Path, fast: Scheduler) -> None:
    count = write_trace(work / "trace.csv", count=200, seconds=5.0)
    before = fast.done()
    process = load(work, fast.url, TRACED)
    with running(process):
        until(lambda: fast.done() >= before + 60, LIMIT)
        victim = next(pid for pid in process.helpers() if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(victim, signal.SIGKILL)
        status, _, err = process.ended()
    assert status == 1
    (died,) = re.findall(r"^(tier\d_\w+): its process ended early \(exit status -9\)$", err, re.M)
    assert "Traceback" not in err
    rows = {f"tier{tier}_{slo}": rows for (tier, slo), rows in by_class(read_rows(work)).items()}
    kept = rows.pop(died)
    assert 0 < len(kept) < count / 2
    assert {row["outcome"] for row in kept} == {"done"}
    ((_, others),) = rows.items()
    assert len(others) == count / 2


@pytest.mark.parametrize(("number", "status", "told"), [(signal.SIGINT, 130, "stopped\n"), (signal.SIGTERM, 143, "")])
def test_signal_ends_everything(work: Path, fast: Scheduler, number: int, status: int, told: str) -> None:
    before = fast.done()
    process = load(work, fast.url, "--total-qps 30 --min-query-count 1")
    with running(process):
        until(lambda: fast.done() >= before + 5, LIMIT)
        helpers = process.helpers()
        os.killpg(process.popen.pid, signal.SIGINT) if number == signal.SIGINT else process.signal(number)
        assert process.ended() == (status, "", told)
        until(lambda: not process.helpers(), LIMIT)
    assert len(helpers) == 10  # the classes, and multiprocessing's tracker
    assert [path.name for path in work.iterdir()] == ["loadgen_logs"]


def test_interruption_while_the_classes_start(work: Path, fast: Scheduler) -> None:
    process = load(work, fast.url, "--total-qps 30 --min-query-count 1")
    with running(process):
        until(lambda: len(process.helpers()) >= 4, LIMIT)
        os.killpg(process.popen.pid, signal.SIGINT)
        assert process.ended() == (130, "", "stopped\n")
        until(lambda: not process.helpers(), LIMIT)


def test_classes_end_when_their_parent_is_gone(work: Path, fast: Scheduler) -> None:
    write_trace(work / "trace.csv", count=12_000, seconds=600.0)
    before = fast.done()
    process = load(work, fast.url, TRACED)
    with running(process):
        until(lambda: fast.done() >= before + 5, LIMIT)
        helpers = process.helpers()
        process.signal(signal.SIGKILL)
        until(lambda: not process.helpers(), LIMIT)
        status, _, err = process.ended()
    assert status == -9
    assert err == ""
    assert len(helpers) == 3


# Classes that do not do as they are told


@pytest.fixture
def contained() -> Iterator[None]:
    """End a test that hangs, and the processes that it leaves behind."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.setitimer(signal.ITIMER_REAL, LIMIT, LIMIT)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    for child in active_children():
        child.kill()


def plans(url: str, *slos: str, schedule: Schedule | None = None, logs: Path | None = None) -> list[ClassPlan]:
    connection = Connection(url, timeout=1.0)
    return [ClassPlan(1, slo, 20.0, 0.5, connection, (1, 2, 3, 4), schedule=schedule, logs=logs) for slo in slos]


@pytest.mark.usefixtures("contained")
def test_class_that_stops_is_not_waited_for(fast: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SLACK", 2.0)
    schedule = Schedule(np.arange(20) * 25_000_000)
    stopped: list[str] = []

    def stop(_seconds: float, _issued: int, ended: int, _in_time: int) -> None:
        if ended and not stopped:
            child = active_children()[0]
            os.kill(child.pid or 0, signal.SIGSTOP)
            stopped.append(child.name)

    runs = {
        told.plan.name: told for told in run.run_load(plans(fast.url, "normal", "relaxed", schedule=schedule), stop)
    }
    assert runs.pop(stopped[0]).problem == "it did not end within 3 s"
    ((_, other),) = runs.items()
    assert (other.problem, other.issued, len(other.records)) == ("", 20, 20)
    assert active_children() == []


@pytest.mark.usefixtures("contained")
def test_class_that_does_not_start_is_not_waited_for(fast: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "START_LIMIT", 0.0)
    schedule = Schedule(np.arange(20) * 25_000_000)
    (told,) = run.run_load(plans(fast.url, "normal", schedule=schedule))
    assert (told.problem, told.records) == ("its process did not start in time", [])
    assert active_children() == []


def test_loadgen_with_another_schedule_is_told(
    fast: Scheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "loadgen_arrivals", lambda seed, qps, count: loadgen_arrivals(seed + 1, qps, count))
    (told,) = run.run_load(plans(fast.url, "normal", logs=tmp_path))
    assert told.problem.startswith("LoadGen has made another schedule than expected")
    assert told.issued == len(told.records) > 0
    assert {record["timestamp_scheduled"] for record in told.records} == {0}


def test_loadgen_that_cannot_start_is_told(fast: Scheduler, tmp_path: Path) -> None:
    write_detail(tmp_path)  # an earlier run's
    (tmp_path / "mlperf_log_summary.txt").mkdir()
    (told,) = run.run_load(plans(fast.url, "normal", logs=tmp_path))
    assert told.problem == f"{tmp_path}/mlperf_log_detail.txt holds no result of LoadGen"
    assert told.records == []


def test_logs_that_cannot_be_written_are_bad_input(fast: Scheduler, tmp_path: Path) -> None:
    (tmp_path / "mlperf_log_detail.txt").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        run.run_load(plans(fast.url, "normal", logs=tmp_path))
