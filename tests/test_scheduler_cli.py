"""`gsched serve` as operators meet it: processes, signals, files, options."""

import json
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import PATIENCE, logs_kept, make_certificate

from gsched.cli import main
from gsched.live.loadgen.generated.scheduler_pb2 import InferRequest
from gsched.live.loadgen.generated.scheduler_pb2_grpc import SchedulerServiceStub
from gsched.live.logs import configure_logs
from gsched.live.scheduler.record import Served, read_record

GSCHED = Path(sys.executable).parent / "gsched"
HEADER = ",".join(Served._fields)
DONE = "0.5,1,0.1,a,done,0.02,0,2,0.01,0.008"
REQUEST = InferRequest(tier=1, model_name="a", input_tensor=[1.0], input_shape=[1])


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Take back what a command has set for its process."""
    with logs_kept():
        yield


class Process:
    """A running `gsched serve`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        found = re.search(r"Serving .* on 127\.0\.0\.1:(\d+), policy ", process.stdout.readline())
        assert found, process.communicate(timeout=PATIENCE)
        self.port = int(found[1])

    def sample(self, url: str, name: str, **labels: str) -> float:
        page = urlopen(url).read().decode()
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit status and what was logged."""
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, log


@contextmanager
def started(*words: object) -> Iterator[Process]:
    command = [GSCHED, "serve", "--backend", "emulated", "--port", "0", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


@contextmanager
def client(port: int) -> Iterator[SchedulerServiceStub]:
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        yield SchedulerServiceStub(channel)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is true of another process."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end


def run(*words: object) -> int:
    serves_after_all = threading.Timer(PATIENCE, os.kill, (os.getpid(), signal.SIGTERM))
    serves_after_all.start()
    try:
        with pytest.raises(SystemExit) as stop:
            main(["serve", *map(str, words)])
    finally:
        serves_after_all.cancel()
    return int(stop.value.code or 0)


def problem(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that cannot work; return the line that says why."""
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err.removeprefix("error: ").strip()


# A process from start to end


@pytest.mark.parametrize(
    ("number", "grace", "told"),
    [(signal.SIGTERM, 60, "done"), (signal.SIGINT, 60, "done"), (signal.SIGTERM, 0, "rejected")],
)
def test_signal_lets_what_is_there_be_answered(number: int, grace: int, told: str) -> None:
    seconds = "0.05s" if told == "done" else "60s"
    metrics = free_port()
    words = ("--model", f"a={seconds}", "--max-batch", 1, "--grace", grace, "--metrics-port", metrics)
    with started(*words) as server, client(server.port) as stub:
        calls = [stub.Infer.future(REQUEST) for _ in range(6)]
        url = f"http://127.0.0.1:{metrics}/metrics"
        wait_until(lambda: server.sample(url, "gsched_queue_length") + server.sample(url, "gsched_requests_total") >= 5)
        assert server.end(number)[0] == 0
        messages = [call.result(timeout=PATIENCE).message for call in calls]
    assert [message.partition(":")[0] for message in messages] == [told] * 6


def test_client_that_is_killed_is_forgotten() -> None:
    metrics = free_port()
    code = f"""if True:
        import grpc
        from gsched.live.loadgen.generated.scheduler_pb2 import InferRequest
        from gsched.live.loadgen.generated.scheduler_pb2_grpc import SchedulerServiceStub
        channel = grpc.insecure_channel("localhost:%d")
        request = InferRequest.FromString({REQUEST.SerializeToString()!r})
        calls = [SchedulerServiceStub(channel).Infer.future(request) for _ in range(3)]
        [call.result() for call in calls]
    """
    words = ("--model", "a=60s", "--max-batch", 1, "--max-queue", 2, "--grace", 0, "--metrics-port", metrics)
    url = f"http://127.0.0.1:{metrics}/metrics"
    with started(*words) as server:
        with subprocess.Popen([sys.executable, "-c", code % server.port]) as victim:
            wait_until(lambda: server.sample(url, "gsched_queue_length") == 2)
            victim.kill()
        wait_until(lambda: server.sample(url, "gsched_requests_total", outcome="cancelled") == 3)
        assert server.sample(url, "gsched_queue_length") == 0
        with client(server.port) as stub:
            call = stub.Infer.future(REQUEST)
            wait_until(lambda: server.sample(url, "gsched_queue_length") == 1)
            assert server.end()[0] == 0
            assert call.result(timeout=PATIENCE).message == "rejected: the scheduler is shutting down"


