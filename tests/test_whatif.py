"""gsched whatif: scenarios beside today's run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import tiny

from gsched.cli import main
from gsched.cluster import Cluster
from gsched.comparison import Outcome, attempt
from gsched.errors import InputError
from gsched.policies import find_policy
from gsched.report.scenarios import difference, scenario_columns, scenario_notes
from gsched.scenarios import Scenario, Situation, dropped_model, more_gpus, more_load, other_policy, what_if
from gsched.workload import Workload

ROOT = Path(__file__).parent.parent
GIVEN = [
    *("--config", str(ROOT / "examples" / "documents.json")),
    *("--requests", str(ROOT / "examples" / "documents_requests.yaml")),
    *("--gpus", "10"),
]
SUPPORT = [text.replace("documents", "support") for text in GIVEN]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["whatif", *arguments])
    return int(stop.value.code or 0)


def situation(workload: Workload | None = None, gpus: int = 2) -> Situation:
    """Eight requests of 10 seconds after 5 seconds of loading, offline."""
    workload = workload or tiny({"a": 1}, "a", 8, 10.0)
    return Situation(workload, Cluster(gpus), find_policy("baseline"), "offline")


def makespans(scenarios: list[Scenario]) -> dict[str, float]:
    return {known.name: known.outcome.summary["makespan"] for known in scenarios}


def test_each_change_alone_then_all_together() -> None:
    changes = [more_gpus(2), more_load(1.5), other_policy(find_policy("static"))]
    assert makespans(what_if(situation(), changes)) == {
        "today": 45,
        "+2 GPUs": 25,
        "load x1.5": 65,
        "policy static": 40,
        "all together": 30,  # 12 requests on 4 GPUs, nothing to load
    }


def test_one_change_is_not_repeated_as_all_of_them() -> None:
    assert makespans(what_if(situation(), [more_gpus(-1)])) == {"today": 45, "-1 GPU": 85}


def test_gpus_add_up_and_loads_multiply() -> None:
    *_, together = what_if(situation(), [more_gpus(1), more_gpus(1), more_load(2), more_load(2)])
    assert together.situation
    assert together.situation.cluster.gpus == 4
    assert together.situation.workload.request_count == 32
    assert together.outcome.summary["gpu_hours"] == pytest.approx(4 * 85 / 3600)


def test_each_of_several_policies_gets_all_other_changes() -> None:
    policies = [other_policy(find_policy(name)) for name in ("static", "improved")]
    names = [known.name for known in what_if(situation(), [more_gpus(2), *policies])]
    assert names[-2:] == ["all together, policy static", "all together, policy improved"]
    assert [known.name for known in what_if(situation(), policies)] == ["today", "policy static", "policy improved"]


def test_changes_that_exclude_each_other_are_told() -> None:
    workload = tiny({"a": 1, "b": 1}, "a", 4)
    flows = {name: replace(workload.workflows[0], id=name) for name in ("w", "v")}
    node = replace(workload.workflows[0].nodes[0], model="b")
    flows["v"] = replace(flows["v"], nodes=(node,))
    both = replace(
        workload, config=replace(workload.config, workflows=flows), workflow=np.array([0, 1, 0, 1], np.int32)
    )
    scenarios = what_if(situation(both), [dropped_model("a"), dropped_model("b")])
    assert [known.situation and known.situation.workload.request_count for known in scenarios] == [4, 2, 2, None]
    notes = list(scenario_notes(scenarios))
    assert notes[0].startswith("without a: 2 of 4 requests are gone; so makespan ")
    assert notes[-1] == "all together did not run: model b: is used by all requests; choose another one"


def test_impossible_changes_are_bad_input() -> None:
    with pytest.raises(InputError, match="--add-gpus -2: a cluster has 1 to 1,000,000 GPUs, not 0"):
        what_if(situation(), [more_gpus(-2)])
    with pytest.raises(InputError, match="model c: is unknown"):
        what_if(situation(), [dropped_model("c")])
    with pytest.raises(InputError, match="needs 3 GPUs, the cluster has 2"):
        what_if(situation(tiny({"a": 3}, "a")), [more_gpus(2)])


def test_a_cluster_that_becomes_too_small_is_told() -> None:
    scenarios = what_if(situation(tiny({"a": 2}, "a")), [more_gpus(-1)])
    assert list(scenario_notes(scenarios)) == ["-1 GPU did not run: model a: needs 2 GPUs, the cluster has 1; add GPUs"]


def test_what_changed_is_told_in_words() -> None:
    workload = replace(tiny({"a": 1}, "a", 3, 10.0), timestamp=np.array([0, 10, 60]) * 10**9)
    today = replace(situation(workload, 1), mode="online")
    notes = list(scenario_notes(what_if(today, [more_load(2), more_gpus(3), other_policy(find_policy("online"))])))
    assert notes[0] == (
        "load x2: the last request arrives at 30.0 s instead of 60.0 s;"
        " so makespan 40.0 s instead of 70.0 s, P99 19.9 s instead of 15.0 s."
    )
    assert notes[1].startswith("+3 GPUs: 4 GPUs instead of 1; so makespan ")
    assert notes[2].startswith("policy online: online instead of baseline; so makespan ")
    offline = list(scenario_notes(what_if(situation(), [more_load(2), more_load(0.5), more_load(1)])))
    assert (
        offline[0]
        == "load x2: 16 requests instead of 8; so makespan 85.0 s instead of 45.0 s, P99 85.0 s instead of 45.0 s."
    )
    assert offline[1].startswith("load x0.5: 4 of 8 requests are gone; so makespan ")
    assert offline[2].startswith("load x1: nothing changes; so makespan ")


def test_differences_are_in_percent_or_in_points() -> None:
    def scenario(**figures: float | None) -> Scenario:
        return Scenario("x", None, Outcome("x", figures))

    today = scenario(makespan=40.0, gap_percent=20.0, total_model_switches=0, p99_request_time=None)
    other = scenario(makespan=30.0, gap_percent=25.0, total_model_switches=3, p99_request_time=1.0)
    columns = {column.figure: column for column in scenario_columns([today])}
    assert difference(columns["makespan"], other, today) == -25
    assert difference(columns["gap_percent"], other, today) == 5
    assert difference(columns["total_model_switches"], other, today) is None
    assert difference(columns["total_model_switches"], today, today) == 0
    assert difference(columns["p99_request_time"], other, today) is None


# -- the command


def test_whatif_prints_figures_and_differences(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SUPPORT, "--add-gpus", "2", "--with-policy", "static") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Today: 200 requests, online, baseline; times in seconds"
    titles = "scenario GPUs requests makespan gap mean p50 p99 switches util SLO GPU-hours"
    assert lines[2].split() == titles.split()
    table = lines[4 : lines.index("", 4)]
    assert [line.split("  ")[0] for line in table] == ["today", "+2 GPUs", "", "policy static", "", "all together", ""]
    assert all(cell[0] in "+-" and cell.endswith(("%", "pt")) for line in table[2::2] for cell in line.split())
    assert "+2 GPUs: 12 GPUs instead of 10; so makespan " in "\n".join(lines)


def test_whatif_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*GIVEN, "--drop-model", "llm70b", "--load", "2", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [known["scenario"] for known in told] == ["today", "load x2", "without llm70b", "all together"]
    assert [known["requests"] for known in told] == [300, 300, 148, 148]
    today, other = told[0]["summary"], told[3]["summary"]
    assert told[3]["difference"]["makespan"] == pytest.approx((other["makespan"] / today["makespan"] - 1) * 100)
    assert all(known["valid"] for known in told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to change"),
        (["--add-gpus", "-10"], "--add-gpus -10: a cluster has 1 to 1,000,000 GPUs"),
        (["--drop-model", "x"], "model x: is unknown"),
        (["--load", "-1"], "load -1: is no number above 0"),
        (["--with-policy", "x"], "policy x: is unknown"),
    ],
)
def test_status_2_for_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*GIVEN, *arguments) == 2
    assert message in capsys.readouterr().err


def test_status_2_where_today_did_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*GIVEN, "--policy", "hybrid", "--load", "2") == 2
    assert "today did not run: policy hybrid: does not work online" in capsys.readouterr().out


def test_status_1_where_a_schedule_breaks_a_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoiled(*arguments: object) -> Outcome:
        return replace(attempt(*arguments), violations=("overlap: two at once",))  # type: ignore[arg-type]

    monkeypatch.setattr("gsched.scenarios.attempt", spoiled)
    assert run(*GIVEN, "--add-gpus", "1") == 1
    assert "+1 GPU: NOT valid, overlap: two at once" in capsys.readouterr().out


def test_where_no_change_is_possible_it_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*GIVEN, "--add-gpus", "-9") == 2
    assert "needs 4 GPUs, the cluster has 1" in capsys.readouterr().out
    assert run(*GIVEN, "--add-gpus", "-9", "--add-gpus", "1") == 0
