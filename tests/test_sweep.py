"""Sweeps: what is simulated, by whom, and what is kept of it."""

import csv
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsched.changes import scaled
from gsched.comparison import attempt
from gsched.demo import CONFIG
from gsched.errors import InputError
from gsched.generator import generate
from gsched.load import save_config, save_requests
from gsched.log import Log
from gsched.metrics import request_times
from gsched.sweep import run_sweep
from gsched.sweep.definition import Case, Choice, Source, Sweep
from gsched.sweep.intervals import curves, interval, speedups
from gsched.sweep.journal import JOURNAL, Journal, journal
from gsched.sweep.read import drawn, recorded
from gsched.sweep.results import Results, read_results, write_results
from gsched.sweep.runs import Runner

GSCHED = Path(sys.executable).parent / "gsched"
DRAWN = Source(CONFIG, None, {"requests": 30, "duration": 2.0}, {"demo.json": "0" * 64})


def choices(*names: str) -> dict[str, Choice]:
    return {name: Choice(name, {}) for name in names}


SWEEP = Sweep({"demo": DRAWN}, choices("baseline", "improved"), (4, 6), seeds=(1, 2))


# -- intervals


@pytest.mark.parametrize(
    ("values", "half"),
    [
        ((1.0, 2.0), 12.706 * 0.5),
        ((1.0, 2.0, 3.0, 4.0, 5.0), 2.776 * 1.58114 / 5**0.5),
        ([0.0, 1.0] * 61, 1.980 * 0.50207 / 122**0.5),
        ([0.0, 1.0] * 20 + [0.5], 2.021 * 0.5 / 41**0.5),
    ],
)
def test_intervals_are_those_of_student(values: list[float], half: float) -> None:
    found = interval(values)
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert found.high - found.mean == pytest.approx(half, rel=1e-3)
    assert found.mean - found.low == pytest.approx(half, rel=1e-3)
    assert found.n == len(values)


def test_a_single_value_is_its_own_interval() -> None:
    assert interval([7.0]) == (7.0, 7.0, 7.0, 1)


@given(st.integers(0, 2**32), st.integers(2, 40))
def test_intervals_hold_the_true_mean_nineteen_times_of_twenty(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    held = [interval(rng.normal(3, 2, count).tolist()) for _ in range(400)]
    assert 0.90 < np.mean([found.low <= 3 <= found.high for found in held]) < 0.99


def row(policy: str, gpus: int, seed: int, makespan: float, **more: Any) -> dict[str, Any]:
    known = {"workload": "w", "mode": "offline", "load": 1.0, "valid": True, "lower_bound": makespan / 2}
    return {**known, "policy": policy, "gpus": gpus, "seed": seed, "makespan": makespan, **more}


def test_curves_are_means_over_seeds_without_what_is_not_valid() -> None:
    runs = [row("a", 4, 1, 10.0), row("a", 4, 2, 20.0), row("a", 2, 1, 30.0), row("a", 8, 1, 5.0, valid=False)]
    runs += [row("b", 4, 1, 1.0, workload="v")]
    found = curves(runs, lambda run: run["makespan"])
    assert list(found) == [("w",), ("v",)]
    assert list(found[("w",)]["a"]) == [2, 4]
    assert found[("w",)]["a"][4] == interval([10.0, 20.0])


def test_speedups_compare_the_same_seed() -> None:
    runs = [row("baseline", 4, 1, 100.0), row("baseline", 4, 2, 10.0), row("x", 4, 1, 50.0), row("x", 4, 2, 20.0)]
    runs += [row("x", 8, 1, 5.0), row("baseline", 8, 1, 10.0, valid=False)]
    runs += [row("x", 4, 1, 50.0, load=2.0), row("baseline", 4, 1, 200.0, load=2.0)]
    speedup = speedups(runs)
    assert [speedup(run) for run in runs] == [1.0, 1.0, 2.0, 0.5, None, None, 4.0, 1.0]


# -- plans


def test_every_combination_is_a_case_of_its_own() -> None:
    sweep = replace(SWEEP, loads=(1.0, 2.0), mode="online")
    cases = list(sweep.cases)
    assert len(cases) == len(set(cases)) == 2 * 2 * 2 * 2
    assert len({sweep.key(case) for case in cases}) == len(cases)


def test_recorded_requests_have_no_seed() -> None:
    source = Source(CONFIG, generate(CONFIG, 5, seed=1), {}, {})
    assert {case.seed for case in replace(SWEEP, sources={"read": source}).cases} == {None}


CASE = Case("demo", "baseline", 4, 1.0, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "online"},
        {"cluster": {"switch_overhead": 3.0}},
        {"sources": {"demo": replace(DRAWN, drawn={"requests": 31})}},
        {"sources": {"demo": replace(DRAWN, digests={"demo.json": "1" * 64})}},
        {"choices": {"baseline": Choice("improved", {})}},
        {"choices": {"baseline": Choice("search", {"trials": 20})}},
    ],
)
def test_a_run_is_another_where_anything_differs(changes: dict[str, Any]) -> None:
    assert replace(SWEEP, **changes).key(CASE) != SWEEP.key(CASE)


