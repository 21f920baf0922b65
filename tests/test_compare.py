"""gsched compare, as users and scripts meet it, and the table that it prints."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gsched
from gsched.cli import main
from gsched.cli.console import print_table
from gsched.comparison import Outcome, attempt, working
from gsched.log import Log
from gsched.policies import Setting
from gsched.policies.baseline import choose
from gsched.report.tables import comparison_notes, comparison_table
from gsched.simulator import simulate

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "examples" / "documents.json"
REQUESTS = ROOT / "examples" / "documents_requests.yaml"
GIVEN = ["--config", str(CONFIG), "--requests", str(REQUESTS), "--gpus", "8"]
GSCHED = Path(sys.executable).parent / "gsched"
OWN = f"{ROOT / 'examples' / 'fewest_switches.py'}:FewestSwitches"

POLICIES = """
class Eager:
    def choose(self, view):
        return next(((m, 0) for m in view.waiting()), None)

class Patient:
    def __init__(self, limit=1):
        if limit > 5:
            raise ValueError("limit must be at most 5")
    def choose(self, view):
        for model in view.waiting():
            gang = view.idle_gang(model)
            if gang is not None:
                return model, gang
        return None

class Baseline(Patient):
    name = "baseline"
"""


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["compare", *GIVEN, *arguments])
    return int(stop.value.code or 0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(POLICIES)
    return tmp_path


Printed = Callable[[], Any]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return lambda: json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_all_policies_that_work_in_the_mode_are_compared(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--mode", mode) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [policy.name for policy in working(mode)]
    rows = lines[lines.index(next(line for line in lines if line.startswith("─"))) + 1 :][: len(names)]
    assert [row.split()[0] for row in rows] == names
    assert {row.split()[-1] for row in rows} == {"yes"}
    assert lines[0].startswith(f"300 requests, 1,009 nodes, {mode}, on 8 GPUs, exclusive residency")


def test_each_line_is_what_simulate_says(here: Path, printed: Printed) -> None:
    options = ["--mode", "online", "--gpus-per-server", "4", "--residency", "shared", "--gpu-memory", "70"]
    options += ["--pcie-bandwidth", "20", "--switch-overhead", "1"]
    assert run("--policy", "baseline", "--policy", OWN, *options, "--json") == 0
    outcomes = printed()
    assert [outcome["policy"] for outcome in outcomes] == ["baseline", "FewestSwitches"]
    for outcome, policy in zip(outcomes, ("baseline", OWN), strict=True):
        with pytest.raises(SystemExit):
            main(["simulate", *GIVEN, *options, "--policy", policy, "--json"])
        assert outcome["summary"] == printed()["summary"]
        assert outcome["valid"]
        assert (outcome["violations"], outcome["problem"]) == ([], None)
        assert outcome["wall_seconds"] > 0


def test_logs_are_kept_where_asked(here: Path) -> None:
    (here / "logs").mkdir()
    assert run("--policy", "baseline", "--policy", OWN, "--out", "logs", "--quiet") == 0
    names = ("FewestSwitches_execution_log.json", "FewestSwitches_scheduler.log")
    assert sorted(path.name for path in (here / "logs").iterdir()) == sorted(
        [*names, *(name.replace("FewestSwitches", "baseline") for name in names)]
    )
    with pytest.raises(SystemExit) as stop:
        main(["check", "logs/baseline_execution_log.json", *GIVEN[:4], "--quiet"])
    assert not stop.value.code
    assert run("--policy", "baseline", "--quiet") == 0
    assert {path.name for path in here.iterdir()} == {"own.py", "logs"}


def test_csv_has_a_line_for_each_policy(here: Path, printed: Printed) -> None:
    assert run("--policy", "baseline", "--policy", "own.py:Eager", "--csv", "figures.csv", "--json") == 1
    summary = printed()[0]["summary"]
    with (here / "figures.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["policy"], first["valid"], first["problem"]) == ("baseline", "True", "")
    assert float(first["makespan"]) == summary["makespan"]
    assert first["lower_bound_name"] == summary["lower_bound_name"]
    assert "gpus" not in first
    assert (second["policy"], second["valid"], second["makespan"]) == ("Eager", "False", "")
    assert "refused" in second["problem"]


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--policy", "baseline", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_policy_against_the_rules_is_a_finding(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--policy", "baseline", "--policy", "own.py:Eager") == 1
    out = capsys.readouterr().out
    assert "\nbaseline " in out
    assert "\nEager " not in out.replace("\nEager did not run", "")
    assert "\nEager did not run: policy Eager at " in out


def test_a_policy_that_does_not_work_in_the_mode_is_no_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = gsched.policies.find_policy

    def offline_only(name: object, options: object = None) -> gsched.Policy:
        return replace(found(name, options), modes=("offline",)) if name == "edf" else found(name, options)

    monkeypatch.setattr("gsched.policies.find_policy", offline_only)
    monkeypatch.setattr("gsched.comparison.find_policy", offline_only)
    assert run("--policy", "edf", "--policy", "baseline", "--mode", "online") == 0
    assert "\nedf did not run: policy edf: does not work online; use --mode offline" in capsys.readouterr().out
    assert run("--policy", "edf", "--mode", "online") == 2
    assert "makespan" not in capsys.readouterr().out
    assert run("--mode", "online") == 0
    assert "edf" not in capsys.readouterr().out


def test_a_wrong_schedule_is_a_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def early(workload: object, cluster: object, policy: gsched.Policy, *args: object, **options: object) -> Log:
        log = simulate(workload, cluster, policy, *args, **options)
        return replace(log, start_time=log.start_time - 1) if policy.name == "edf" else log

    monkeypatch.setattr("gsched.comparison.simulate", early)
    assert run("--policy", "baseline", "--policy", "edf") == 1
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines() if line.startswith(("baseline ", "edf "))] == ["yes", "NO"]
    assert "\nedf: NOT valid, duration: " in out
    assert run("--policy", "baseline", "--policy", "edf", "--json") == 1
    baseline, edf = json.loads(capsys.readouterr().out)
    assert (baseline["valid"], edf["valid"]) == (True, False)
    assert any(violation.startswith("duration: ") for violation in edf["violations"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--gpus", "3"], "model llm70b: needs 4 GPUs, the cluster has 3"),
        (["--policy", "nosuch"], "policy nosuch: is unknown"),
        (["--set", "foo=3"], "--set foo=3: is not of the form POLICY.NAME=VALUE; such as --set baseline.NAME=VALUE"),
        (["--set", "baseline.foo"], "--set baseline.foo: is not of the form POLICY.NAME=VALUE"),
        (["--set", "baseline.foo=1"], "policy baseline: has no option foo"),
        (["--policy", "edf", "--set", "baseline.foo=1"], "--set baseline.foo=1: baseline is not compared; choose edf"),
        (["--policy", "baseline", "--trials", "3"], "--trials is for policy search; add --policy search, or omit it"),
        (["--policy", "baseline", "--policy", "own.py:Baseline"], "policy baseline: is the name of two policies"),
        (["--policy", "own.py:Patient", "--set", "own.py:Patient.limit=6"], "limit must be at most 5"),
        (["--out", "own.py"], "own.py: "),
        (["--csv", "own.py/figures.csv", "--policy", "baseline", "--out", "."], "own.py"),
        (["--gpu-memory", "0"], "gpu_memory_gb must be between"),
        (["--config", "nosuch.json"], "nosuch.json"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], complaint: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert complaint in error
    assert not list(here.glob("*.log"))


def test_options_reach_the_policy_that_is_meant(here: Path, printed: Printed) -> None:
    assert run("--policy", "own.py:Patient", "--policy", "baseline", "--set", "own.py:Patient.limit=4", "--json") == 0
    noted = {outcome["policy"]: outcome["summary"]["policy_options"] for outcome in printed()}
    assert noted == {"Patient": {"limit": "4"}, "baseline": {}}


def test_a_policy_named_twice_is_compared_once(printed: Printed) -> None:
    assert run("--policy", "baseline", "--policy", "baseline", "--json") == 0
    assert len(printed()) == 1


def test_piped_table_is_plain_and_whole(tmp_path: Path) -> None:
    words = [GSCHED, "compare", *GIVEN, "--policy", "baseline", "--policy", "edf"]
    environment = os.environ | {"COLUMNS": "40"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    title = next(line for line in done.stdout.splitlines() if line.startswith("policy"))
    columns = ["policy", "makespan", "gap", "mean", "p50", "p99", "switches", "ovhd", "util", "wall", "valid"]
    assert title.split() == columns
    assert "…" not in done.stdout
    assert len(title) <= 80


# The table


def outcome(policy: str, makespan: float, *, valid: bool = True, **figures: float | None) -> Outcome:
    names = {"gap_percent", "average_request_time", "median_request_time", "p99_request_time"}
    names |= {"total_model_switches", "switch_overhead_percent", "average_utilization"}
    summary = dict.fromkeys(sorted(names), 1.0) | {"makespan": makespan} | figures
    return Outcome(policy, summary, () if valid else ("overlap: twice",), seconds=0.25)


def cells(outcomes: list[Outcome], title: str) -> list[str]:
    """The cells of a column, the best in asterisks."""
    table = comparison_table(outcomes)
    column = next(column for column in table.columns if column.header == title)
    return [f"*{text}*" if "bold" in str(text.style) else str(text) for text in column.cells]


def test_the_best_of_each_column_is_marked() -> None:
    slo = [{"slo_attainment_percent": share, "goodput": rate} for share, rate in ((50.0, 0.5), (75.0, 0.25), (None, 1))]
    outcomes = [
        outcome("a", 1234.4, **slo[0], gap_percent=7.0, average_utilization=99.0),
        outcome("b", 1234.2, **slo[1], gap_percent=None, average_utilization=1.0),
        outcome("c", 1, **slo[2], valid=False, gap_percent=1.0),
    ]
    assert cells(outcomes, "makespan") == ["*1,234*", "*1,234*", "1"]
    assert cells(outcomes, "gap") == ["7.0%", "-", "1.0%"]
    assert cells(outcomes, "mean") == ["*1.00*", "*1.00*", "1.00"]
    assert cells(outcomes, "util") == ["99%", "1%", "1%"]
    assert cells(outcomes, "SLO") == ["50.0%", "*75.0%*", "-"]
    assert cells(outcomes, "good/s") == ["*0.500*", "0.250", "1.000"]
    assert cells(outcomes, "valid") == ["yes", "yes", "*NO*"]


def test_of_one_policy_nothing_is_the_best() -> None:
    assert cells([outcome("a", 5.0), Outcome("b", problem="too large")], "makespan") == ["5.00"]


@pytest.mark.parametrize(
    ("largest", "text"), [(9.994, "9.99"), (10.0, "10.0"), (999.94, "999.9"), (1000.0, "1,000"), (0.0, "0.00")]
)
def test_times_have_the_decimals_that_tell_them_apart(largest: float, text: str) -> None:
    assert cells([outcome("a", largest)], "makespan") == [text]


def test_columns_can_be_left_out() -> None:
    table = comparison_table([outcome("a", 5.0)], without=("wall", "p50"))
    titles = [column.header for column in table.columns]
    assert titles == ["policy", "makespan", "gap", "mean", "p99", "switches", "ovhd", "util", "valid"]


@pytest.mark.parametrize(("columns", "width"), [(120, 109), (109, 109), (108, 97), (40, 97)])
def test_a_table_that_does_not_fit_is_closer_and_never_cut(
    columns: int, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    figures = dict.fromkeys(("average_request_time", "median_request_time", "p99_request_time"), 654321.0)
    figures |= {"total_model_switches": 123456, "slo_attainment_percent": 100.0, "goodput": 123.456}
    print_table(
        comparison_table([outcome("somewhat", 654321.0, **figures, gap_percent=1234.5, switch_overhead_percent=1234.0)])
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == width
    assert "…" not in "".join(lines)


def test_notes_say_what_the_table_does_not() -> None:
    outcomes = [
        outcome("placed", 5.0, deployment_time_seconds=61.4, lower_bound=4.2),
        outcome("wrong", 5.0, valid=False),
        Outcome("large", problem="does not fit"),
    ]
    assert list(comparison_notes(outcomes)) == [
        "placed: its models are in place before time 0 (loading them takes 61 s, not counted), so its bound is 4 s",
        "wrong: NOT valid, overlap: twice",
        "large did not run: does not fit",
    ]


def test_all_that_keeps_a_policy_from_running_is_one_line() -> None:
    def refuse(_setting: Setting) -> None:
        raise gsched.InputError([gsched.Problem("", f"model {model}", "does not fit") for model in "ab"])

    workload = gsched.load_workload(CONFIG, REQUESTS)
    policy = gsched.Policy("small", choose, prepare=refuse)
    refused = attempt(workload, gsched.Cluster(8), policy, "offline")
    assert refused == Outcome("small", problem="model a: does not fit; model b: does not fit")


def test_from_python() -> None:
    workload = gsched.load_workload(CONFIG, REQUESTS)
    everyone = gsched.compare(workload, gsched.Cluster(8), mode="online")
    assert [outcome.policy for outcome in everyone] == [policy.name for policy in working("online")]
    assert all(outcome.valid for outcome in everyone)
    one = gsched.compare(workload, gsched.Cluster(8), ["baseline"], "online")
    assert one[0].summary == everyone[0].summary
    with pytest.raises(gsched.InputError, match="needs 4 GPUs"):
        gsched.compare(workload, gsched.Cluster(2))


def test_progress_of_the_planning_and_of_the_run_is_told() -> None:
    workload = gsched.load_workload(CONFIG, REQUESTS)
    told: list[object] = []

    def prepare(setting: Setting) -> tuple[()]:
        setting.progress(0.25)
        return ()

    policy = gsched.Policy("slow", choose, prepare=prepare)
    done = attempt(
        workload,
        gsched.Cluster(8),
        policy,
        "offline",
        progress=lambda *counts: told.append(counts),
        planning=told.append,
        keep=told.append,
    )
    assert done.valid
    assert told[:2] == [0.25, (1009, 1009)]
    assert told[-1].summary is done.summary
