"""gsched plan: the search for the smallest cluster, what it promises, and what users meet."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import tiny
from strategies import Case, cases

from gsched.cli import main
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.load import save_config, save_requests
from gsched.planning import Plan, Point, PolicyPlan, smallest_clusters
from gsched.planning.proofs import beyond_reach, too_small
from gsched.planning.search import BELOW, Found, smallest
from gsched.planning.slo import Slo, Times, parse_slos
from gsched.policies import find_policy
from gsched.report.planning import plan_curve, plan_notes
from gsched.simulator import simulate

ROOT = Path(__file__).parent.parent
GIVEN = [
    *("--config", str(ROOT / "examples" / "documents.json")),
    *("--requests", str(ROOT / "examples" / "documents_requests.yaml")),
]
SUPPORT = [text.replace("documents", "support") for text in GIVEN]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["plan", *arguments])
    return int(stop.value.code or 0)


# -- the search

lacks = st.lists(st.sampled_from([0.0, 0.0, 1.0, 1.5, 2.0, math.inf]) | st.floats(0.1, 9), min_size=1, max_size=70)
belows = st.integers(1, 5)


def searched(lack: list[float], below: int = BELOW, step: int = 1) -> tuple[Found, dict[int, float]]:
    """What a search over sizes finds where they lack so much, and all that there is to know."""
    sizes = range(3, 3 + step * len(lack), step)
    known = dict(zip(sizes, lack, strict=True))
    asked: list[int] = []

    def ask(size: int) -> float:
        asked.append(size)
        return known[size]

    found = smallest(sizes, ask, below)
    assert asked == list(found.tried)
    assert found.tried.items() <= known.items()
    return found, known


@given(lacks, belows)
def test_an_answer_will_do_and_nothing_smaller_that_was_tried(lack: list[float], below: int) -> None:
    found, _ = searched(lack, below)
    will_do = [size for size, lacks in found.tried.items() if not lacks]
    assert found.answer == min(will_do, default=None)


@given(lacks, belows, st.integers(1, 8))
def test_the_sizes_right_below_an_answer_were_tried(lack: list[float], below: int, step: int) -> None:
    found, known = searched(lack, below, step)
    if found.answer is not None:
        smaller = [size for size in known if size < found.answer][-below:]
        assert all(found.tried[size] for size in smaller)


@given(lacks)
def test_without_an_answer_the_ends_and_the_surroundings_of_the_best_were_tried(lack: list[float]) -> None:
    found, known = searched(lack)
    if found.answer is not None:
        return
    sizes = list(known)
    assert {sizes[0], sizes[-1]} <= set(found.tried)
    best = sizes.index(min(found.tried, key=lambda size: (found.tried[size], size)))
    assert set(sizes[max(0, best - 1) : best + 2]) <= set(found.tried)


@given(st.integers(0, 2000), st.integers(1, 2000), st.integers(1, 8))
def test_where_more_is_never_worse_the_search_agrees_with_a_linear_scan(first: int, count: int, step: int) -> None:
    found, known = searched([0.0 if i >= first else float(first - i) for i in range(count)], step=step)
    assert found.answer == next((size for size, lack in known.items() if not lack), None)
    assert len(found.tried) <= 3 * math.log2(count + 1) + 2 + BELOW


@given(st.integers(2, 2000), st.data())
def test_a_single_valley_is_found_though_both_ends_fail(count: int, data: st.DataObject) -> None:
    bottom = data.draw(st.integers(0, count - 1))
    found, _ = searched([float(abs(i - bottom)) for i in range(count)])
    assert found.answer == 3 + bottom


def test_the_order_in_which_sizes_are_tried() -> None:
    sizes = range(1, 101)
    assert list(smallest(sizes, lambda size: float(size < 12)).tried) == [1, 2, 4, 8, 16, 12, 10, 11, 9]
    assert list(smallest(sizes, lambda size: float(size not in (14, 16))).tried)[5:] == [12, 14, 13, 11]
    assert list(smallest(sizes, lambda size: math.inf).tried) == [1, 2, 4, 8, 16, 32, 64, 100]
    assert list(smallest(range(1, 11), lambda size: 1 + abs(size - 6)).tried) == [1, 2, 4, 8, 10, 3, 6, 5, 7]


# -- limits


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("p99=60s", Slo("p99", 60)),
        ("P99.90=2m", Slo("p99.9", 120)),
        ("p05=1", Slo("p5", 1)),
        ("mean=1.5h", Slo("mean", 5400)),
        ("max=20", Slo("max", 20)),
        ("makespan=.5s", Slo("makespan", 0.5)),
    ],
)
def test_limits_as_users_write_them(text: str, slo: Slo) -> None:
    assert parse_slos([text], None, tiny({"a": 1}, "a")) == (slo,)


@pytest.mark.parametrize(
    "text", ["p99", "p100=3s", "p99=3d", "p=3", "median=3s", "p99=-1s", "p99=0", "p99=1.2.3", "p99=nan", "mean=1e3", ""]
)
def test_limits_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="--slo"):
        parse_slos([text], None, tiny({"a": 1}, "a"))


def test_limits_that_make_no_sense_together() -> None:
    workload = tiny({"a": 1}, "a")
    with pytest.raises(InputError, match="--slo p99: is given twice"):
        parse_slos(["p99=1s", "p99.0=2s"], None, workload)
    with pytest.raises(InputError, match="there is nothing to keep"):
        parse_slos([], None, workload)
    with pytest.raises(InputError, match="no request has a deadline"):
        parse_slos([], 0.9, workload)
    with pytest.raises(InputError, match="no request has a deadline"):
        parse_slos([], 0.9, replace(workload, deadline=np.array([np.inf])))
    with pytest.raises(InputError, match=r"--attainment 99: is not a share"):
        parse_slos([], 99, replace(workload, deadline=np.array([1.0])))


def test_figures_of_times() -> None:
    times = Times(np.array([4.0, 1.0, 2.0, 3.0, 10.0]), 12.0, 57.0)
    figures = {name: times.figure(name) for name in ("p50", "p75", "p90", "max", "mean", "makespan", "attainment")}
    assert figures == {
        "p50": 3,
        "p75": 4,
        "p90": pytest.approx(7.6),
        "max": 10,
        "mean": 4,
        "makespan": 12,
        "attainment": 57,
    }


def test_what_keeps_a_limit() -> None:
    limited = replace(tiny({"a": 1}, "a"), deadline=np.array([1.0]))
    assert Slo("p99", 60).holds(60.0)
    assert not Slo("p99", 60).holds(math.nextafter(60, 61))
    assert all(parse_slos([], met / 200, limited)[0].holds(met / 200 * 100) for met in range(1, 201))
    assert not Slo("attainment", 99).holds(98.99)
    assert Slo("p99", 60).excess(90) == 1.5
    assert Slo("attainment", 90).excess(60) == 1.5
    assert Slo("attainment", 90).excess(0) == math.inf


# -- proofs


def figures_of(case: Case, policy: str) -> list[Slo]:
    """What a run does, as limits that it keeps."""
    workload, cluster, mode = case
    times = Times.of(simulate(workload, cluster, policy, mode), workload, mode)
    names = ["p0", "p50", "p90", "p99", "max", "mean", "makespan"]
    names += ["attainment"] if times.in_time is not None else []
    return [Slo(name, times.figure(name)) for name in names]


@given(cases(), st.sampled_from(["baseline", "improved"]), st.integers(0, 3))
def test_nothing_that_was_done_is_proven_to_be_impossible(case: Case, policy: str, more: int) -> None:
    workload, cluster, mode = case
    step = cluster.gpus_per_server or 1
    larger = replace(cluster, gpus=-(-cluster.gpus // step) * step + more * step)
    slos = figures_of(case, policy)
    assert all(slo.holds(slo.limit) for slo in slos)
    assert not beyond_reach(slos, workload, mode)
    assert not too_small(slos, workload, mode)(cluster)
    assert not too_small(slos, workload, mode)(larger)


def test_what_floats_are_off_by_is_no_proof() -> None:
    """Ten nodes of a tenth of a second: together a second, one after another less than that."""
    workload = tiny({"a": 1}, "a", 10, 0.1)
    assert sum([0.1] * 10) < workload.duration.sum() == 1
    assert not too_small([Slo("max", sum([0.1] * 10))], workload, "offline")(Cluster(1))


def test_requests_too_long_for_a_limit_are_a_proof() -> None:
    workload = replace(tiny({"a": 1, "b": 1}, "ab", 4, 10.0), deadline=np.array([19.0, 20, 25, np.inf]))
    for slo in (Slo("p0", 19), Slo("mean", 19), Slo("max", 19.9), Slo("makespan", 19), Slo("attainment", 67)):
        proof = beyond_reach([slo], workload, "offline")
        assert proof
        assert proof.slo == slo
    kept = [Slo("p0", 20), Slo("mean", 20), Slo("max", 20), Slo("makespan", 20), Slo("attainment", 66)]
    assert not beyond_reach(kept, workload, "offline")
    later = replace(workload, timestamp=np.array([0, 0, 0, 10**9]))
    assert beyond_reach([Slo("makespan", 20.5)], later, "online")
    assert not beyond_reach([Slo("makespan", 21)], later, "online")


@pytest.mark.parametrize(
    ("slo", "least"),
    [
        (Slo("max", 20), 8),  # 160 GPU-seconds
        (Slo("p50", 20), 4),  # the fourth of eight is in time: half of them
        (Slo("makespan", 20), 8),
        (Slo("mean", 20), 6),  # 25 s with two gangs at a time, 18.75 s with three
        (Slo("attainment", 50), 2),  # 2 of 4 deadlines, 20 GPU-seconds each
        (Slo("attainment", 51), 3),  # 3 of 4
    ],
)
def test_clusters_too_small_for_the_work(slo: Slo, least: int) -> None:
    deadline = np.array([20.0] * 4 + [np.inf] * 4)
    workload = replace(tiny({"a": 2}, "a", 8, 10.0), deadline=deadline)
    proof = too_small([slo], workload, "offline")
    assert next(gpus for gpus in range(2, 20) if not proof(Cluster(gpus))) == least


# -- plans


def test_how_far_a_point_is_from_limits() -> None:
    slos = [Slo("p50", 2), Slo("p99", 10)]
    assert Point(4, {"p50": 3, "p99": 20}).lack(slos) == 2
    assert Point(4, {"p50": 6, "p99": 10}).lack(slos) == 3
    assert Point(4, {"p50": 2, "p99": 10}).lack(slos) == 0
    assert Point(4).lack(slos) == math.inf


def test_a_policy_that_does_not_work_in_the_mode_is_refused() -> None:
    workload = tiny({"a": 1}, "a", 8, 10.0)
    with pytest.raises(InputError, match="policy hybrid: does not work online"):
        smallest_clusters(workload, Cluster(4), [Slo("max", 99)], ["baseline", "hybrid"], "online")


def eight(slo: Slo, policy: str = "baseline", most: int = 16, per_server: int | None = None) -> Plan:
    """A plan for eight requests of 10 seconds, with 5 seconds of loading."""
    workload = tiny({"a": 1}, "a", 8, 10.0)
    return smallest_clusters(workload, Cluster(most, per_server), [slo], [find_policy(policy)], "offline")


@pytest.mark.parametrize(
    ("limit", "dynamic", "static"), [(15, 8, 8), (20, 8, 4), (25, 4, 4), (35, 3, 3), (45, 2, 2), (85, 1, 1)]
)
def test_the_smallest_cluster_of_a_problem_computed_by_hand(limit: float, dynamic: int, static: int) -> None:
    for policy, gpus in (("baseline", dynamic), ("static", static)):
        plan = eight(Slo("makespan", limit), policy)
        assert plan.best
        assert plan.best.gpus == gpus
        assert plan.best.static is (policy == "static")


def test_a_plan_tells_what_was_tried_and_what_it_costs() -> None:
    plan = eight(Slo("makespan", 20))
    assert plan.refused
    assert plan.refused[0] == 3
    assert plan.sizes == range(4, 17)
    found = plan.policies[0]
    assert [point.gpus for point in found.curve] == [4, 5, 6, 7, 8, 9, 11]
    assert [point.figures["makespan"] for point in found.curve] == [25, 25, 25, 25, 15, 15, 15]
    assert found.answer
    assert found.answer.gpu_hours == pytest.approx(8 * 15 / 3600)
    assert found.smaller
    assert found.smaller.gpus == 7


def test_clusters_grow_by_servers() -> None:
    plan = eight(Slo("makespan", 25), most=18, per_server=3)
    assert plan.sizes == range(6, 19, 3)
    assert plan.best
    assert plan.best.gpus == 6
    wide = smallest_clusters(tiny({"a": 4}, "a"), Cluster(9, 3), [Slo("max", 99)], [find_policy("baseline")])
    assert wide.sizes == range(6, 10, 3)
    assert wide.best
    assert wide.best.gpus == 6
    unused = smallest_clusters(tiny({"a": 1, "b": 4}, "a"), Cluster(9), [Slo("max", 99)], [find_policy("baseline")])
    assert unused.sizes == range(1, 10)


def test_no_search_where_no_cluster_can() -> None:
    plan = eight(Slo("p50", 9.9))
    assert plan.impossible
    assert not plan.policies
    assert next(plan_notes(plan, "offline")) == (
        "No cluster of any size keeps p50 <= 9.90 s: with every request alone, and all its models in place, it would be"
        " at least 10.00 s."
    )


def test_a_limit_that_only_loading_breaks_is_searched_for_and_not_found() -> None:
    plan = eight(Slo("max", 14))
    assert not plan.best
    assert not plan.impossible
    assert {8, 16} <= {point.gpus for point in plan.policies[0].points}
    notes = list(plan_notes(plan, "offline"))
    assert notes[0] == "No policy keeps max <= 14.0 s, offline, on a size that was tried."
    assert "baseline keeps it on no size that was tried: max 15.0 s at best, on 8 GPUs." in notes


def test_a_deployment_that_does_not_fit_is_too_small() -> None:
    workload = tiny({"a": 1, "b": 1}, "ab", 2, 1.0)
    cluster = Cluster(8, gpu_memory_gb=20)
    plan = smallest_clusters(workload, cluster, [Slo("max", 99)], [find_policy("static")], "offline")
    assert plan.best
    assert plan.best.gpus == 2
    assert plan.best.smaller
    assert "cannot be placed" in plan.best.smaller.problem
    tight = smallest_clusters(workload, replace(cluster, gpus=1), [Slo("max", 99)], [find_policy("static")], "offline")
    assert any("cannot be placed" in note for note in plan_notes(tight, "offline"))


def test_schedules_that_break_a_rule_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from gsched.comparison import Outcome

    monkeypatch.setattr("gsched.planning.attempt", lambda *_, **__: Outcome("x", {"makespan": 1.0}, ("overlap: …",)))
    plan = eight(Slo("makespan", 85))
    assert not plan.best
    assert plan.policies[0].points[0].problem == "overlap: …"


def test_the_best_policy_needs_the_fewest_gpus_then_has_the_best_figure() -> None:
    def found(name: str, gpus: int, figure: float) -> PolicyPlan:
        return PolicyPlan(name, False, gpus, (Point(gpus, {"p99": figure}, {"makespan": 1.0}),))

    plans = (found("a", 9, 1.0), found("b", 8, 3.0), found("c", 8, 2.0), PolicyPlan("d", True, None, ()))
    best = Plan((Slo("p99", 5),), range(1, 10), policies=plans).best
    assert best
    assert best.policy == "c"


def test_nothing_to_plan_for() -> None:
    with pytest.raises(InputError, match="there are none to plan for"):
        smallest_clusters(tiny({"a": 1}, "a", 0), Cluster(4), [Slo("max", 1)], [find_policy("baseline")])
    with pytest.raises(InputError, match="needs 4 GPUs"):
        smallest_clusters(tiny({"a": 4}, "a"), Cluster(3), [Slo("max", 1)], [find_policy("baseline")])


def test_curve_of_characters() -> None:
    points = tuple(Point(gpus, {"p99": figure}) for gpus, figure in ((8, 10.0), (16, 5.0), (4, 20.0)))
    lines = list(plan_curve(Slo("p99", 10), PolicyPlan("edf", False, 8, points)))
    assert lines == [
        "p99 <= 10.0 s by GPUs, with edf",
        f" 4  {'█' * 25}|{'█' * 24}       20.0",
        f" 8  {'█' * 25}|{' ' * 25}      10.0  kept",
        f"16  {'█' * 12}{' ' * 13}|{' ' * 25}       5.0  kept",
    ]
    steep = tuple(Point(gpus, {"p99": figure}) for gpus, figure in ((8, 1.0), (4, 1000.0)))
    title, *bars = plan_curve(Slo("p99", 10), PolicyPlan("edf", False, 8, steep))
    assert title.endswith("(bars are logarithmic)")
    assert [bar.count("█") for bar in bars] == [49, 0]


# -- the command


def test_plan_prints_the_smallest_cluster_of_each_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(*GIVEN, "--slo", "p99=2m", "--slo", "mean=1m", "--price", "2", "--policy", "baseline", "--policy", "static")
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("policy", "kind", "GPUs", "p99", "mean", "util", "makespan", "GPU-hours", "cost", "one", "step", "smaller"),
    ]
    rows = [line.split() for line in lines[2:4]]
    assert [row[:3] for row in rows] == [["baseline", "dynamic", "11"], ["static", "static", "9"]]
    for row in rows:
        hours, cost = map(float, row[10:12])
        assert cost == pytest.approx(2 * hours, abs=0.02)
    text = "\n".join(lines)
    assert "The smallest cluster found that keeps p99 <= 120.0 s and mean <= 60.0 s, online, is one of 9 GPUs" in text
    assert (
        "No policy whatever keeps mean <= 60.0 s on 7 GPUs or fewer: the mean cannot be below 101.8 s (model llm70b)."
        in text
    )
    assert "  static: kept on 9; not on 8" in lines
    assert "p99 <= 120.0 s by GPUs, with static" in lines


def test_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(*SUPPORT, "--slo", "p95=40s", "--attainment", "0.99", "--policy", "static", "--price", "3", "--json") == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["slos"] == {"p95": 40.0, "attainment": 99.0}
    assert told["policy"] == "static"
    (policy,) = told["policies"]
    by_size = {point["gpus"]: point for point in policy["tried"]}
    answer, smaller = by_size[told["gpus"]], by_size[told["gpus"] - 1]
    assert answer["kept"]
    assert answer["figures"]["p95"] <= 40
    assert answer["figures"]["attainment"] >= 99
    assert not smaller["kept"]
    assert answer["cost"] == pytest.approx(3 * told["gpus"] * answer["makespan"] / 3600)


def test_load_makes_the_cluster_larger(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []
    for load in ("1", "2"):
        assert run(*SUPPORT, "--slo", "p99=60s", "--policy", "static", "--load", load, "--json") == 0
        sizes.append(json.loads(capsys.readouterr().out)["gpus"])
    assert sizes[0] < sizes[1]


def test_deadlines_are_those_of_the_requests_that_the_load_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = replace(tiny({"a": 1}, "a", 2), deadline=np.array([9.0, np.inf]))
    save_config(workload.config, tmp_path / "c.json")
    save_requests(workload, tmp_path / "r.yaml")
    given = ["--config", str(tmp_path / "c.json"), "--requests", str(tmp_path / "r.yaml"), "--attainment", "0.9"]
    assert run(*given, "--mode", "offline", "--load", "0.5") == 2
    assert "no request has a deadline" in capsys.readouterr().err


def test_status_1_where_no_policy_keeps_the_slo(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SUPPORT, "--slo", "p99=5s") == 1
    assert "No cluster of any size keeps p99 <= 5.00 s" in capsys.readouterr().out
    assert run(*SUPPORT, "--slo", "p99=60s", "--max-gpus", "4") == 1
    assert capsys.readouterr().out.startswith("No policy whatever keeps p99 <= 60.0 s on 4 GPUs or fewer: ")
    assert run(*SUPPORT, "--slo", "p99=60s", "--max-gpus", "6", "--policy", "baseline") == 1
    assert "baseline keeps it on no size that was tried: p99 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to keep; add --slo p99=60s"),
        (["--slo", "p99=6x"], "--slo p99=6x: is no limit on a time"),
        (["--slo", "p99=60s", "--max-gpus", "1"], "model llm70b: needs 4 GPUs, the cluster has 1"),
        (["--slo", "p99=60s", "--max-gpus", "3", "--gpus-per-server", "4"], "--max-gpus 3 is less than a server"),
        (["--attainment", "0.9"], "no request has a deadline"),
        (["--slo", "p99=60s", "--plot", "x.gif"], "x.gif: is no picture that can be drawn"),
        (["--slo", "p99=60s", "--price", "inf"], "Invalid value for '--price'"),
        (["--slo", "p99=60s", "--load", "0"], "load 0: is no number above 0"),
        (["--slo", "p99=60s", "--set", "edf.x=1", "--policy", "edf"], "policy edf: has no option x"),
    ],
)
def test_status_2_for_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*GIVEN, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not captured.out


@pytest.mark.parametrize(("suffix", "begin"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_picture_of_the_curves(suffix: str, begin: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"plan.{suffix}"
    assert run(*SUPPORT, "--slo", "p99=60s", "--policy", "static", "--plot", str(path), "--quiet") == 0
    assert path.read_bytes().startswith(begin)


def test_a_logarithmic_axis_is_labelled_with_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.svg"
    policies = ("--policy", "edf", "--policy", "static", "--gpus-per-server", "8")
    assert run(*SUPPORT, "--slo", "p99=90s", *policies, "--plot", str(path)) == 0
    drawn = path.read_text(encoding="utf-8")  # each text stands in a comment before its outlines
    assert all(f"<!-- {number} -->" in drawn for number in ("50", "100", "200", "500", "p99 (s), log scale"))
    assert "mathdefault" not in drawn
    assert "  static: kept on 8" in capsys.readouterr().out.splitlines()


def test_no_picture_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SUPPORT, "--slo", "p99=5s", "--plot", str(tmp_path / "plan.svg"), "--quiet") == 1
    assert not list(tmp_path.iterdir())
    assert "is not written, as no size was simulated" in capsys.readouterr().err


def test_the_extra_for_pictures_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsched.cli.extras.find_spec", lambda module: None)
    assert run(*SUPPORT, "--slo", "p99=60s", "--plot", str(tmp_path / "plan.svg")) == 2


def test_pictures_are_drawn_only_where_they_are_asked_for() -> None:
    import subprocess

    code = "import sys, gsched.cli, gsched.report.planning, gsched.report.scenarios; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
