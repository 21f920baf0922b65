"""A measured run beside its simulations: what agrees, what does not, and why."""

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from measured import CLUSTER, REAL, measure, only, real, varied
from rich.console import Console
from small import staying, tiny
from strategies import SECOND, Case, cases

from gsched.causes import Cause
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.executions import executions_of
from gsched.fidelity import Fidelity, Figure, compare_with_simulation
from gsched.log import Log
from gsched.report.fidelity import fidelity_json, fidelity_lines, gpus_table, models_table, totals_table
from gsched.simulator import simulate
from gsched.workload import Workload


def figures(found: Fidelity) -> list[Figure]:
    parts = [*found.models.values(), *found.gpus]
    return [*found.totals, *(figure for part in parts for figure in part)]


def assert_explained(found: Fidelity) -> None:
    for figure in figures(found):
        assert figure.explained == pytest.approx(figure.measured, rel=1e-6, abs=1e-6), figure
    assert found.unexplained == ()


def total(found: Fidelity, name: str) -> Figure:
    return next(figure for figure in found.totals if figure.name == name)


@pytest.mark.parametrize("policy", ["baseline", "edf", "online", "static"])
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_exact_times_are_explained_though_the_prediction_is_off(policy: str, mode: Any) -> None:
    workload = varied(60)
    known = real(workload)
    log = measure(known, policy=policy, mode=mode, expected=workload)
    found = compare_with_simulation(log, workload, CLUSTER, policy, mode)
    assert_explained(found)
    assert total(found, "makespan").predicted_error != pytest.approx(0, abs=1)
    assert found.missed


@settings(max_examples=60)
@given(cases())
def test_a_simulation_explains_itself(case: Case) -> None:
    log = measure(case.workload, case.cluster, mode=case.mode)
    found = compare_with_simulation(log, case.workload, case.cluster, "baseline", case.mode)
    assert_explained(found)
    assert all(figure.predicted == pytest.approx(figure.measured) for figure in found.totals)
    assert found.missed == ()


def test_figures_are_those_of_the_summaries() -> None:
    workload = varied(40)
    log, expected = measure(real(workload)), simulate(workload, CLUSTER, mode="online")
    found = compare_with_simulation(log, workload, CLUSTER, "baseline", "online")
    names = {
        "makespan": "makespan",
        "mean latency": "average_request_time",
        "p50 latency": "median_request_time",
        "p99 latency": "p99_request_time",
        "switch time": "total_switch_time",
        "switches": "total_model_switches",
        "loads": "total_model_loads",
    }
    for figure in found.totals:
        assert figure.measured == pytest.approx(log.summary[names[figure.name]])
        assert figure.predicted == pytest.approx(expected.summary[names[figure.name]])
    waiting = sum(part[3].measured * part[0].measured for part in found.models.values())
    assert waiting / len(log) == pytest.approx(log.summary["average_waiting_time"])
    share = np.mean([part[1].measured for part in found.gpus])
    assert share == pytest.approx(log.summary["average_utilization"])


def test_slower_loads_are_named_as_the_cause() -> None:
    workload = tiny({"a": 1}, "a", 3, duration=2.0)
    models = {"a": replace(workload.config.models["a"], load_time_seconds=8.5)}
    slow = replace(workload, config=replace(workload.config, models=models))
    found = compare_with_simulation(measure(slow, Cluster(3)), workload, Cluster(3), "baseline", "offline")
    assert_explained(found)
    assert found.missed[0] == Cause(
        "model a", 10.5, "loads and switches 10.5 s longer in all its 3 nodes: loads take 3.50 s longer than expected"
    )
    assert all("loads take 3.50 s longer than expected" in cause.why for cause in found.missed)


def test_a_load_that_is_slower_than_the_others_is_not_explained() -> None:
    workload = tiny({"a": 1}, "a", 3, duration=2.0)
    log = measure(workload, Cluster(3))
    late = np.array([0.0, 0.0, 1.4])
    assert log.switch_time is not None
    log = replace(
        log, switch_time=log.switch_time + late, start_time=log.start_time + late, end_time=log.end_time + late
    )
    found = compare_with_simulation(log, workload, Cluster(3), "baseline", "offline")
    request = next(cause for cause in found.unexplained if cause.what == "request r2")
    assert request.seconds == pytest.approx(1.4)
    assert request.why == "loads and switches 1.40 s longer: loads take 1.40 s longer than fitted"
    assert [cause.what for cause in found.unexplained] == ["model a", "GPU 2", "request r2"]