def test_a_run_of_another_version_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    before = SWEEP.key(CASE)
    monkeypatch.setattr("gsched.sweep.definition.__version__", "another")
    assert replace(SWEEP).key(CASE) != before


def test_a_run_is_the_same_in_a_larger_sweep() -> None:
    larger = replace(SWEEP, choices=choices("edf", "baseline"), gpus=(4, 16), seeds=(1, 2, 3))
    assert larger.key(CASE) == SWEEP.key(CASE)
    assert larger.key(CASE._replace(seed=2)) != SWEEP.key(CASE)


def test_ones_own_policy_is_another_when_its_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    keys = []
    for text in ("return None", "return  None"):
        file.write_text(f"class Mine:\n    def choose(self, view):\n        {text}\n")
        keys.append(replace(SWEEP, choices={"baseline": Choice(f"{file}:Mine", {})}).key(CASE))
    assert keys[0] != keys[1]


def test_a_policy_is_another_when_a_file_that_it_learns_from_changes(tmp_path: Path) -> None:
    file = tmp_path / "history.yaml"
    keys = []
    for seed in (1, 2):
        save_requests(generate(CONFIG, 5, seed=seed), file)
        keys.append(replace(SWEEP, choices={"baseline": Choice("static", {"history": str(file)})}).key(CASE))
    assert keys[0] != keys[1]
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    def __init__(self, text): ...\n    def choose(self, view): ...\n")
    assert Choice(f"{file}:Mine", {"text": "x" * 10_000}).about["files"].keys() == {str(file)}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"gpus": ()}, "sweep: gpus: there are none"),
        ({"gpus": (4, 4)}, "sweep: gpus: one stands there twice"),
        ({"gpus": (0,)}, "a cluster has 1 to 1,000,000 GPUs, not 0"),
        ({"loads": (0.0,)}, "a load must be above 0"),
        ({"loads": (float("nan"),)}, "a load must be above 0"),
        ({"seeds": (-1,)}, "a seed must be at least 0"),
        ({"seeds": (2**63,)}, "a seed must be at least 0 and below"),
        ({"cluster": {"pcie_bandwidth": 0.0}}, "pcie_bandwidth must be between"),
        ({"mode": "online", "choices": choices("hybrid")}, "policy hybrid: does not work online"),
        ({"choices": {"x": Choice("nothing", {})}}, "policy nothing: is unknown"),
    ],
)
def test_what_makes_no_sweep_is_told(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        replace(SWEEP, **changes)


# -- runs


def without_time(runs: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in run.items() if name != "wall_seconds"} for run in runs]


