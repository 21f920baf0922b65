"""The command line, as users and scripts meet it."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small import staying

from gsched.cli import app, main
from gsched.cluster import Cluster
from gsched.live.run.executors import http
from gsched.log import Log
from gsched.simulator import simulate
from gsched.workload import Workload

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "examples" / "documents.json"
REQUESTS = ROOT / "examples" / "documents_requests.yaml"
GIVEN = ["--config", str(CONFIG), "--requests", str(REQUESTS)]
GSCHED = Path(sys.executable).parent / "gsched"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_simulate_writes_a_valid_log_and_prints_the_metrics(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("simulate", *GIVEN, "--gpus", "8") == 0
    assert sorted(path.name for path in here.iterdir()) == ["baseline_execution_log.json", "baseline_scheduler.log"]
    text = capsys.readouterr().out
    for label in (
        "EXECUTION METRICS",
        "Total execution time (makespan): ",
        "Request completion times:\n  Average: ",
        "  P99: ",
        "GPU utilization:\n  GPU 0: ",
        "Model execution counts:\n  ocr: ",
        "The schedule is valid",
        "Detailed execution log written to baseline_execution_log.json",
    ):
        assert label in text
    assert run("check", "baseline_execution_log.json", *GIVEN) == 0


def test_log_has_the_documented_shape(here: Path) -> None:
    run("simulate", *GIVEN, "--gpus", "8", "--mode", "online", "--quiet")
    log = json.loads((here / "baseline_execution_log.json").read_text())
    assert list(log) == ["summary", "executions"]
    assert log["summary"]["mode"] == "online"
    assert log["summary"]["gpus"] == list(range(8))
    assert log["summary"]["total_nodes_executed"] == len(log["executions"])
    assert list(log["executions"][0]) == [
        "request_id",
        "workflow_id",
        "node_id",
        "model_name",
        "gpu_id",
        "gpu_ids",
        "start_time",
        "end_time",
        "execution_time",
        "estimated_time",
        "switch_time",
        "ready_time",
        "waiting_time",
    ]


def test_text_log_tells_the_story_of_each_node(here: Path) -> None:
    run("simulate", *GIVEN, "--gpus", "8", "--mode", "online", "--quiet")
    lines = (here / "baseline_scheduler.log").read_text().splitlines()
    rows = json.loads((here / "baseline_execution_log.json").read_text())["executions"]
    number = r"\d+\.\d\d"
    patterns = {
        "arrived": rf"\[{number}s\] Processing request \S+ \(workflow: \S+\)",
        "loaded": rf"\[{number}s\] Loading model \S+ on GPU\(s\) \[[\d, ]+\] \(switch time: {number}s\)",
        "scheduled": rf"\[{number}s\] Scheduled node \S+ of request \S+ on GPU\(s\) \[[\d, ]+\] "
        rf"\(start: {number}s, end: {number}s\)",
        "completed": rf"\[{number}s\] Completed node \S+ of request \S+ on GPU\(s\) \[[\d, ]+\]",
        "finished": rf"\[{number}s\] Request \S+ completed",
    }
    counts = {name: sum(bool(re.fullmatch(pattern, line)) for line in lines) for name, pattern in patterns.items()}
    requests = len({row["request_id"] for row in rows})
    loads = sum(row["switch_time"] > 0 for row in rows)
    expected = {"arrived": requests, "loaded": loads, "scheduled": len(rows), "completed": len(rows)}
    assert counts == expected | {"finished": requests}
    times = [float(line[1:].split("s]")[0]) for line in lines if line.startswith("[")]
    assert times == sorted(times)


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_log_formats_hold_the_same(here: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("simulate", *GIVEN, "--gpus", "8", "--log-format", suffix, "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed["check"] == {"valid": True, "violations": []}
    assert printed["execution_log"] == f"baseline_execution_log.{suffix}"
    run("check", printed["execution_log"], *GIVEN, "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["valid"]
    assert report["unchecked"] == []


def test_check_finds_a_shifted_row(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("simulate", *GIVEN, "--gpus", "8", "--quiet")
    path = here / "baseline_execution_log.json"
    log = json.loads(path.read_text())
    log["executions"][40]["start_time"] -= 3
    path.write_text(json.dumps(log))
    assert run("check", str(path), *GIVEN, "--save-report") == 1
    out = capsys.readouterr().out
    assert "row 40" in out
    assert "NOT valid" in out
    assert "row 40" in (here / "baseline_execution_log_check_report.txt").read_text()
    assert run("check", str(path), "--quiet") == 1
    assert capsys.readouterr().out == "FAIL\n"


FOREIGN = ("request_id", "node_id", "model_name", "gpu_id", "start_time", "end_time", "gpu_ids", "switch_time")
CLUSTER = ("--gpus", "8", "--gpus-per-server", "4", "--pcie-bandwidth", "20", "--switch-overhead", "1")


@pytest.fixture
def foreign(here: Path) -> Path:
    """A log without a summary and without what other tools would leave out."""
    run("simulate", *GIVEN, *CLUSTER, "--mode", "online", "--quiet")
    rows = json.loads((here / "baseline_execution_log.json").read_text())["executions"]
    path = here / "foreign.json"
    path.write_text(json.dumps({"executions": [{name: row[name] for name in FOREIGN} for row in rows]}))
    return path


def test_check_is_told_what_the_log_leaves_out(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(foreign), *GIVEN) == 0
    text = capsys.readouterr().out
    assert "neither the caller nor the summary describes the cluster" in text
    assert run("check", str(foreign), *GIVEN, *CLUSTER, "--mode", "online") == 0
    text = capsys.readouterr().out
    assert "neither" not in text
    assert "(17 rules checked)" in text


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        (("--gpus", "7"), "gpus: runs on a GPU outside the cluster (0 to 6)"),
        (("--gpus-per-server", "3"), "server: gang is neither inside a server of 3 GPUs nor"),
        (("--pcie-bandwidth", "16"), "switch_time: switch_time is not what loading takes"),
        (("--switch-overhead", "0"), "switch_time: switch_time is not what loading takes"),
    ],
)
def test_check_goes_by_its_options(
    options: tuple[str, ...], finding: str, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", str(foreign), *GIVEN, *CLUSTER, *options) == 1
    assert finding in capsys.readouterr().out


def test_an_option_that_the_summary_contradicts_is_a_finding(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("simulate", *GIVEN, "--gpus", "8", "--pcie-bandwidth", "20", "--quiet")
    path = "baseline_execution_log.json"
    assert run("check", path, *GIVEN, "--gpus", "8", "--mode", "offline") == 0
    assert run("check", path, *GIVEN, "--switch-overhead", "2") == 0
    assert run("check", path, "--gpus", "9") == 1
    assert "summary: gpus is not that of the cluster" in capsys.readouterr().out
    assert run("check", path, *GIVEN, "--mode", "online") == 1
    assert "summary: mode is 'offline', not 'online'" in capsys.readouterr().out


def test_saved_report_has_a_line_for_each_finding(here: Path) -> None:
    (here / "a\nb.json").write_text('{"executions": []}')
    assert run("check", "a\nb.json", "--save-report", "--quiet") == 0
    assert (here / "a\nb_check_report.txt").read_text().startswith(r"a\nb.json: valid" + "\n")


def test_one_is_no_plural(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = json.loads(foreign.read_text())
    log["executions"][-1]["gpu_ids"] = []
    foreign.write_text(json.dumps(log))
    assert run("check", str(foreign)) == 1
    assert "NOT valid: 1 violation (" in capsys.readouterr().out


def test_validate_counts_in_the_singular(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workflow = {"nodes": [{"id": "a", "model": "m"}]}
    config = {"models": {"m": {"memory_gb": 1, "inference_time_mean": 1}}, "workflows": {"w": workflow}}
    (here / "config.json").write_text(json.dumps(config))
    (here / "requests.json").write_text('[{"request_id": "r", "timestamp": 0, "workflow_id": "w"}]')
    assert run("validate", "--config", "config.json", "--requests", "requests.json") == 0
    assert capsys.readouterr().out == "1 model, 1 workflow, 1 request, 1 node: 1 warning\n"


def test_simulate_says_so_if_its_own_schedule_is_wrong(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def early(*args: object, **options: object) -> Log:
        log = simulate(*args, **options)
        return replace(log, start_time=log.start_time - 1)

    monkeypatch.setattr("gsched.simulator.simulate", early)
    assert run("simulate", *GIVEN, "--gpus", "8") == 1
    assert "The schedule is NOT valid" in capsys.readouterr().out
    assert run("simulate", *GIVEN, "--gpus", "8", "--no-check", "--quiet") == 0


def test_validate_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", *GIVEN, "--gpus", "4") == 0
    assert capsys.readouterr().out == "7 models, 3 workflows, 300 requests, 1,009 nodes: no problems\n"
    assert run("validate", *GIVEN, "--gpus", "3") == 2
    assert "model llm70b: needs 4 GPUs, the cluster has 3" in capsys.readouterr().err


def test_validate_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", *GIVEN, "--json") == 0
    counts = {"models": 7, "workflows": 3, "requests": 300, "nodes": 1009}
    assert json.loads(capsys.readouterr().out) == {"valid": True, **counts, "tiers": {}, "problems": []}
    (here / "config.json").write_text('{"models": {}}')
    assert run("validate", "--config", "config.json", "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert not found["valid"]
    assert [problem["severity"] for problem in found["problems"]] == ["error", "error"]


def test_no_words_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    captured = capsys.readouterr()
    assert "Usage: gsched" in captured.out + captured.err
    assert "error" not in captured.err


SHARED = ("--residency", "shared", "--gpu-memory", "70.5", "--gpus-per-server", "4")


def test_shared_residency_is_simulated_and_checked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("simulate", *GIVEN, "--gpus", "8", *SHARED, "--json") == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert (summary["residency"], summary["gpu_memory_gb"], summary["gpus_per_server"]) == ("shared", 70.5, 4)
    path = here / "baseline_execution_log.json"
    assert run("check", str(path), *GIVEN) == 0
    assert run("check", str(path), *GIVEN, "--residency", "exclusive") == 1
    assert "summary: residency is not that of the cluster" in capsys.readouterr().out
    assert run("check", str(path), *GIVEN, "--gpu-memory", "80") == 1
    assert "summary: gpu_memory_gb is not that of the cluster" in capsys.readouterr().out
    log = json.loads(path.read_text())
    path.write_text(json.dumps({"executions": log["executions"]}))
    assert run("check", str(path), *GIVEN, "--gpus", "8", *SHARED) == 0
    assert run("check", str(path), *GIVEN, "--gpus", "8") == 1
    assert run("check", str(path), *GIVEN, "--gpu-memory", "80") == 2
    assert "--gpu-memory says nothing without --gpus" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_explain_says_why_before_the_metrics(
    mode: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explained(known: Workload, cluster: Cluster, given: str, placement: list[tuple[int, int]]) -> list[str]:
        return [f"{known.request_count} known {given}, on {cluster.gpus}: {placement}\x1b"]

    placement = tuple((model, 4 if model == 5 else 3) for model in range(7))
    placed = staying(placement, "placed")
    monkeypatch.setattr("gsched.policies.find_policy", lambda *_: placed)
    monkeypatch.setattr("gsched.placement.explain_lines", explained)
    words = ("simulate", *GIVEN, "--gpus", "8", "--mode", mode, "--no-check", "--explain")
    assert run(*words) == 0
    explanation = f"{300 if mode == 'offline' else 0} known {mode}, on 8: {list(placement)}\\x1b\n\n"
    assert capsys.readouterr().out.startswith(f"{explanation}=====")
    assert run(*words, "--quiet") == 0
    assert capsys.readouterr().out == explanation
    assert run(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["explanation"] == explanation.splitlines()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--gpu-memory", "0"), "options: gpu_memory_gb must be between 1e-15 and 1e+15, not 0.0; correct the option"),
        (("--gpu-memory", "30", "--residency", "shared"), "model llm70b: needs 35 GB per GPU, GPUs have 30"),
        (("--residency", "none"), "Invalid value for '--residency'"),
        (("--set", "foo"), "--set foo: is not of the form NAME=VALUE; such as --set patience=3"),
        (("--set", "=3"), "--set =3: is not of the form NAME=VALUE"),
        (("--set", "foo=3"), "policy baseline: has no option foo"),
        (("--objective", "p99"), "policy baseline: has no option objective"),
        (("--budget", "3"), "policy baseline: has no option budget"),
        (("--trials", "3"), "policy baseline: has no option trials"),
        (("--trials", "3", "--set", "trials=4"), "options: --trials and --set both give trials; keep one"),
        (("--budget", "nan", "--policy", "search"), "policy search: "),
        (("--explain",), "policy baseline: places no models that --explain could explain; leave it out"),
    ],
)
def test_bad_options_are_one_line(
    options: tuple[str, ...], complaint: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("simulate", *GIVEN, "--gpus", "8", *options) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert complaint in error
    assert list(here.iterdir()) == []


def test_own_policy_names_the_files(here: Path) -> None:
    policy = f"{ROOT / 'examples' / 'fewest_switches.py'}:FewestSwitches"
    assert run("simulate", *GIVEN, "--gpus", "8", "--policy", policy, "--quiet") == 0
    assert (here / "FewestSwitches_execution_log.json").exists()


COMMANDS = (
    *("demo", "generate", "validate", "simulate", "check", "compare", "report"),
    *("bench", "plot", "plan", "whatif", "trace"),
    *("run", "calibrate", "model-server", "serve", "loadgen"),
)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(f" {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"Example: gsched {command}" in " ".join(capsys.readouterr().out.split())


def test_commands_are_those_that_the_help_test_knows() -> None:
    names = sorted(command.callback.__name__.replace("_", "-") for command in app.registered_commands)
    assert names == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["simulate"], "Missing option"),
        (["simulate", "--gpus", "zero"], "Invalid value for '--gpus'"),
        (["fly"], "No such command 'fly'"),
        (["check"], "Missing argument 'LOG'"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert complaint in error
    assert error.count("\n") == 1


@pytest.fixture
def scripts_folder(here: Path) -> Path:
    shutil.copy(CONFIG, here / "system_config.yaml")
    shutil.copy(REQUESTS, here / "workflow_requests.yaml")
    return here


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(words, capture_output=True, text=True)


def test_baseline_script_and_check_script_have_their_defaults(scripts_folder: Path) -> None:
    done = script("baseline.py", "--gpus", "4", "--simulate", "false", "--mode", "offline")
    assert done.returncode == 0, done.stderr
    for line in (
        "Mode: offline, Simulate: false",
        "[0.00s] Processing request req_0000 ",
        "Simulation mode: no models",
    ):
        assert f"\n{line}" in done.stdout
    assert (scripts_folder / "baseline_execution_log.json").exists()
    assert (scripts_folder / "baseline_scheduler.log").exists()
    assert script("check.py").returncode == 0
    assert script("check.py", "baseline_execution_log.json", "--save-report").returncode == 0
    assert script("check.py", "--quiet").stdout == "PASS\n"


def test_baseline_script_looks_for_its_model_server(
    scripts_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http, "_PATIENCE", 0.5)
    words = ["--gpus", "4", "--simulate", "true", "--server-url", "http://127.0.0.1:9"]
    monkeypatch.setattr(sys, "argv", ["baseline.py", *words])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "scripts" / "baseline.py"), run_name="__main__")
    assert "model server http://127.0.0.1:9: does not answer" in capsys.readouterr().err
    assert not (scripts_folder / "baseline_execution_log.json").exists()


def test_generator_script_has_its_defaults(here: Path) -> None:
    assert script("model_seq_gen.py", "--config", str(CONFIG), "--seed", "1").returncode == 0
    names = sorted(path.name for path in here.iterdir())
    assert names == ["generated_requests.json", "generated_requests.yaml", "generated_stats.json"]
    assert len(json.loads((here / "generated_requests.json").read_text())["requests"]) == 500


def files_of(folder: Path, hash_seed: str) -> dict[str, bytes]:
    """Generate and simulate in processes of their own; return every file by name."""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    for words in (
        ["generate", "--config", str(CONFIG), "--num-requests", "60", "--seed", "5", "--quiet"],
        ["simulate", "--config", str(CONFIG), "--requests", "generated_requests.yaml", "--gpus", "9", "--json"],
    ):
        subprocess.run([GSCHED, *words], cwd=folder, env=environment, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (files_of(folder, seed) for folder, seed in zip(folders, ("1", "4242"), strict=True))
    assert len(first) == 5
    assert first == second