def test_tls_and_token_come_from_files(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    (tmp_path / "token").write_text("open sesame\n")
    files = ("--tls-cert", certificate, "--tls-key", key, "--token-file", tmp_path / "token")
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    with (
        started("--model", "a=0ms", *files) as server,
        grpc.secure_channel(f"localhost:{server.port}", credentials) as channel,
    ):
        stub = SchedulerServiceStub(channel)
        assert stub.Infer(REQUEST, metadata=[("authorization", "Bearer open sesame")]).success
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            stub.Infer(REQUEST)


def test_log_is_json_line_by_line() -> None:
    with started("--model", "a=1ms", "--log-format", "json", "--log-level", "debug", "--metrics-port", 0) as server:
        with client(server.port) as stub:
            assert stub.Infer(REQUEST).success
        status, log = server.end()
    entries = [json.loads(line) for line in log.splitlines()]
    assert status == 0
    assert [entry["event"] for entry in entries] == ["model", "metrics", "answered", "draining"]
    assert all(entry["level"] in ("info", "debug") and entry["timestamp"] for entry in entries)
    assert {"tier": 1, "model": "a", "outcome": "done"}.items() <= entries[2].items()


def test_log_says_only_what_is_asked_for() -> None:
    with started("--log-level", "warning") as server:
        assert server.end() == (0, "")


def test_library_logs_have_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("json", "text"):
        configure_logs(form, "info")
        try:
            raise ValueError("odd")
        except ValueError:
            logging.getLogger("grpc").exception("two\nlines")
    first, *rest = capsys.readouterr().err.splitlines()
    entry = json.loads(first)
    assert (entry["event"], entry["level"], entry["logger"]) == ("two\nlines", "error", "grpc")
    assert "ValueError: odd" in entry["exception"]
    assert "ValueError: odd" in rest


def test_second_server_on_a_port_is_bad_input_and_leaves_the_record_of_the_first(tmp_path: Path) -> None:
    record = tmp_path / "record.csv"
    record.write_text("kept")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for told, option in [(f"127.0.0.1:{port}", "--port"), (f"--metrics-port {port}", "--metrics-port")]:
            words = ["--port", "0", "--record", record, option, str(port)]
            command = [GSCHED, "serve", "--backend", "emulated", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
            assert done.stderr.startswith(f"error: {told}: cannot be ")
    assert record.read_text() == "kept"


def test_policy_of_ones_own_that_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tires.py").write_text("class Tires:\n    def choose(self, view):\n        raise ValueError('tired')\n")
    words = ("--model", "a=1ms", "--policy", f"{tmp_path}/tires.py:Tires", "--log-level", "warning")
    with started(*words) as server, client(server.port) as stub:
        with pytest.raises(grpc.RpcError, match="the scheduler failed"):
            stub.Infer(REQUEST)
        _, log = server.process.communicate(timeout=PATIENCE)
    assert server.process.returncode == 2
    assert re.fullmatch(r"error: policy Tires: choose failed at .*tires\.py:3: ValueError: tired\n", log)


# Records


def test_record_of_a_run_is_repeated_in_virtual_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "record.csv"
    with started("--model", "a=1ms", "--record", record) as server, client(server.port) as stub:
        for tier in (1, 2, 3):
            request = InferRequest(tier=tier, model_name="a", input_tensor=[1.0], input_shape=[1])
            calls = [stub.Infer.future(request) for _ in range(10)]
            assert all(call.result(timeout=PATIENCE).success for call in calls)
        assert server.end()[0] == 0
    assert {(served.tier, served.outcome, served.deadline) for served in read_record(record)} == {
        (tier, "done", math.inf) for tier in (1, 2, 3)
    }
    assert run("--simulate", record) == 0
    title, _, head, *rows = capsys.readouterr().out.splitlines()
    assert title == f"30 requests of {record}, policy tiered"
    assert head.split() == [
        "tier",
        "slo",
        "requests",
        "in",
        "time",
        "simulated",
        "p50_ms",
        "simulated",
        "p99_ms",
        "simulated",
    ]
    assert [row.split()[:5] for row in rows if "none" in row] == [
        [str(tier), "none", "10", "100.0%", "100.0%"] for tier in (1, 2, 3)
    ]
    assert run("--simulate", record, "--json", "--policy", "fifo", "--devices", 2) == 0
    classes = json.loads(capsys.readouterr().out)
    assert [(entry["tier"], entry["requests"], entry["simulated_attainment"]) for entry in classes] == [
        (tier, 10, 100.0) for tier in (1, 2, 3)
    ]


def test_what_nobody_knows_is_null_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "record.csv"
    record.write_text(
        f"{HEADER}\n{DONE}\n0.6,3,-1.0,a,expired,0.0,-1,0,0.0,0.0\n0.7,3,9.0,a,cancelled,0.0,-1,0,0.0,0.0\n"
    )
    assert run("--simulate", record, "--json") == 0
    first, second = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert first["p50"] == 20.0
    assert (second["requests"], second["attainment"], second["p50"], second["simulated_p99"]) == (1, 0.0, None, None)


def test_policy_that_waits_for_ever_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "waits.py").write_text("class Waits:\n    def choose(self, view):\n        return None\n")
    (tmp_path / "record.csv").write_text(f"{HEADER}\n{DONE.replace('0.1', 'inf')}\n")
    told = problem(capsys, "--simulate", tmp_path / "record.csv", "--policy", f"{tmp_path}/waits.py:Waits")
    assert told == "policy Waits: waits although 1 requests wait and nothing runs"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: is not the header of a record"),
        ("a,b\n", "line 1: is not the header of a record"),
        (f"{HEADER}\n", "holds no request"),
        (f"{HEADER}\n{DONE},1\n", "line 2: cannot be understood (11 values instead of 10)"),
        (f"{HEADER}\n{DONE}\n0.5,1", "line 3: cannot be understood (2 values instead of 10)"),
        (f"{HEADER}\n{DONE}\n\n", "line 3: cannot be understood (0 values instead of 10)"),
        (f"{HEADER}\n{DONE.replace('done', 'lost')}\n", "line 2: cannot be understood ('lost' is not a valid Outcome)"),
        (f"{HEADER}\n{DONE.replace('0.5,1,', '0.5,7,')}\n", "line 2: cannot be understood (no such tier, or no model)"),
        (f"{HEADER}\n{DONE.replace(',a,', ',,')}\n", "line 2: cannot be understood (no such tier, or no model)"),
        (f"{HEADER}\n{DONE.replace('0.5,1,', 'nan,1,')}\n", "line 2: cannot be understood (a time is"),
        (f"{HEADER}\n{DONE.replace('0.5,1,', 'inf,1,')}\n", "line 2: cannot be understood (a time is"),
        (f"{HEADER}\n{DONE.replace('1,0.1,', '1,nan,')}\n", "line 2: cannot be understood (a time is"),
        (f"{HEADER}\n{DONE.replace('0.01', '-0.01')}\n", "line 2: cannot be understood (a time is"),
        (f"{HEADER}\n{DONE.replace('0,2,', '0,0,')}\n", "line 2: cannot be understood (a batch of 0)"),
        (f'{HEADER}\n"{DONE}\n', "line 2: cannot be understood (unexpected end of data)"),
        (f"{HEADER}\n{'x' * 200_000}\n", "line 2: cannot be understood (field larger than"),
        (f"{HEADER}\n0.5,1,\0,a,done,0.02,0,2,0.01,0.008\n", "line 2: cannot be understood (could not convert"),
        (f"{HEADER}\n0.5,1,0.1,a,rejected,0.0,-1,0,0.0,0.0\n", "model a: was never computed"),
        (f"{HEADER}\n0.5,1,0.1,a,cancelled,0.0,-1,0,0.0,0.0\n", "holds only cancelled requests"),
    ],
)
def test_broken_record_is_one_line(text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "record.csv").write_text(text)
    assert told in problem(capsys, "--simulate", tmp_path / "record.csv")