def test_a_run_says_what_a_comparison_says(tmp_path: Path) -> None:
    """Each figure is that of the policy alone on the workload of that seed and load, whatever else is simulated."""
    sweep = replace(SWEEP, mode="online", loads=(1.0, 2.0), cluster={"gpus_per_server": 4, "switch_overhead": 1.0})
    results = run_sweep(sweep, tmp_path, processes=1)
    assert [(run["workload"], run["policy"], run["gpus"], run["load"], run["seed"]) for run in results.runs] == [
        *sweep.cases
    ]
    for run in results.runs:
        workload = scaled(generate(CONFIG, 30, 2.0, seed=run["seed"]), run["load"], "online")
        logs: list[Log] = []
        policy, cluster = Choice(run["policy"], {}).found, sweep.cluster_of(run["gpus"])
        outcome = attempt(workload, cluster, policy, "online", keep=logs.append)
        assert run["valid"] is outcome.valid is True
        for name, value in outcome.summary.items():
            if not isinstance(value, list | dict) and name not in run.keys() - outcome.summary.keys():
                assert run.get(name) == value or name == "gpus", name
        times = request_times(logs[0], workload, "online")
        assert run["latency_percentiles"][99] == pytest.approx(np.percentile(times, 99))
        assert (run["gpus_per_server"], run["switch_overhead"], run["version"]) == (4, 1.0, "0.1.0")


def test_on_several_processes_it_is_the_same(tmp_path: Path) -> None:
    alone = run_sweep(SWEEP, tmp_path / "one", processes=1)
    together = run_sweep(SWEEP, tmp_path / "two", processes=2)
    assert without_time(alone.runs) == without_time(together.runs)
    assert multiprocessing.active_children() == []


def test_a_cluster_too_small_is_a_row_with_the_reason(tmp_path: Path) -> None:
    results = run_sweep(replace(SWEEP, gpus=(2, 4), seeds=(1,)), tmp_path, processes=1)
    assert [(run["gpus"], run["valid"]) for run in results.runs] == [(2, False), (2, False), (4, True), (4, True)]
    assert "model expert-70b: needs 4 GPUs" in results.runs[0]["problem"]
    assert read_results(tmp_path).runs[0]["makespan"] is None


# -- going on


def interrupt_after(count: int) -> Callable[[int, int], None]:
    def progress(done: int, _total: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return progress


def simulated(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases that are simulated from now on."""
    found: list[Case] = []
    carry_out = Runner.__call__
    monkeypatch.setattr(Runner, "__call__", lambda self, case: found.append(case) or carry_out(self, case))
    return found


@pytest.mark.parametrize("torn", [b"", b'{"key": "12'])
def test_a_stopped_sweep_goes_on(torn: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_sweep(SWEEP, tmp_path / "whole", processes=1)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(SWEEP, tmp_path, processes=1, progress=interrupt_after(3))
    assert not (tmp_path / "results.parquet").exists()
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(torn)
    cases = simulated(monkeypatch)
    results = run_sweep(SWEEP, tmp_path, processes=1)
    assert cases == list(SWEEP.cases)[3:]
    assert without_time(results.runs) == without_time(whole.runs)
    assert run_sweep(SWEEP, tmp_path, processes=1) == results
    assert len(cases) == 5


def test_a_larger_sweep_keeps_what_is_done_and_a_smaller_one_shows_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sweep(SWEEP, tmp_path, processes=1)
    cases = simulated(monkeypatch)
    run_sweep(replace(SWEEP, seeds=(1, 2, 3)), tmp_path, processes=1)
    assert {case.seed for case in cases} == {3}
    assert len(run_sweep(replace(SWEEP, gpus=(6,)), tmp_path, processes=1).runs) == 4
    run_sweep(replace(SWEEP, gpus=(6,)), tmp_path, processes=1, fresh=True)
    assert len(cases) == 4 + 4
    assert len((tmp_path / JOURNAL).read_bytes().splitlines()) == 4


def test_what_has_two_names_is_carried_out_once_and_shown_under_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a variant of a policy sets an option to its default."""
    cases = simulated(monkeypatch)
    same = {"improved": Choice("improved", {}), "twin": Choice("improved", {})}
    results = run_sweep(Sweep({"demo": DRAWN, "again": DRAWN}, same, (4,)), tmp_path, processes=1)
    assert len(cases) == 1
    assert [(run["workload"], run["policy"]) for run in results.runs] == [
        (workload, policy) for workload in ("demo", "again") for policy in same
    ]
    assert len({run["makespan"] for run in results.runs}) == 1


def test_results_are_written_before_another_sweep_may_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_results: Results, folder: Path) -> None:
        with pytest.raises(InputError, match="is being written by another sweep"), journal(folder):
            pass
        written.append(folder)

    written: list[Path] = []
    monkeypatch.setattr("gsched.sweep.write_results", write)
    run_sweep(replace(SWEEP, gpus=(4,), seeds=(1,)), tmp_path, processes=1)
    assert written == [tmp_path]


def test_a_run_that_is_written_in_part_is_told(tmp_path: Path) -> None:
    """As where the disk is full."""

    class Full(io.BytesIO):
        def write(self, line: Any) -> int:
            return super().write(line[:10])

    open_journal = Journal(tmp_path / JOURNAL, Full(), {})
    with pytest.raises(InputError, match=r"runs\.jsonl: cannot be written \(No space left on device\)"):
        open_journal.add("key", row("a", 4, 1, 1.0))
    assert not open_journal.done


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b"no", b'{"key": "a", "run": 3}', b'{"key": "a", "run": {}}', b"\xff", b"[" * 100_000]
)
def test_a_broken_journal_is_told(line: bytes, tmp_path: Path) -> None:
    run_sweep(replace(SWEEP, gpus=(4,), seeds=(1,)), tmp_path, processes=1)
    before = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(before + line + b"\n")
    with pytest.raises(InputError, match=r"runs\.jsonl:3: is no run of a sweep; remove the file, or start anew"):
        run_sweep(SWEEP, tmp_path, processes=1)
    assert (tmp_path / JOURNAL).read_bytes() == before + line + b"\n"


