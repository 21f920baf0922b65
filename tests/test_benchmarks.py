"""The benchmarks run, and the peers that gsched is measured against solve the same problem."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import require_chromium

FOLDER = Path(__file__).parents[1] / "benchmarks"
WITHOUT_CPP = "there is no g++ on this machine: the C++ peer is not tested"


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, imported the way its scripts import each other."""
    monkeypatch.syspath_prepend(FOLDER)
    import engine
    import problem
    import simpy_lean
    import simpy_process

    return SimpleNamespace(engine=engine, problem=problem, simpy_lean=simpy_lean, simpy_process=simpy_process)


def rows_of(engine):
    engine.run()
    return engine.rows()


@pytest.fixture(params=[(0.7, 1), (1.5, 2), (1.0, 3)], ids=["stable", "overloaded", "critical"])
def problem(request, bench):
    return bench.problem.small_cluster(2000, *request.param)


@pytest.fixture
def expected(bench, problem):
    return rows_of(bench.engine.gsched_simulate(problem.workload, bench.problem.CLUSTER))


@pytest.mark.parametrize("peer", ["simpy_lean", "simpy_process"])
def test_simpy_gives_the_same_log_bit_for_bit(bench, problem, expected, peer):
    rows = rows_of(bench.engine.simpy_engine(getattr(bench, peer).simulate, problem))
    assert len(rows) == 6000
    assert bench.engine.same(expected, rows)


def test_the_bare_engine_gives_the_same_log_bit_for_bit(bench, problem, expected):
    assert bench.engine.same(expected, rows_of(bench.engine.gsched_engine(problem.workload, bench.problem.CLUSTER)))


@pytest.mark.skipif(shutil.which("g++") is None, reason=WITHOUT_CPP)
def test_cpp_gives_the_same_log_bit_for_bit(bench, problem, expected, tmp_path):
    with bench.engine.cpp(bench.engine.build_cpp(tmp_path), problem) as engine:
        assert bench.engine.same(expected, rows_of(engine))


def test_a_difference_in_one_bit_is_seen(bench, problem, expected):
    changed = expected.copy()
    changed["end"][-1] += 2.0**-30
    assert not bench.engine.same(expected, changed)
    assert not bench.engine.same(expected, expected[:-1])


def test_without_a_compiler_the_column_is_left_out_and_said_so(bench, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench.engine.shutil, "which", lambda _: None)
    assert bench.engine.build_cpp(tmp_path) is None
    assert "no g++" in capsys.readouterr().err
    case = bench.engine.small_case(50, "stable", 1, None, {})
    assert case.engines == ["gsched", "gsched simulate", "SimPy lean", "SimPy ordinary"]


def test_engines_that_would_take_too_long_are_left_out(bench):
    case = bench.engine.small_case(50, "stable", 1, None, {"SimPy lean": 1.0})
    assert case.engines == ["gsched", "gsched simulate", "SimPy ordinary"]


def test_quick_run_measures_every_engine(bench):
    done = subprocess.run(
        [sys.executable, FOLDER / "engine.py", "--quick", "--json"], capture_output=True, text=True, check=True
    )
    cases = json.loads(done.stdout)["cases"]
    peers = {"SimPy lean", "SimPy ordinary"} | ({"C++"} if shutil.which("g++") else set())
    for case in cases:
        small = case["cluster"] == bench.engine.SMALL
        identical = {timing["engine"]: timing["identical"] for timing in case["timings"]}
        assert identical == dict.fromkeys({"gsched", "gsched simulate"} | (peers if small else set()), small or None)
    assert len(cases) == 6


def test_quick_end_to_end_run_measures_every_job():
    done = subprocess.run(
        [sys.executable, FOLDER / "end_to_end.py", "--quick", "--json"], capture_output=True, text=True, check=True
    )
    jobs = json.loads(done.stdout)
    assert len(jobs) == 8
    for job in jobs:
        assert job["cpu"][0] > 0
        assert job["memory"][0] > 5


def test_a_job_that_leaves_no_result_is_an_error(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import end_to_end

    job = end_to_end.Job("help", ["--help"], 1.0, results=[tmp_path / "log.json"])
    with pytest.raises(SystemExit, match=r"log\.json"):
        end_to_end.Usage().run(job, tmp_path)


def test_quick_run_compares_policies_on_streams():
    done = subprocess.run(
        [sys.executable, FOLDER / "policies.py", "--quick", "--json"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert len(found["streams"]) == len(found["speeds"]) == 6
    for case in found["streams"]:
        assert all(0 < figures["mean"] <= figures["p99"] for figures in case["seconds"].values())
    for case in found["speeds"]:
        assert set(case["seconds"]) == {"baseline", "online"}


@pytest.mark.parametrize("name", ["load_generator.py", "scheduler.py"])
def test_benchmarks_of_the_live_half_work(name):
    done = subprocess.run([sys.executable, FOLDER / name, "--quick", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if name == "scheduler.py":
        assert found["capacity"] > 0
        assert [run["way"] for run in found["runs"]] == ["fifo, plain", "fifo", "edf", "tiered"]
        assert all(run["unanswered"] == 0 for run in found["runs"])
    else:
        assert [result["client"] for result in found] == ["recipe", "gsched", "gsched"]
        assert all(result["cpu_ms"] > 0 for result in found)


def test_benchmark_of_the_page_works():
    require_chromium()
    done = subprocess.run([sys.executable, FOLDER / "page.py", "--quick", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (page,) = json.loads(done.stdout)
    assert page["nodes"] > 100
    assert page["usable"] > 0
    assert 0 < page["median"] <= page["longest"]


def test_benchmark_of_real_runs_works():
    done = subprocess.run(
        [sys.executable, FOLDER / "real_runs.py", "--quick", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [run["way"] for run in found] == ["emulated, improved", "onnx, online, calibrated"]
    assert all(run["valid"] and run["overhead"] > 0 for run in found)