def test_slower_execution_is_named_as_the_cause() -> None:
    workload = tiny({"a": 1}, "a", 3, duration=2.0)
    slow = replace(workload, duration=np.array([2.0, 2.0, 3.0]))
    found = compare_with_simulation(measure(slow, Cluster(3)), workload, Cluster(3), "baseline", "offline")
    request = next(cause for cause in found.missed if cause.what == "request r2")
    assert request.why == "executes 1.00 s longer: 50.0% longer than expected"


def test_waiting_and_another_place_are_named_as_causes() -> None:
    workload = tiny({"a": 1}, "a", 3, duration=2.0)
    found = compare_with_simulation(measure(workload, Cluster(1)), workload, Cluster(3), "baseline", "offline")
    last = next(cause for cause in found.unexplained if cause.what == "request r2")
    assert last.seconds == pytest.approx(4.0)  # waits 9 s longer, but loads 5 s less
    assert last.why.startswith("waits 9.00 s longer")
    assert "executes elsewhere: GPU 0 instead of 2" in last.why


def interrupted(workload: Workload, **cut: Any) -> Log:
    """A run on one GPU that is away after the first node, from which on everything is 30 s later."""
    log = measure(workload, Cluster(1))
    late = np.where(np.arange(len(log)) > 0, 30.0, 0.0)
    assert log.switch_time is not None
    load = np.where(np.arange(len(log)) == 1, 5.0, log.switch_time)
    shift = late + np.where(np.arange(len(log)) >= 1, 5.0, 0.0)
    start = float(log.end_time[0])
    away = {"gpu_ids": [0], "start_time": start, "end_time": start + 30, "reason": "out of memory", **cut}
    extra = {"interruptions": [away]}
    times = {"start_time": log.start_time + shift, "end_time": log.end_time + shift, "switch_time": load}
    return replace(log, **times, extra=extra)


def test_interruptions_are_causes() -> None:
    workload = tiny({"a": 1}, "a", 3, duration=2.0)
    log = interrupted(workload, request_id="r1")
    found = compare_with_simulation(log, workload, Cluster(1), "baseline", "offline")
    assert total(found, "loads") == Figure("loads", 2, 1, 1)
    request = next(cause for cause in found.unexplained if cause.what == "request r1")
    assert "waits 30.0 s longer: its GPUs were away once, 30.0 s in all (out of memory)" in request.why
    assert "an attempt of it failed (out of memory)" in request.why
    assert found.notes == ("GPUs were away once, 30.0 GPU-seconds in all, which no simulation knows",)


def test_an_interruption_may_last_to_the_end() -> None:
    workload = tiny({"a": 1}, "a", 3, duration=2.0)
    log = replace(only(measure(workload, Cluster(1)), np.arange(2)))
    cut = {"gpu_ids": [0], "start_time": float(log.end_time[1]), "end_time": None, "reason": "lost"}
    found = compare_with_simulation(
        replace(log, extra={"interruptions": [cut]}), workload, Cluster(1), "baseline", "offline"
    )
    assert found.requests == 2
    assert_explained(found)


@pytest.mark.parametrize("failures", [[], [{"request_id": "r9", "node_id": "n0"}]])
def test_requests_that_did_not_complete_are_left_out(failures: list[dict[str, str]]) -> None:
    workload = varied(40)
    log = measure(real(workload))
    log = only(log, np.flatnonzero(log.end_time <= np.median(log.end_time)))
    log = replace(log, summary={**log.summary, "partial": True}, extra={"failures": failures})
    found = compare_with_simulation(log, workload, CLUSTER, "baseline", "online")
    ended = np.bincount(log.request_id.codes, minlength=40)
    assert found.requests == np.count_nonzero(ended == np.diff(workload.first_node))
    assert 0 < found.requests < 40
    assert f"{40 - found.requests} of 40 requests did not complete" in found.notes[0]
    assert ("of which 1 were given up" in found.notes[0]) == bool(failures)


def test_times_count_from_the_first_arrival_though_that_request_failed() -> None:
    workload = replace(tiny({"a": 1}, "a", 2, duration=2.0), timestamp=np.array([0, 100 * SECOND]))
    log = measure(workload.select(np.array([1])), Cluster(1))
    log = replace(log, start_time=log.start_time + 100, end_time=log.end_time + 100)
    found = compare_with_simulation(log, workload, Cluster(1), "baseline", "online")
    assert total(found, "makespan") == Figure("makespan", 107, 107, 107)
    assert total(found, "mean latency") == Figure("mean latency", 7, 7, 7)