def test_two_sweeps_cannot_share_a_folder(tmp_path: Path) -> None:
    with (
        journal(tmp_path),
        pytest.raises(InputError, match="is being written by another sweep"),
        journal(tmp_path, fresh=True),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        run_sweep(SWEEP, tmp_path / "file", processes=1)


def test_a_process_that_dies_is_told_and_the_rest_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "deadly.py"
    file.write_text(
        "import os, signal\n"
        "class Deadly:\n"
        "    def choose(self, view):\n"
        f"        if os.getpid() != {os.getpid()}:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    sweep = replace(SWEEP, choices={**choices("baseline"), "Deadly": Choice(f"{file}:Deadly", {})})
    with pytest.raises(InputError, match="one of its processes has died"):
        run_sweep(sweep, tmp_path, processes=2)
    assert multiprocessing.active_children() == []


def test_no_process_is_left_behind_while_an_interruption_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        run_sweep(SWEEP, tmp_path, processes=2, progress=interrupt_after(1))
    assert multiprocessing.active_children() == []
    assert caught.tb


def until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not so():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(group: int) -> bool:
    """Whether a process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_everything_and_the_same_command_goes_on(tmp_path: Path) -> None:
    save_config(CONFIG, tmp_path / "demo.json")
    words = ["--config", "demo.json", "--num-requests", "60", "--gpus", "4,8", "--policy", "baseline"]
    command = [GSCHED, "bench", *words, "--workers", "2", "--quiet"]
    with subprocess.Popen(
        [*command, "--seeds", "200"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        done = tmp_path / "benchmark_results" / JOURNAL
        until(lambda: done.exists() and done.stat().st_size > 0)
        os.killpg(running.pid, signal.SIGINT)
        _, told = running.communicate(timeout=60)
    assert (running.returncode, told) == (130, "stopped\n")
    until(lambda: not alive(running.pid))
    kept = done.read_bytes()
    assert 0 < kept.count(b"\n") < 400
    again = subprocess.run([*command, "--seeds", "1", "--json"], cwd=tmp_path, capture_output=True, timeout=60)
    assert again.returncode == 0
    assert done.read_bytes().startswith(kept[: kept.rindex(b"\n")])


def test_a_ctrl_c_is_not_for_a_process_that_is_only_just_starting(tmp_path: Path) -> None:
    save_config(CONFIG, tmp_path / "demo.json")
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if any('spawn_main' in word for word in sys.orig_argv):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    words = ["--config", "demo.json", "--num-requests", "5", "--gpus", "4,8", "--policy", "baseline", "--quiet"]
    command, environment = [GSCHED, "bench", *words, "--workers", "2"], os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_processes_end_with_the_one_that_waits_for_them(tmp_path: Path) -> None:
    save_config(CONFIG, tmp_path / "demo.json")
    words = ["--config", "demo.json", "--num-requests", "60", "--gpus", "4,8", "--policy", "baseline"]
    with subprocess.Popen(
        [GSCHED, "bench", *words, "--workers", "2", "--quiet", "--seeds", "2000"], cwd=tmp_path, start_new_session=True
    ) as running:
        done = tmp_path / "benchmark_results" / JOURNAL
        until(lambda: done.exists() and done.stat().st_size > 0)
        running.kill()
    until(lambda: not alive(running.pid))


# -- results


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = run_sweep(replace(SWEEP, gpus=(2, 4)), tmp_path, processes=1)
    read = read_results(tmp_path)
    assert read.about == json.loads(json.dumps(results.about))
    assert [{name: value for name, value in run.items() if value is not None} for run in read.runs] == [
        {name: value for name, value in run.items() if value is not None} for run in results.runs
    ]
    assert read_results(tmp_path / "results.parquet") == read
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["policy"], row["gpus"], row["seed"], row["makespan"]) for row in rows] == [
        (run["policy"], str(run["gpus"]), str(run["seed"]), str(run.get("makespan", ""))) for run in results.runs
    ]
    with (tmp_path / "intervals.csv").open() as file:
        means = {(row["policy"], row["gpus"]): row for row in csv.DictReader(file)}
    both = [run["makespan"] for run in results.runs if run["policy"] == "improved" and run["gpus"] == 4]
    assert means.keys() == {("baseline", "4"), ("improved", "4")}
    assert float(means["improved", "4"]["makespan_high"]) == pytest.approx(interval(both).high)


def test_a_sweep_of_nothing_valid_has_results(tmp_path: Path) -> None:
    results = run_sweep(replace(SWEEP, gpus=(1,)), tmp_path, processes=1)
    assert not any(run["valid"] for run in read_results(tmp_path).runs)
    assert (tmp_path / "intervals.csv").read_text().count("\n") == 1
    write_results(Results([], results.about), tmp_path)
    assert read_results(tmp_path).runs == []


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no results\.parquet; run gsched bench"):
        read_results(tmp_path)


def test_results_that_lack_columns_are_none(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    run_sweep(replace(SWEEP, gpus=(4,), seeds=(1,)), tmp_path, processes=1)
    file = tmp_path / "results.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["load"]), file)
    with pytest.raises(InputError, match="does not hold the results of a sweep"):
        read_results(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"{}", None])
def test_what_holds_no_results_is_told(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "results.parquet"
    if content is None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"a": [1]}), file)
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match="does not hold the results of a sweep"):
        read_results(file)
    with pytest.raises(InputError, match=r"elsewhere: no such file or folder; run gsched bench"):
        read_results(tmp_path / "elsewhere")


def test_sources_know_their_files(tmp_path: Path) -> None:
    config, requests = tmp_path / "c.json", tmp_path / "r.yaml"
    save_config(CONFIG, config)
    save_requests(generate(CONFIG, 5, seed=1), requests)
    read, made = recorded(config, requests, []), drawn(config, {"requests": 5}, [])
    assert read.recorded
    assert read.recorded.request_count == 5
    assert list(read.digests) == ["config", "requests"]
    assert made.recorded is None
    assert made.workload(3).duration.tolist() == generate(CONFIG, 5, seed=3).duration.tolist()
    before = read.about
    requests.write_text(requests.read_text() + "\n")
    assert recorded(config, requests, []).about != before
