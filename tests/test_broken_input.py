import os
import subprocess
import sys
from pathlib import Path

import broken
import broken_files
import broken_logs
import broken_requests
import pytest
from broken import Broken, write

from gsched.cli import main

WORKLOADS = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("config", broken.CASES),
        ("requests", broken_requests.CASES),
        ("file", broken_files.FILES),
        ("Parquet", broken_files.PARQUET),
    )
    for name, case in cases.items()
}

SIMULATE = ("simulate", "--config", "config.yaml", "--requests", "requests.yaml", "--out", "out")
VALIDATE = ("validate", "--config", "config.yaml")

OPTIONS: dict[tuple[str, ...], str] = {
    (): "Missing option '--gpus'",
    ("--gpus", "0"): "Invalid value for '--gpus': ",
    ("--gpus", "-4"): "Invalid value for '--gpus': ",
    ("--gpus", "nan"): "Invalid value for '--gpus': ",
    ("--gpus", "1.5"): "Invalid value for '--gpus': ",
    ("--gpus", ""): "Invalid value for '--gpus': ",
    ("--gpus", "3"): "model big: needs 4 GPUs, the cluster has 3; add GPUs",
    ("--gpus", "1000001"): "options: a cluster has 1 to 1,000,000 GPUs, not 1000001; correct the option",
    ("--gpus", "9" * 30): "options: a cluster has 1 to 1,000,000 GPUs, not 999",
    ("--gpus", "8", "--gpus-per-server", "0"): "Invalid value for '--gpus-per-server': ",
    (
        "--gpus",
        "8",
        "--pcie-bandwidth",
        "0",
    ): "options: pcie_bandwidth must be between 1e-15 and 1e+15, not 0.0; correct",
    ("--gpus", "8", "--pcie-bandwidth", "-16"): "options: pcie_bandwidth must be between 1e-15 and 1e+15, not -16.0",
    ("--gpus", "8", "--pcie-bandwidth", "nan"): "options: pcie_bandwidth must be between 1e-15 and 1e+15, not nan",
    (
        "--gpus",
        "8",
        "--pcie-bandwidth",
        "1e-320",
    ): "options: pcie_bandwidth must be between 1e-15 and 1e+15, not 1e-320",
    ("--gpus", "8", "--pcie-bandwidth", "fast"): "Invalid value for '--pcie-bandwidth': ",
    (
        "--gpus",
        "8",
        "--switch-overhead",
        "-1",
    ): "options: switch_overhead must be between 0 and 1e+15, not -1.0; correct",
    (
        "--gpus",
        "8",
        "--switch-overhead",
        "inf",
    ): "options: switch_overhead must be between 0 and 1e+15, not inf; correct",
    ("--gpus", "8", "--switch-overhead", "1e308"): "options: switch_overhead must be between 0 and 1e+15, not 1e+308",
    ("--gpus", "8", "--mode", "live"): "Invalid value for '--mode': ",
    ("--gpus", "8", "--log-format", "csv"): "Invalid value for '--log-format': ",
    ("--gpus", "8", "--frobnicate"): "No such option: --frobnicate",
    ("--gpus", "8", "more"): "Got unexpected extra argument",
    (
        "--gpus",
        "8",
        "--out",
        "config.yaml",
    ): "config.yaml: cannot be written (Not a directory); choose",
    (
        "--gpus",
        "8",
        "--out",
        "config.yaml/out",
    ): "config.yaml/out: cannot be written (Not a direct",
    (
        "--gpus",
        "8",
        "--out",
        "/proc/out",
    ): "/proc/out: cannot be written (No such file or directory)",
    ("--gpus", "8", "--out", "o" * 300): f"{'o' * 300}: cannot be written (File name too long)",
    ("--gpus", "8", "--policy", "best"): "policy best: is unknown; choose baseline",
    ("--gpus", "8", "--policy", ""): "policy : is unknown; choose baseline",
    ("--gpus", "8", "--policy", ":"): ".: is no Python file; name one as path.py:Class",
    ("--gpus", "8", "--policy", ":P"): ".: is no Python file; name one as path.py:Class",
    ("--gpus", "8", "--policy", "absent.py:P"): "absent.py: is no Python file; name one as path.py:Class",
    ("--gpus", "8", "--policy", "config.yaml:P"): "config.yaml: is no Python file; name one as path.py:Class",
}

# what a policy's file may hold, and the line that answers
POLICIES: dict[str, str] = {
    "class P(:\n": "policy.py: P: cannot be loaded (SyntaxError: ",
    "import nothing_of_that_name\n": "policy.py: P: cannot be loaded (ModuleNotFoundError: ",
    "class Q: ...\n": "policy.py: P: cannot be loaded (AttributeError: module 'policy' has no attribute 'P'",
    "class P: ...\n": "policy P: has no method choose(view)",
    "class P:\n    def __init__(self, x): ...\n": "policy.py: P: cannot be loaded (TypeError: ",
    "class P:\n    def choose(self, view):\n        return 1 / 0\n": "policy P: choose failed at {}:3: ZeroDivision",
    "class P:\n    def choose(self, view):\n        return 'llm', 0\n": "policy P: choose returned ('llm', 0), not",
    "class P:\n    def choose(self, view):\n        return None\n": "policy P at 0 s: waits although 2 nodes are ready",
    "class P:\n    def choose(self, view):\n        return 0, 99\n": "policy P at 0 s: its decision is refused, ",
    "class P:\n    def choose(self, view):\n        return 0, 2**70\n": "policy P at 0 s: its decision is refused, ",
}


