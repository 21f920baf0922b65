"""Proven optima of tiny problems: no bound is above one, no policy below, and the engine and the checker agree."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from small import tiny

from gsched.cluster import Cluster
from gsched.simulator import simulate
from gsched.workload import Workload

pytest.importorskip("ortools", reason="OR-Tools is not installed: optima are NOT tested; install the dev dependencies")

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import optimum

    return optimum


@pytest.mark.parametrize(
    ("workload", "gpus", "makespan"),
    [
        # a loads (5 s) and runs; b takes both GPUs, (16 + 16) / 16 + 2 = 4 s and 5 s; a again, 4 s
        (tiny({"a": 1, "b": 2}, "aba"), 2, 6 + 6 + 5),
        # two gangs of 2 GPUs load side by side
        (tiny({"a": 2}, "a", count=4, duration=7.0), 4, 5 + 2 * 7),
        # a third GPU is of no use to a gang of 2 that stands on the others: moving by one GPU would be a switch
        (tiny({"a": 2}, "aa", count=1, duration=7.0), 3, 5 + 2 * 7),
        # nothing saves the second load where a gang has to make room: all on one GPU, a first, then b
        (tiny({"a": 1, "b": 1}, "ab", count=2, duration=1.0), 1, 5 + 2 + 4 + 2),
    ],
)
def test_optima_computed_by_hand(exact: ModuleType, workload: Workload, gpus: int, makespan: float) -> None:
    best = exact.optimum(workload, Cluster(gpus))
    assert best.makespan == makespan
    assert simulate(workload, Cluster(gpus), exact.follow(best)).summary["makespan"] == makespan


def test_gangs_stay_in_servers(exact: ModuleType) -> None:
    """Of 6 GPUs in servers of 3, two gangs of 2 can run at once; without servers three."""
    workload = tiny({"a": 2}, "a", count=6, duration=7.0)
    assert exact.optimum(workload, Cluster(6)).makespan == 5 + 2 * 7
    assert exact.optimum(workload, Cluster(6, 3)).makespan == 5 + 3 * 7


@pytest.mark.parametrize("seed", range(8))
def test_bounds_optimum_and_policies_are_in_order(exact: ModuleType, seed: int) -> None:
    result = exact.compare(seed, exact.policies_compared(), 8)
    assert 0 < result.bound <= 1
    assert min(result.policies.values()) >= 1
    assert result.policies["search"] <= result.policies["baseline"]


def test_what_contradicts_an_optimum_is_an_error(exact: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    workload, cluster = exact.instance(0, 6)
    best = exact.optimum(workload, cluster)
    span = simulate(workload, cluster).summary["makespan"]
    assert span > best.makespan + 1
    monkeypatch.setattr(exact, "optimum", lambda *problem: best._replace(makespan=best.makespan + 1))
    with pytest.raises(RuntimeError, match="problem 0: the engine or the checker disagrees"):
        exact.compare(0, ["baseline"], 6)
    monkeypatch.setattr(exact, "optimum", lambda *problem: best)
    monkeypatch.setattr(exact, "lower_bounds", lambda *problem: SimpleNamespace(makespan=SimpleNamespace(value=span)))
    with pytest.raises(RuntimeError, match=f"problem 0: the bound {span} is above the optimum {best.makespan}"):
        exact.compare(0, ["baseline"], 6)


def test_a_policy_below_an_optimum_is_an_error(exact: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that is valid, but not the best, is taken for the optimum."""
    workload = tiny({"a": 1}, "a", count=2, duration=7.0)
    slow = exact.Optimum(19.0, [0, 1], [0, 0])  # on one GPU, one after another
    monkeypatch.setattr(exact, "instance", lambda *_: (workload, Cluster(2)))
    monkeypatch.setattr(exact, "optimum", lambda *_: slow)
    with pytest.raises(RuntimeError, match=r"problem 0: baseline takes 12\.0 s, the optimum is 19\.0"):
        exact.compare(0, ["baseline"])


def test_fractions_of_seconds_are_refused(exact: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"needs whole seconds, not 1\.5"):
        exact.optimum(tiny({"a": 1}, "a", duration=1.5), Cluster(1))


def test_quick_run_prints_every_policy(exact: ModuleType) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "optimum.py", "--quick", "--json"], capture_output=True, text=True, check=True
    )
    results = json.loads(done.stdout)
    assert len(results) == 2
    assert all(set(result["policies"]) == set(exact.policies_compared()) for result in results)
