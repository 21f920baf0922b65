"""`gsched run` as a user meets it: real model servers, killed and started again, Ctrl-C, Ray."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import PATIENCE

from gsched.checker import check
from gsched.cli import main
from gsched.generator import generate
from gsched.live.run.executors import http
from gsched.load import load_config, load_workload, save_requests
from gsched.log import Log
from gsched.log_files import read_log

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "examples" / "documents.json"
GSCHED = Path(sys.executable).parent / "gsched"

Start = Callable[..., str]


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """60 requests for the workflows of an example."""
    path = tmp_path / "requests.yaml"
    save_requests(generate(load_config(CONFIG), 60, seed=5), path)
    return path


class Servers:
    """Model servers in processes of their own."""

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, *options: str, port: int = 0) -> str:
        """Start a server and return its address."""
        words = ["model-server", "--port", str(port), "--config", str(CONFIG), "--log-level", "warning", *options]
        process = subprocess.Popen([GSCHED, *words], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        assert found
        self.processes[found[0]] = process
        return found[0]

    def kill(self, url: str) -> None:
        """Kill a server without a warning."""
        process = self.processes.pop(url)
        process.kill()
        process.communicate()


@pytest.fixture
def servers() -> Iterator[Servers]:
    found = Servers()
    yield found
    for process in found.processes.values():
        process.terminate()
    for process in found.processes.values():
        process.communicate(timeout=30)


def begin(folder: Path, requests: Path, *options: str) -> "subprocess.Popen[str]":
    words = ["run", "--config", str(CONFIG), "--requests", str(requests), "--out", str(folder), *options]
    return subprocess.Popen([GSCHED, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def complete(folder: Path, requests: Path, *options: str) -> tuple[int, str, str]:
    process = begin(folder, requests, *options)
    out, told = process.communicate(timeout=120)
    assert "Traceback" not in told
    return process.returncode, out, told


def answered(folder: Path, policy: str = "baseline") -> list[dict[str, Any]]:
    path = folder / f"{policy}_answers.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_answers(folder: Path, count: int, policy: str = "baseline") -> None:
    end = time.monotonic() + 2 * PATIENCE
    while len(answered(folder, policy)) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def checked(folder: Path, requests: Path, policy: str = "baseline") -> Log:
    log = read_log(folder / f"{policy}_execution_log.json")
    report = check(log, load_workload(CONFIG, requests))
    assert report.valid, report.violations
    assert log.summary["simulate"] is True
    return log


def test_a_workload_runs_on_two_servers(tmp_path: Path, requests: Path, servers: Servers) -> None:
    urls = [servers.start("--devices", "4", "--time-scale", "0.001") for _ in range(2)]
    options = ["--compare-simulation", "--json", "--policy", "improved", "--estimator", "api"]
    status, out, told = complete(tmp_path, requests, "--server-url", urls[0], "--server-url", urls[1], *options)
    assert status == 0, told
    log, found = checked(tmp_path, requests, "improved"), json.loads(out)
    workload = load_workload(CONFIG, requests)
    assert found["check"]["valid"]
    assert not log.extra
    assert found["summary"]["completed_requests"] == 60
    assert found["summary"]["gpus_per_server"] == 4
    assert found["summary"]["estimator"] == "api"
    assert found["summary"]["time_scale"] == 0.001
    assert found["summary"]["median_dispatch_overhead_seconds"] > 0
    assert found["fidelity"]["totals"]["makespan"]["measured"] == log.summary["makespan"]
    rows = answered(tmp_path, "improved")
    ids = {(request, node) for request, node in zip(log.request_id.texts(), log.node_id.texts(), strict=True)}
    assert {(row["request_id"], row["node_id"]) for row in rows} == ids
    assert len(rows) == workload.node_count
    assert all(row["output"] for row in rows)


def test_a_killed_server_loses_no_request(tmp_path: Path, requests: Path, servers: Servers) -> None:
    """What ran there is done again elsewhere; once it is there again, its GPUs are used again."""
    urls = [servers.start("--devices", "4", "--time-scale", "0.004") for _ in range(2)]
    process = begin(tmp_path, requests, "--server-url", urls[0], "--server-url", urls[1])
    wait_for_answers(tmp_path, 20)
    servers.kill(urls[1])
    wait_for_answers(tmp_path, 50)
    servers.start("--devices", "4", "--time-scale", "0.004", port=int(urls[1].rpartition(":")[2]))
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    log = checked(tmp_path, requests)
    lost = [part for part in log.extra["interruptions"] if "request_id" not in part]
    assert [part["gpu_ids"] for part in lost] == [[4, 5, 6, 7]]
    assert "lost" in lost[0]["reason"]
    assert "failures" not in log.extra
    assert log.summary["completed_requests"] == 60
    assert (log.start_time[log.gpu_id >= 4] > lost[0]["end_time"]).any()


def test_a_server_that_stays_away_fails_only_what_no_other_can_do(
    tmp_path: Path, requests: Path, servers: Servers
) -> None:
    """The four-GPU model only fits the first server, the others fit both."""
    urls = [servers.start("--devices", count, "--time-scale", "0.004") for count in ("4", "2")]
    words = ["--server-url", urls[0], "--server-url", urls[1], "--give-up", "0.5"]
    process = begin(tmp_path, requests, *words)
    wait_for_answers(tmp_path, 20)
    servers.kill(urls[0])
    out, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    log = checked(tmp_path, requests)
    workload = load_workload(CONFIG, requests)
    wide = {flow.id for flow in workload.workflows if any(node.model == "llm70b" for node in flow.nodes)}
    flows = dict(zip(workload.request_ids, workload.workflow.tolist(), strict=True))
    failed = {part["request_id"]: part["reason"] for part in log.extra["failures"]}
    assert failed
    assert all(workload.workflows[flows[request]].id in wide for request in failed)
    assert all("server 0 is lost" in reason for reason in failed.values())
    assert log.summary["completed_requests"] + log.summary["failed_requests"] == 60
    assert f"{len(failed)} requests failed" in out.lower() or "failed" in out.lower()


def test_ctrl_c_leaves_a_valid_log_and_resume_does_the_rest(tmp_path: Path, requests: Path, servers: Servers) -> None:
    url = servers.start("--devices", "8", "--time-scale", "0.004")
    process = begin(tmp_path, requests, "--server-url", url, "--mode", "online")
    wait_for_answers(tmp_path, 30)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 1, told
    assert "--resume" in out
    first = checked(tmp_path, requests)
    assert first.summary["partial"] is True
    assert 30 <= len(first) < load_workload(CONFIG, requests).node_count
    status, _, told = complete(tmp_path, requests, "--server-url", url, "--mode", "online", "--resume")
    assert status == 0, told
    log = checked(tmp_path, requests)
    assert log.summary["partial"] is False
    assert log.summary["completed_requests"] == 60
    assert log.start_time[: len(first)].tolist() == first.start_time.tolist()
    assert log.start_time[len(first) :].min() >= first.summary["stopped_at"]
    assert len(answered(tmp_path)) == len(log)
    status, _, told = complete(tmp_path, requests, "--server-url", url, "--mode", "online", "--resume")
    assert (status, told.count("\n")) == (2, 1)
    assert "nothing left to do" in told


def test_models_that_do_not_fit_fail_with_the_reason(tmp_path: Path, requests: Path, servers: Servers) -> None:
    """The server refuses them; all others go on."""
    url = servers.start("--devices", "4", "--time-scale", "0.001", "--gpu-memory", "20")
    status, out, told = complete(tmp_path, requests, "--server-url", url, "--json", "--retries", "1")
    assert status == 1, told
    found = json.loads(out)
    assert found["summary"]["completed_requests"] > 0
    assert {part["model_name"] for part in found["failures"]} == {"llm70b"}
    assert all("507" in part["reason"] and part["attempts"] == 2 for part in found["failures"])
    checked(tmp_path, requests)


POLICY = """
class Giving:
    def __init__(self):
        self.starts = 0

    def choose(self, view):
        for model in view.waiting():
            gang = view.idle_gang(model)
            if gang is not None:
                self.starts += 1
                return (model, gang) if self.starts < 30 else (model, 10**6)
        return None