def status(arguments: tuple[str, ...]) -> object:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return stopped.value.code


def files(folder: Path) -> set[Path]:
    """What is there, but for the bytecode of policies."""
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs a command that must refuse its input; returns the lines of its answer."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> list[str]:
        before = files(tmp_path)
        assert status(arguments) == 2
        out, err = capsys.readouterr()
        assert not out
        assert files(tmp_path) == before
        lines = err.splitlines()
        assert all(line.startswith(("error: ", "warning: ")) for line in lines), err
        return lines

    return run


def assert_begin(lines: list[str], expected: tuple[str, ...]) -> None:
    assert len(lines) == len(expected), lines
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == list(expected), lines


@pytest.mark.parametrize("case", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_a_broken_workload_is_refused_line_by_line(case: Broken, refused, tmp_path):
    write(tmp_path, case.files)
    assert_begin(refused(*case.command), case.expected)
    requests = case.command[3:] or ("--requests", "requests.yaml")
    assert_begin(
        refused("simulate", *case.command[1:3], *requests, "--gpus", "8", "--out", "out"),
        case.expected,
    )


def test_the_corpus_is_large_enough():
    assert len(WORKLOADS) + len(broken_logs.NO_LOGS) + len(OPTIONS) + len(POLICIES) > 200


@pytest.mark.parametrize("case", broken_logs.NO_LOGS.values(), ids=broken_logs.NO_LOGS.keys())
def test_what_is_no_log_is_refused_in_a_line(case: Broken, refused, tmp_path):
    write(tmp_path, case.files)
    assert_begin(refused(*case.command), case.expected)
    workload = ("--config", "config.yaml", "--requests", "requests.yaml")
    assert_begin(refused(*case.command, *workload, "--save-report"), case.expected)


@pytest.mark.parametrize(
    "workload", [(), ("--config", "config.yaml", "--requests", "requests.yaml")], ids=["", "workload"]
)
@pytest.mark.parametrize(("content", "finding"), broken_logs.INVALID_LOGS.values(), ids=broken_logs.INVALID_LOGS.keys())
def test_a_log_that_breaks_a_rule_is_a_finding(content, finding, workload, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"log": content})
    assert status(("check", "log", *workload)) == 1
    out, err = capsys.readouterr()
    assert finding in out
    assert "The schedule is NOT valid" in out
    assert not err


def test_the_log_that_invalid_ones_are_made_of_is_valid(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"log.json": broken_logs.log(), "log.parquet": broken_logs.parquet_log()})
    assert status(("check", "log.json")) == 0
    assert status(("check", "log.parquet")) == 0
    assert "The schedule is valid" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "line"), OPTIONS.items(), ids=" ".join)
def test_a_wrong_option_is_refused_in_a_line(options, line, refused, tmp_path):
    write(tmp_path, {})
    assert_begin(refused(*SIMULATE, *options), (f"error: {line}",))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("validate",), "Missing option '--config'"),
        ((*VALIDATE, "--gpus", "3"), "model big: needs 4 GPUs, the cluster has 3; add GPUs"),
        ((*VALIDATE, "--gpus-per-server", "3"), "options: --gpus-per-server says nothing without --gpus; give both"),
        (
            (*VALIDATE, "--gpus", "1" * 9),
            "options: a cluster has 1 to 1,000,000 GPUs, not 111111111; correct the option",
        ),
        (("check",), "Missing argument 'LOG'"),
        (("check", "config.yaml", "--config", "config.yaml"), "options: --config and --requests belong together; give"),
        (("check", "bare", "--mode", "live"), "Invalid value for '--mode': "),
        (("check", "bare", "--gpus", "0"), "Invalid value for '--gpus': "),
        (
            ("check", "bare", "--switch-overhead", "1"),
            "options: --switch-overhead says nothing without --gpus, which the log leaves out; add it",
        ),
        (
            ("check", "bare", "--gpus", "1", "--pcie-bandwidth", "0"),
            "options: pcie_bandwidth must be between 1e-15 and 1e+15, not 0.0; correct the options",
        ),
        (("frobnicate",), "No such command 'frobnicate'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line_is_refused_in_a_line(arguments, line, refused, tmp_path):
    write(tmp_path, {"bare": '{"executions": []}'})
    assert_begin(refused(*arguments), (f"error: {line}",))


@pytest.mark.parametrize(("content", "line"), POLICIES.items(), ids=POLICIES.values())
def test_a_broken_policy_is_refused_in_a_line(content, line, refused, tmp_path):
    write(tmp_path, {"policy.py": content})
    lines = refused(*SIMULATE, "--gpus", "8", "--policy", "policy.py:P")
    assert_begin(lines, (f"error: {line.format(tmp_path / 'policy.py')}",))


@pytest.mark.parametrize(
    "name", ["config: cycle", "file: UTF-16", "file: half a surrogate pair", "Parquet: cut off", "requests: time NaN"]
)
def test_a_process_answers_the_same(name, tmp_path):
    case = WORKLOADS[name]
    write(tmp_path, case.files)
    before = files(tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "gsched", *case.command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    lines = run.stderr.decode().splitlines()
    assert run.returncode == 2
    assert not run.stdout
    assert_begin(lines, case.expected)
    assert files(tmp_path) == before
