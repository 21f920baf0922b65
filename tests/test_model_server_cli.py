"""The command gsched model-server, as a process and with options that cannot be."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving import PATIENCE, logs_kept

from gsched.cli import main

GSCHED = Path(sys.executable).parent / "gsched"
CONFIG = Path(__file__).parent.parent / "examples" / "documents.json"


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Take back what a command has set for its process."""
    with logs_kept():
        yield


@contextmanager
def process(*words: object) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Start a server; yield it and its port, and end it in any case."""
    command = [str(GSCHED), "model-server", "--port", "0", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        guard = threading.Timer(PATIENCE, server.kill)
        guard.start()
        try:
            assert server.stdout
            line = server.stdout.readline()
            found = re.fullmatch(r"Serving model server on http://127.0.0.1:(\d+), backend (\w+), \d+ GPUs?\n", line)
            assert found, line
            yield server, int(found[1])
        finally:
            guard.cancel()
            server.kill()


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def busy(port: int) -> bool:
    return any(device["busy"] for device in ask(port, "GET", "/standalone/status")[1]["data"]["devices"])


@pytest.mark.parametrize(
    ("number", "grace", "answered"), [(signal.SIGTERM, 60, True), (signal.SIGINT, 60, True), (signal.SIGTERM, 0, False)]
)
def test_end_during_a_call(number: int, grace: int, answered: bool, tmp_path: Path) -> None:
    options = ("--grace", grace, "--config", CONFIG, "--output-dir", tmp_path / "out", "--log-format", "json")
    with (
        process(*options, "--switch-overhead", 0, "--time-scale", 0.05) as (server, port),
        ThreadPoolExecutor() as pool,
    ):
        status, made = ask(port, "POST", "/standalone/serve", {"model_name": "embedder", "device": "cuda:0"})
        assert status == 200
        id = made["data"]["instance_id"]
        body = {"data": {"prompt": "x", "seconds": 1.5 / 0.05 if answered else 1e6}}
        calling = pool.submit(ask, port, "POST", f"/standalone/call/{id}", body)
        while not busy(port):
            pass
        server.send_signal(number)
        assert calling.result()[0] == (200 if answered else 503)
        out, err = server.communicate(timeout=PATIENCE)
        assert (server.returncode, out) == (0, ""), err
        events = [json.loads(line)["event"] for line in err.splitlines()]
        assert events[:2] == ["fetched", "loaded"]
        assert "draining" in events
        assert "Traceback" not in err


@contextmanager
def occupied() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def problem(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that cannot work; return the line that says why."""
    with pytest.raises(SystemExit) as stop:
        main(["model-server", *map(str, words)])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1), err
    return err.removeprefix("error: ").strip()


def test_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with occupied() as port:
        told = problem(capsys, "--port", port)
    assert told.startswith(f"127.0.0.1:{port}: cannot be listened on (")
    assert told.endswith("choose another --port or --host, or end what uses it")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "no.such.host.invalid"], "cannot be listened on"),
        (["--config", "none.json"], "none.json: no such file"),
        (["--gpu-memory", "0"], "gpu_memory_gb must be between"),
        (["--time-scale", "0"], "Invalid value for '--time-scale'"),
        (["--backend", "onnx", "--time-scale", "0.5"], "real work takes its own time with --backend onnx"),
        (["--backend", "onnx", "--model", "a=none.onnx"], "none.onnx: no such file"),
        (["--model", "a=b"], "has no use with --backend emulated"),
        (["--backend", "onnx", "--model", "a"], "is not NAME=PATH"),
        (["--backend", "onnx", "--model", "a=b", "--model", "a=c"], "is given twice"),
        (["--output-dir", "/dev/null/x"], "cannot be written"),
        (["--token-file", "/dev/null"], "holds no token"),
    ],
)
def test_options_that_cannot_be(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in problem(capsys, "--port", "0", *words)


def test_missing_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsched.cli.extras.find_spec", lambda name: None if name == "torch" else name)
    assert "pip install 'gsched[hf]'" in problem(capsys, "--port", "0", "--backend", "hf")
    monkeypatch.setattr("gsched.cli.extras.find_spec", lambda name: None)
    assert "pip install 'gsched[live]'" in problem(capsys)
