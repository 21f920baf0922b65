"""`gsched bench`: sweeps from files and options, what it prints, and what it refuses."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_cli import here, run
from test_sweep import row

from gsched.comparison import Outcome, attempt
from gsched.demo import CONFIG
from gsched.errors import InputError
from gsched.generator import generate
from gsched.load import save_config, save_requests
from gsched.report.sweeps import claims_table
from gsched.sweep.definition import Sweep
from gsched.sweep.read import read_sweep
from gsched.sweep.results import Results, read_results

__all__ = ["here"]

ROOT = Path(__file__).parent.parent
SWEEP = """\
workloads:
  drawn: {config: demo.json, num_requests: 20, duration: 2, tiers: "1=1,2=1", deadlines: "1=30s,2=60s"}
  read: {config: demo.json, requests: requests.yaml}
policies:
  - baseline
  - {policy: improved, name: eager, worth: 10}
gpus: [4, 8]
loads: [1, 2]
seeds: 2
mode: online
gpus_per_server: 4
switch_overhead: 1.5
"""


@pytest.fixture
def folder(here: Path) -> Path:
    save_config(CONFIG, here / "demo.json")
    save_requests(generate(CONFIG, 10, 2.0, seed=1), here / "requests.yaml")
    (here / "sweep.yaml").write_text(SWEEP)
    return here


def test_a_file_says_what_is_simulated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "sweep.yaml", "--workers", "1") == 0
    results = read_results(folder / "benchmark_results")
    assert len(results.runs) == (2 + 1) * 2 * 2 * 2
    assert {run["policy"]: json.loads(run["policy_options"]).get("worth") for run in results.runs} == {
        "baseline": None,
        "eager": 10.0,
    }
    assert {(run["mode"], run["gpus_per_server"], run["switch_overhead"]) for run in results.runs} == {
        ("online", 4, 1.5)
    }
    assert {run["seed"] for run in results.runs if run["workload"] == "read"} == {None}
    printed = capsys.readouterr().out
    for text in (
        "drawn, load 2: P99 of the request times, s",
        "drawn, load 1: SLO attainment",
        "GPUs",
        "eager",
        "24 schedules simulated and found valid, of 24; means over 2 seeds ± half of the 95% interval",
        "Results: benchmark_results/results.parquet",
    ):
        assert text in printed
    assert "read, load 1: SLO" not in printed


def test_options_change_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--gpus", "6", "--loads", "1", "--seeds", "1", "--mode", "offline", "--policy", "search"]
    assert run("bench", "sweep.yaml", *words, "--set", "search.trials=6", "--workers", "1", "--out", "x", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["about"]["gpus"] == [6]
    assert told["about"]["policies"]["search"]["options"]["trials"] == 6
    assert told["about"]["cluster"]["switch_overhead"] == 1.5
    assert [(line["workload"], line["policy"], line["n"]) for line in told["intervals"]] == [
        ("drawn", "search", 1),
        ("read", "search", 1),
    ]


def test_without_a_file_options_say_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--config", "demo.json", "--requests", "requests.yaml"]
    assert run("bench", *given, "--gpus", "4,6", "--loads", "1,2", "--workers", "1") == 0
    runs = read_results("benchmark_results").runs
    assert {run["policy"] for run in runs} == {
        *("baseline", "edf", "tiered", "offline", "improved", "hybrid", "static", "online")
    }
    requests = {run["load"]: run["total_requests"] for run in runs if run["valid"]}
    assert requests == {1.0: 10, 2.0: 20}
    printed = capsys.readouterr().out
    assert "demo, load 2: Model switches" in printed
    assert "single runs, without intervals" in printed


def test_the_shipped_suite_is_what_the_script_runs(here: Path) -> None:
    words = ["--gpus", "4,6", "--seeds", "1", "--policy", "baseline", "--policy", "offline", "--workers", "1"]
    script = [sys.executable, ROOT / "scripts" / "run_benchmark.py", *words]
    done = subprocess.run(script, cwd=here, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert "What the document of the offline scheduler claims" in done.stdout
    runs = read_results(here / "benchmark_results").runs
    assert {(run["workload"], run["gpus"], run["policy"]) for run in runs} == {
        (workload, gpus, policy)
        for workload in ("simple", "complex")
        for gpus in (4, 6)
        for policy in ("baseline", "offline")
    }
    assert {run["total_requests"] for run in runs} == {500}


def test_the_shipped_suite_has_the_sizes_of_its_document() -> None:
    sweep = Sweep(**read_sweep(ROOT / "src" / "gsched" / "sweep" / "suites" / "offline.yaml"))
    assert (sweep.gpus[0], sweep.gpus[-1], len(sweep.gpus), len(sweep.seeds), len(sweep.choices)) == (4, 30, 8, 10, 7)
    simple = sweep.sources["simple"].config.models
    assert {model.gpus_required for model in simple.values()} == {1, 4}
    assert max(model.gpus_required for model in sweep.sources["complex"].config.models.values()) == 4


def table_of(runs: list[dict[str, Any]]) -> list[list[str]]:
    columns = claims_table(Results(runs, {})).columns
    return [list(line) for line in zip(*([str(cell) for cell in column.cells] for column in columns), strict=True)]


def test_claims_are_judged_by_proofs_and_figures() -> None:
    runs = []
    for seed, (limit, offline) in enumerate([(1.5, 1.2), (1.9, 1.4)]):
        for workload, switches in (("simple", 3), ("complex", 13)):
            makespans = {"baseline": 100.0, "offline": 100.0 / offline}
            for policy, makespan in makespans.items():
                more = {"lower_bound": 100.0 / limit, "total_model_switches": switches}
                runs += [row(policy, gpus, seed, makespan, workload=workload, **more) for gpus in (4, 6, 30)]
    found = table_of([{**run, "lower_bound": max(run["lower_bound"], 100.0 / 1.6)} for run in runs])
    assert [line[2] for line in found] == ["1.13×", "1.83×", "3", "1.06×", "12"]
    assert [line[3].split()[0] for line in found] == ["1.30×", "1.30×", "3", "1.30×", "13"]
    assert [line[4] for line in found] == ["1.60×", "1.60×", "-", "1.60×", "-"]
    verdicts = ["yes", "impossible", "yes", "yes"]
    assert [line[5] for line in found] == [*verdicts, "no, it takes more"]
    assert table_of(runs)[1][4:] == ["1.90×", "no, it is less"]
    assert {line[5] for line in table_of([])} == {"not run"}
    some = table_of([run for run in runs if run["gpus"] < 30])
    assert [line[5] for line in some] == ["not judged", "no, it is less", *["not judged"] * 3]


def test_a_schedule_that_breaks_a_rule_is_a_finding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.py").write_text("class Bad:\n    def choose(self, view):\n        return 'painter', 99\n")
    words = ["--config", "demo.json", "--num-requests", "5", "--gpus", "4", "--seeds", "2", "--workers", "1"]
    assert run("bench", *words, "--policy", "baseline", "--policy", "bad.py:Bad") == 1
    assert "demo, Bad, 4 GPUs: policy Bad" in capsys.readouterr().out


def test_a_schedule_that_is_not_valid_is_a_finding(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoiled(*arguments: Any, **more: Any) -> Outcome:
        return replace(attempt(*arguments, **more), violations=("overlap: two at once",))

    monkeypatch.setattr("gsched.sweep.runs.attempt", spoiled)
    words = ["--config", "demo.json", "--num-requests", "5", "--gpus", "4", "--workers", "1"]
    assert run("bench", *words, "--policy", "baseline") == 1
    printed = capsys.readouterr().out
    assert "demo, baseline, 4 GPUs: NOT valid, overlap: two at once (1 run)" in printed
    assert "0 schedules simulated and found valid, of 1" in printed
    assert Path("benchmark_results/intervals.csv").read_text().count("\n") == 1


OWN = "class Mine:\n    def choose(self, view):\n        return None\n"


def test_ones_own_policy_is_found_beside_the_file_that_names_it(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "mine.py").write_text(OWN)
    text = SWEEP.replace("- baseline", "- mine.py:Mine").replace("config: ", "config: ../")
    (folder / "below" / "sweep.yaml").write_text(text.replace("requests: requests", "requests: ../requests"))
    assert list(read_sweep("below/sweep.yaml")["choices"]) == ["Mine", "eager"]


def test_two_policies_of_one_name_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.py", "b.py"):
        (folder / name).write_text(OWN)
    assert run("bench", "sweep.yaml", "--policy", "a.py:Mine", "--policy", "b.py:Mine") == 2
    told = capsys.readouterr().err
    assert told == "error: --policy b.py:Mine: is a second policy Mine; tell them apart in a sweep file\n"


@pytest.mark.parametrize("name", ["[/red]", "[red]", "\\e[31m\\n"])
def test_names_are_shown_as_they_are(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SWEEP.replace("name: eager", f'name: "{name}"').replace("drawn:", f'"{name}":')
    (folder / "sweep.yaml").write_text(text)
    assert run("bench", "sweep.yaml", "--loads", "1", "--gpus", "4", "--workers", "1") == 0
    shown = name.replace("\\e", "\\x1b")
    printed = capsys.readouterr().out
    assert f"\n{shown}: Gap of the makespan" in printed
    assert f"baseline {shown}\n" in printed.replace("  ", " ")


def test_where_nothing_fits_it_is_bad_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "demo.json", "--num-requests", "5", "--gpus", "2", "--seeds", "2", "--workers", "1"]
    assert run("bench", *words, "--policy", "baseline") == 2
    printed = capsys.readouterr()
    assert "model expert-70b: needs 4 GPUs, the cluster has 2; add GPUs (2 runs)" in printed.out
    assert "0 schedules simulated and found valid, of 2" in printed.out
    assert run("bench", *words, "--policy", "baseline", "--quiet") == 2
    quiet = capsys.readouterr()
    reason = "demo, baseline, 2 GPUs: model expert-70b: needs 4 GPUs, the cluster has 2; add GPUs"
    assert quiet.err == printed.err == f"error: sweep: nothing could be simulated; {reason}\n"
    assert quiet.out == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "sweep: has no workload; name a file, --suite offline, or --config and --requests"),
        (("--config", "demo.json"), "sweep: has no cluster sizes; add --gpus 4,8,16"),
        (("sweep.yaml", "--suite", "offline"), "--suite: is given beside sweep.yaml; choose one"),
        (("sweep.yaml", "--gpus", "4,x"), "--gpus 4,x: is no list of numbers; such as --gpus 4,8,16"),
        (("sweep.yaml", "--gpus", ""), "--gpus : is no list of numbers"),
        (("sweep.yaml", "--loads", ""), "--loads : is no list of numbers"),
        (("sweep.yaml", "--loads", "0"), "sweep: loads: a load must be above 0"),
        (("sweep.yaml", "--requests", "requests.yaml"), "--requests: is for a workload of its own; add --config"),
        (("sweep.yaml", "--num-requests", "3"), "--num-requests: is for a workload of its own; add --config"),
        (("sweep.yaml", "--set", "eager.worth=1"), "--set: is for policies that --policy names"),
        (
            ("sweep.yaml", "--policy", "hybrid"),
            "policy hybrid: does not work online; use --mode offline or another policy",
        ),
        (("nothing.yaml",), "nothing.yaml: no such file"),
        (
            ("--config", "demo.json", "--requests", "requests.yaml", "--gpus", "4", "--seeds", "2"),
            "--seeds: is for requests that are drawn, but these are read",
        ),
        (
            ("--config", "demo.json", "--requests", "requests.yaml", "--num-requests", "2"),
            "--num-requests: is for requests that are drawn; leave out --requests",
        ),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    words: tuple[str, ...], complaint: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", *words) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
    assert not (folder / "benchmark_results").exists()


BROKEN = [
    (
        "gpus: [4, 8]",
        "gpus: [4, 0, 1.5, x]",
        ["sweep.yaml:7: gpus[1]: must be above 0", "gpus[2]: must be a whole number"],
    ),
    ("gpus: [4, 8]", "gpus: 4", ["sweep.yaml:7: gpus: must be a list, not 4"]),
    ("gpus: [4, 8]", "gpus: []", ["sweep.yaml:7: gpus: is empty; name at least one, or leave it out"]),
    ("loads: [1, 2]", "loads: []", ["sweep.yaml:8: loads: is empty"]),
    ("seeds: 2", "seeds: []", ["sweep.yaml:9: seeds: is empty"]),
    (SWEEP[: SWEEP.index("policies")], "workloads: {}\n", ["sweep.yaml:1: workloads: is empty"]),
    ("loads: [1, 2]", "loads: [.inf]", ["sweep.yaml:8: loads[0]: must be finite"]),
    ("seeds: 2", "seeds: none", ["sweep.yaml:9: seeds: must be a number of seeds or a list of them"]),
    ("seeds: 2", "seeds: true", ["sweep.yaml:9: seeds: must be a number of seeds"]),
    ("seeds: 2", "seeds: [1, true]", ["sweep.yaml:9: seeds: must be a number of seeds"]),
    ("seeds: 2", "seeds: [1, -2]", ["sweep.yaml:9: seeds: must be a number of seeds"]),
    ("mode: online", "mode: later", ["sweep.yaml:10: mode: must be offline or online, not later"]),
    ("- baseline", "- bassline", ["sweep.yaml:5: policies[0]: policy bassline: is unknown"]),
    ("- baseline", "- 3", ["policies[0]: names no policy: 3; write improved, or {policy: …}"]),
    ("- baseline", "- {policy: improved, name: eager}", ["sweep.yaml:6: policies[1]: is a second policy eager"]),
    ("worth: 10", "wort: 10", ["sweep.yaml:6: policies[1]: policy improved: has no option wort; did you mean worth?"]),
    ("seeds: 2", "sedes: 2", ["sweep.yaml:9: sedes: is an unknown field; there are workloads, policies"]),
    ("requests: requests.yaml", "requests: no.yaml", ["no.yaml: no such file"]),
    (
        "num_requests: 20",
        "num_requests: none",
        ["sweep.yaml:2: workloads.drawn: workload: num_requests: must be a number"],
    ),
    ("num_requests: 20", "num_requests: 2.5", ["workload: num_requests: must be a whole number, not 2.5"]),
    (
        "num_requests: 20",
        "requests: requests.yaml",
        ["workload: duration: is for requests that are drawn, but these are read"],
    ),
    ('tiers: "1=1,2=1"', "tiers: 3", ["workload: tiers: must be a text, not 3; write it as for gsched generate"]),
    ('tiers: "1=1,2=1"', 'tiers: "x"', ["sweep.yaml:2: workloads.drawn: tiers: 'x' is not a list of TIER=SHARE"]),
    ("{config: demo.json, requests: requests.yaml}", "demo.json", ["workloads.read: must be a mapping"]),
    ("{config: demo.json, requests: requests.yaml}", "{requests: x.yaml}", ["workloads.read: has no config"]),
    ("gpus_per_server: 4", "gpus_per_server: 0", ["gpus_per_server: must be a whole number from 1"]),
    (SWEEP, "[1, 2]", ["sweep.yaml: must be a mapping, not"]),
]


@pytest.mark.parametrize(("part", "instead", "complaints"), BROKEN)
def test_everything_wrong_in_a_file_is_told_with_its_place(
    part: str, instead: str, complaints: list[str], folder: Path
) -> None:
    assert part in SWEEP
    (folder / "sweep.yaml").write_text(SWEEP.replace(part, instead))
    with pytest.raises(InputError) as caught:
        read_sweep("sweep.yaml")
    for complaint in complaints:
        assert complaint in str(caught.value)


def test_problems_of_a_workloads_file_have_their_place_there(folder: Path) -> None:
    shutil.copy("requests.yaml", "broken.yaml")
    with Path("broken.yaml").open("a") as file:
        file.write("- {request_id: x, workflow_id: none, timestamp: '2024-01-01'}\n")
    text = SWEEP.replace("requests: requests.yaml", "requests: broken.yaml").replace("seeds: 2", "seeds: x")
    (folder / "sweep.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_sweep("sweep.yaml")
    told = str(caught.value).splitlines()
    assert any(line.startswith("sweep.yaml:9: seeds") for line in told)
    assert any(line.startswith("broken.yaml:") for line in told)