"""


def test_what_was_done_outlives_a_policy_that_fails(tmp_path: Path, requests: Path) -> None:
    (tmp_path / "giving.py").write_text(POLICY)
    words = ["--executor", "fake", "--gpus", "8", "--time-scale", "0.0005", "--policy", f"{tmp_path}/giving.py:Giving"]
    folder = tmp_path / "not" / "there"
    status, out, told = complete(folder, requests, *words)
    assert (status, out, told.count("\n")) == (2, "", 1)
    assert "its decision is refused" in told
    log = checked(folder, requests, "Giving")
    assert log.summary["partial"] is True
    assert len(log) == len(answered(folder, "Giving")) == 29


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--gpus", "9"], "--gpus 9: is more than the servers have (4); use fewer"),
        (["--time-scale", "0.5"], "--time-scale 0.5: is not that of the model server (0.001); leave it out"),
        (["--gpus", "2"], "model llm70b: needs 4 GPUs, and no server owns more than 2"),
        (["--resume"], "baseline_execution_log.json: no such file"),
        (["--policy", "nope"], "policy nope: is unknown"),
    ],
)
def test_what_cannot_run_is_told_in_a_line(
    tmp_path: Path, requests: Path, servers: Servers, options: list[str], complaint: str
) -> None:
    url = servers.start("--devices", "4", "--time-scale", "0.001")
    status, out, told = complete(tmp_path, requests, "--server-url", url, *options)
    assert (status, out, told.count("\n")) == (2, "", 1)
    assert complaint in told
    assert not (tmp_path / "baseline_execution_log.json").exists()


def test_a_missing_server_is_told(
    tmp_path: Path, requests: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http, "_PATIENCE", 0.5)
    words = ["run", "--config", str(CONFIG), "--requests", str(requests), "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--server-url", "http://127.0.0.1:9"])
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "model server http://127.0.0.1:9: does not answer" in told


def test_the_script_runs_models_where_it_is_told_to(tmp_path: Path, requests: Path, servers: Servers) -> None:
    url = servers.start("--devices", "8", "--time-scale", "0.0005")
    words = ["--gpus", "8", "--simulate", "TRUE", "--config", CONFIG, "--requests", requests, "--server-url", url]
    script = [sys.executable, ROOT / "scripts" / "offline_scheduler.py"]
    done = subprocess.run([*script, *words, "--out", tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert checked(tmp_path, requests, "offline").summary["completed_requests"] == 60


def test_simulations_may_use_estimates(tmp_path: Path, requests: Path, servers: Servers) -> None:
    url = servers.start("--devices", "1")
    for options in (["--estimator", "profile"], ["--estimator", "api", "--server-url", url]):
        words = ["--config", CONFIG, "--requests", requests, "--gpus", "8", "--out", tmp_path, "--json", *options]
        done = subprocess.run([GSCHED, "simulate", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["summary"]["estimator"] == options[1]
        log = read_log(tmp_path / "baseline_execution_log.json")
        workload = load_workload(CONFIG, requests)
        profile = {model.id: model.mean_duration for model in workload.models}
        texts = [
            text for text, name in zip(log.execution_time, log.model_name.texts(), strict=True) if name == "whisper"
        ]
        assert set(texts) == {profile["whisper"]}
        assert check(log, workload).valid


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--residency", "shared"], "model llm70b: needs 4 GPUs; on Ray only models of one GPU can share"),
        (["--backend", "onnx", "--time-scale", "0.1"], "--time-scale: real work takes its own time"),
        ([], "--gpus: is needed to start Ray"),
    ],
)
def test_what_ray_cannot_do_is_told_before_it_starts(
    tmp_path: Path, requests: Path, options: list[str], complaint: str
) -> None:
    gpus = ["--gpus", "8"] if options else []
    status, out, told = complete(tmp_path, requests, "--executor", "ray", *gpus, *options)
    assert (status, out, told.count("\n")) == (2, "", 1)
    assert complaint in told