def test_record_that_is_no_text_or_no_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "record.csv").write_bytes(HEADER.encode() + b"\n\xff\xfe\x00\n")
    assert "line 2: cannot be understood" in problem(capsys, "--simulate", tmp_path / "record.csv")
    assert problem(capsys, "--simulate", tmp_path).endswith("is a folder; name a file in it")
    assert problem(capsys, "--simulate", tmp_path / "none").endswith("no such file; check the path")


# Options


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder of files that are not what options ask for."""
    monkeypatch.chdir(tmp_path)
    make_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    make_certificate(tmp_path / "other")
    (tmp_path / "text").write_text("garbage")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "lines").write_text("two\nlines")
    command = ["openssl", "ec", "-in", "key.pem", "-aes256", "-passout", "pass:secret", "-out", "locked.pem"]
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--model a=fast", "options: --model a: 'fast' is no profile; write 2ms for each request, or"),
        ("--model a=-1ms", "options: --model a: '-1ms' is no profile"),
        ("--model a=nanms", "options: --model a: 'nanms' is no profile"),
        ("--model a=1ms+2ms+3ms", "options: --model a: '1ms+2ms+3ms' is no profile"),
        ("--model a --model a", "options: --model: 'a' is no name, or is given twice"),
        ("--model =1ms", "options: --model: '' is no name"),
        ("--policy none", "policy none: is unknown; choose fifo, edf, tiered, or path.py:Class"),
        ("--policy search", "policy search: does not serve single requests; choose fifo, edf, tiered"),
        ("--policy nowhere.py:A", "nowhere.py"),
        ("--set depth=1", "policy tiered: has no option depth"),
        ("--set depth", "--set depth: is not of the form NAME=VALUE"),
        ("--host nosuch.invalid", "nosuch.invalid:0: cannot be listened on"),
        ("--record nowhere/record.csv", "nowhere/record.csv: cannot be written (No such file or directory)"),
        ("--record .", ".: cannot be written (Is a directory)"),
        ("--tls-cert certificate.pem", "options: --tls-cert and --tls-key belong together"),
        ("--tls-key key.pem", "options: --tls-cert and --tls-key belong together"),
        ("--tls-cert none --tls-key key.pem", "none: no such file"),
        ("--tls-cert certificate.pem --tls-key none", "none: no such file"),
        ("--tls-cert text --tls-key text", "text: is no certificate for the key in text (not PEM)"),
        ("--tls-cert certificate.pem --tls-key other/key.pem", "is no certificate for the key in other/key.pem (KEY_"),
        ("--tls-cert certificate.pem --tls-key locked.pem", "is no certificate for the key in locked.pem ("),
        ("--token-file none", "none: no such file"),
        ("--token-file empty", "empty: holds no token"),
        ("--token-file lines", "lines: holds no token"),
        ("--max-batch 0", "Invalid value for '--max-batch': "),
    ],
)
def test_options_that_cannot_be_are_one_line(
    words: str, told: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in problem(capsys, "--backend", "emulated", "--port", 0, *words.split())


@pytest.mark.parametrize("module", ["grpc", "grpc_health", "grpc_reflection", "structlog", "prometheus_client"])
def test_extra_that_is_missing_is_named(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gsched.cli.extras.find_spec", lambda name: None if name == module else name)
    told = f"extra live: is not installed (no module {module}); install it with pip install 'gsched[live]'"
    assert problem(capsys, "--backend", "emulated") == told