def test_a_chain_follows_the_parent_that_was_waited_for() -> None:
    workload = tiny({"a": 1}, "aaa")
    flow = replace(workload.config.workflows["w"], edges=((0, 2), (1, 2)))
    config = replace(workload.config, workflows={"w": flow})
    for seconds, slow in (((4.0, 1.0, 1.0), 0), ((1.0, 4.0, 1.0), 1)):
        joined = replace(workload, config=config, duration=np.array(seconds))
        log = measure(joined, Cluster(2), mode="offline")
        run = executions_of(log, joined, Cluster(2), np.array([0]), np.zeros(1))
        assert run.chain(0).tolist() == [slow, 2]
        assert run.waiting.sum() == pytest.approx(log.summary["average_waiting_time"] * 3)
        assert sum(run.parts(run.chain(0))) == pytest.approx(run.latency[0])


def test_more_switches_are_named_as_causes() -> None:
    workload = varied(40)
    log = measure(workload, CLUSTER, "edf", "offline")
    found = compare_with_simulation(log, workload, CLUSTER, "offline", "offline")
    assert "more loads or switches on its GPUs" in " ".join(cause.why for cause in found.unexplained)
    pair = tiny({"a": 1, "b": 1}, "ab")
    alone, beside = Cluster(1, pcie_bandwidth=1.0), Cluster(2, pcie_bandwidth=1.0)
    found = compare_with_simulation(measure(pair, alone), pair, beside, staying(((0, 0), (1, 1))), "offline")
    assert found.missed[-1].why == (
        "loads and switches 39.0 s longer: 1 more load, 1 more switch; executes elsewhere: GPU 0 instead of 1"
    )


def test_a_run_without_a_completed_request_cannot_be_compared() -> None:
    workload = varied(10)
    log = measure(real(workload))
    for rows in (np.zeros(0, np.int64), np.array([0])):
        with pytest.raises(InputError, match="no request completed"):
            compare_with_simulation(only(log, rows), workload, CLUSTER, "baseline", "online")


def test_one_row_can_be_compared() -> None:
    workload = tiny({"a": 1}, "a", 1, duration=2.0)
    assert_explained(compare_with_simulation(measure(workload), workload, CLUSTER, "baseline", "offline"))


def test_policies_of_ones_own_and_options_are_passed_on() -> None:
    workload = varied(30)
    policy = staying(((0, 0), (1, 2), (2, 1)))
    found = compare_with_simulation(
        measure(real(workload), CLUSTER, policy, "online"), workload, CLUSTER, policy, "online"
    )
    assert_explained(found)
    assert total(found, "switch time") == Figure("switch time", 0, 0, 0)
    with pytest.raises(InputError, match="knob"):
        compare_with_simulation(measure(real(workload)), workload, CLUSTER, "baseline", "online", {"knob": 1})


def printed(found: Fidelity) -> str:
    console = Console(file=io.StringIO(), width=200)
    for table in (totals_table(found), models_table(found), gpus_table(found, shown=3)):
        console.print(table)
    for line in fidelity_lines(found, shown=3):
        console.print(line, markup=False)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_tables_and_json_hold_the_figures() -> None:
    workload = varied(40)
    found = compare_with_simulation(measure(real(workload)), workload, CLUSTER, "baseline", "online")
    text = printed(found)
    makespan = total(found, "makespan")
    assert makespan.predicted_error is not None
    assert f"{makespan.measured:,.2f}" in text
    assert f"{makespan.predicted_error:+,.1f}%" in text
    assert "Why the prediction was off:" in text
    assert "What measured times do not explain:" not in text
    assert "The table shows 3 of 4 GPUs" in text
    content = json.loads(json.dumps(fidelity_json(found), allow_nan=False))
    assert content["totals"]["makespan"]["predicted_error_percent"] == makespan.predicted_error
    assert content["models"].keys() == {"a", "b", "c"}
    assert len(content["gpus"]) == 4
    assert content["calibration"]["pcie_bandwidth"] == pytest.approx(REAL.pcie_bandwidth)


def test_errors_in_percent_need_something_measured() -> None:
    assert Figure("x", 0, 0, 3).explained_error == 0
    assert Figure("x", 0, 0, 3).predicted_error is None
    assert Figure("x", 4, 5, 3).predicted_error == pytest.approx(-25)
