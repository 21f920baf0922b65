"""Calibration: known factors, overheads and costs are found again in measured runs, and foretell the next one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import CLUSTER, FACTORS, LOADS, OVERHEAD, REAL, measure, only, real, varied
from small import tiny
from strategies import Case, cases

from gsched.calibration import Calibration, calibrate
from gsched.cli import main
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.load import load_config, load_workload, save_config, save_requests
from gsched.log_files import write_log
from gsched.robust import fit_lines
from gsched.simulator import simulate
from gsched.state import LOAD, SWITCH
from gsched.transfers import moves_of
from gsched.workload import Workload


def fitted(noise: float, requests: int = 300) -> Calibration:
    workload = varied(requests)
    return calibrate([(measure(real(workload, noise)), workload)], CLUSTER)


def test_exact_times_give_the_exact_factors() -> None:
    found = fitted(0.0)
    assert found.overhead == pytest.approx(OVERHEAD)
    assert {id: found.models[id].factor for id in "abc"} == pytest.approx({id: FACTORS[id] for id in "abc"})
    assert found.pcie_bandwidth == pytest.approx(REAL.pcie_bandwidth)
    assert found.switch_overhead == pytest.approx(REAL.switch_overhead)
    assert found.switch_spread == pytest.approx(0, abs=1e-6)
    loaded = {id: fit.load_seconds for id, fit in found.models.items() if fit.load_seconds is not None}
    assert loaded
    assert loaded == {id: LOADS[id] for id in loaded}


@pytest.mark.parametrize("seed", range(5))
def test_noise_hardly_moves_the_fit_and_is_told(seed: int) -> None:
    workload = varied(300, seed)
    found = calibrate([(measure(real(workload, 0.05, seed)), workload)], CLUSTER)
    assert found.overhead == pytest.approx(OVERHEAD, abs=0.1)
    for id in "abc":
        assert found.models[id].factor == pytest.approx(FACTORS[id], rel=0.03)
        assert found.models[id].spread == pytest.approx(0.05, rel=0.35)
    assert found.overhead_error is not None
    assert abs(found.overhead - OVERHEAD) < 4 * found.overhead_error


def test_a_few_times_that_are_far_off_are_no_matter() -> None:
    workload = varied(300)
    true = real(workload, 0.02)
    duration = true.duration.copy()
    duration[::20] *= 12
    found = calibrate([(measure(replace(true, duration=duration)), workload)], CLUSTER)
    for id in "abc":
        assert found.models[id].factor == pytest.approx(FACTORS[id], rel=0.03)


def test_another_workload_is_foretold_after_calibration() -> None:
    found, other = fitted(0.05), varied(400, seed=9)
    truth = measure(real(other, 0.05, seed=10), policy="improved", mode="offline").summary["makespan"]
    before = simulate(other, CLUSTER, "improved").summary["makespan"]
    after = simulate(found.workload(other), found.cluster(CLUSTER), "improved").summary["makespan"]
    assert before < 0.7 * truth
    assert after == pytest.approx(truth, rel=0.01)


def test_profiles_expect_what_was_measured_and_models_not_run_keep_theirs() -> None:
    found, config = fitted(0.0), varied(1).config
    changed = found.config(config)
    for id in "abc":
        before = config.models[id].mean_duration
        assert before is not None
        assert changed.models[id].mean_duration == pytest.approx(OVERHEAD + FACTORS[id] * before)
    assert changed.models["a"].token_mean == config.models["a"].token_mean
    assert changed.models["b"].inference_time_std == pytest.approx(FACTORS["b"] * 0.5)
    assert changed.models["unrun"] == config.models["unrun"]
    assert any("no node of these models was measured: unrun" in sentence for sentence in found.unmeasured)


def test_durations_of_models_not_run_are_kept() -> None:
    workload = varied(1)
    spare = Workload(workload.config, ["s"], np.array([3], np.int32), np.zeros(1, np.int64), np.array([4.0]))
    assert fitted(0.0, 50).workload(spare).duration.tolist() == [4.0]


def test_an_overhead_is_not_told_where_expected_times_do_not_vary() -> None:
    workload = varied(50)
    seconds = np.array([2.0, 3.0, 4.0, 5.0])[workload.model]
    workload = replace(workload, duration=seconds)
    found = calibrate([(measure(real(workload, 0.05)), workload)], CLUSTER)
    assert found.overhead == 0
    assert found.overhead_error is None
    assert any("an overhead of each node is not measured" in sentence for sentence in found.unmeasured)
    assert found.models["a"].factor == pytest.approx((OVERHEAD + FACTORS["a"] * 2) / 2, rel=0.03)


def test_switches_that_no_line_describes_have_a_spread() -> None:
    workload = varied(200)
    log = measure(real(workload))
    assert log.switch_time is not None
    off = np.exp(np.random.default_rng(3).normal(0, 0.1, len(log)))
    found = calibrate([(replace(log, switch_time=log.switch_time * off), workload)], CLUSTER)
    assert found.switch_spread == pytest.approx(0.1, rel=0.3)


def test_switch_costs_are_scaled_alike_where_memory_does_not_vary() -> None:
    workload = varied(50)
    models = {id: replace(model, memory_gb=10.0) for id, model in workload.config.models.items()}
    workload = replace(workload, config=replace(workload.config, models=models))
    found = calibrate([(measure(real(workload)), workload)], CLUSTER)
    assert found.switches > 3
    fitted, ratio = found.cluster(CLUSTER), switch_seconds(REAL, 20.0) / switch_seconds(CLUSTER, 20.0)
    assert fitted.pcie_bandwidth == pytest.approx(CLUSTER.pcie_bandwidth / ratio)
    assert fitted.switch_overhead == pytest.approx(CLUSTER.switch_overhead * ratio)
    assert any("vary too little" in sentence for sentence in found.unmeasured)


def switch_seconds(cluster: Cluster, gigabytes: float) -> float:
    return gigabytes / cluster.pcie_bandwidth + cluster.switch_overhead


def test_costs_that_are_as_configured_are_kept_to_the_last_bit() -> None:
    workload = varied(60)
    found = calibrate([(measure(real(workload), CLUSTER), workload)], CLUSTER)
    assert found.pcie_bandwidth == pytest.approx(CLUSTER.pcie_bandwidth)
    assert found.cluster(CLUSTER) == CLUSTER


def test_a_start_that_fills_one_gpu_and_empties_another_tells_neither() -> None:
    workload = tiny({"a": 1, "b": 2}, "ab")
    log = measure(workload, Cluster(2))
    assert moves_of(log, workload, Cluster(2)).mixed.tolist() == [False, True]
    found = calibrate([(log, workload)], Cluster(2))
    assert (found.switches, found.models["a"].loads, found.models["b"].loads) == (0, 1, 0)


def test_one_row_tells_a_factor_and_nothing_else() -> None:
    workload = varied(30)
    found = calibrate([(only(measure(real(workload)), np.array([0])), workload)], CLUSTER)
    measured = [fit for fit in found.models.values() if fit.nodes]
    assert [(fit.nodes, fit.loads, fit.spread) for fit in measured] == [(1, 1, None)]
    assert (found.overhead, found.overhead_error, found.pcie_bandwidth) == (0.0, None, None)


def test_an_empty_log_changes_nothing() -> None:
    workload = varied(30)
    found = calibrate([(only(measure(real(workload)), np.zeros(0, np.int64)), workload)], CLUSTER)
    again = found.workload(workload)
    assert again.config == workload.config
    assert again.duration.tolist() == workload.duration.tolist()
    assert found.cluster(CLUSTER) == CLUSTER


def test_several_logs_and_partial_ones_are_read_together() -> None:
    first, second = varied(60, 1), varied(60, 2)
    logs = [measure(real(first)), measure(real(second))]
    logs = [only(log, np.arange(len(log) // 2)) for log in logs]
    found = calibrate(list(zip(logs, (first, second), strict=True)), CLUSTER)
    assert sum(fit.nodes for fit in found.models.values()) == sum(map(len, logs))
    assert found.models["a"].factor == pytest.approx(FACTORS["a"])


def test_gpus_that_were_away_are_loaded_anew() -> None:
    workload = varied(40)
    log = measure(real(workload))
    before = moves_of(log, workload, CLUSTER)
    row = len(log) // 2
    assert log.switch_time is not None
    start = float(log.start_time[row] - log.switch_time[row])
    start = float(np.nextafter(start, np.inf))  # as rounding may have it
    cut = {"gpu_ids": list(range(4)), "start_time": start, "end_time": start, "reason": "lost"}
    after = moves_of(replace(log, extra={"interruptions": [cut]}), workload, CLUSTER)
    assert after.kind[row] == LOAD
    assert before.kind[row] != LOAD
    assert (after.kind[:row] == before.kind[:row]).all()


@given(cases())
def test_moves_are_those_of_the_simulation(case: Case) -> None:
    log = simulate(case.workload, case.cluster, "baseline", case.mode)
    moves = moves_of(log, case.workload, case.cluster)
    assert np.count_nonzero(moves.kind == LOAD) == log.summary["total_model_loads"]
    assert np.count_nonzero(moves.kind == SWITCH) == log.summary["total_model_switches"]
    plain = (moves.kind == SWITCH) & ~moves.mixed
    expected = moves.gigabytes[plain] / case.cluster.pcie_bandwidth + case.cluster.switch_overhead
    assert log.switch_time is not None
    assert log.switch_time[plain] == pytest.approx(expected)


@given(
    slopes=st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
    offset=st.floats(0, 5),
    seed=st.integers(0, 1000),
)
def test_exact_lines_are_found(slopes: list[float], offset: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(slopes)), 12).astype(np.int32)
    x = random.uniform(0.5, 20, len(group))
    lines = fit_lines(x, offset + np.array(slopes)[group] * x, group, len(slopes))
    assert lines.determined
    assert lines.offset == pytest.approx(offset, abs=1e-5)
    assert lines.slope == pytest.approx(slopes, rel=1e-4, abs=1e-5)


def test_lines_are_never_negative() -> None:
    x = np.linspace(1, 10, 20)
    lines = fit_lines(x, 2 * x - 1.5, np.zeros(20, np.int32), 1)
    assert lines.offset == 0
    falling = fit_lines(x, 20 - x, np.zeros(20, np.int32), 1)
    assert falling.slope[0] >= 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda log: replace(log, switch_time=None), "have no switch_time"),
        (lambda log: replace(log, end_time=log.end_time * np.nan, execution_time=None), "times that are no durations"),
        (lambda log: only(log, np.array([0, 0])), "that an earlier row executed"),
        (lambda log: replace(log, gpu_id=log.gpu_id + 4), "no gang of"),
        (lambda log: replace(log, extra={"interruptions": [{"gpu_ids": 3}]}), "interruptions makes no sense"),
        (lambda log: replace(log, extra={"interruptions": 3}), "interruptions makes no sense"),
    ],
)
def test_logs_that_do_not_fit_are_refused(change, complaint: str) -> None:
    workload = varied(10)
    with pytest.raises(InputError, match=complaint):
        calibrate([(change(measure(real(workload))), workload)], CLUSTER)


def test_logs_of_other_requests_are_refused() -> None:
    workload = varied(10)
    with pytest.raises(InputError, match="not in the requests"):
        calibrate([(measure(real(workload)), workload.select(np.arange(9)))], CLUSTER)


# The command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration, requests, their measured log, and requests to come."""
    monkeypatch.chdir(tmp_path)
    workload = varied(60)
    save_config(workload.config, "config.json")
    save_requests(workload, "requests.yaml")
    save_requests(varied(30, seed=5), "next.jsonl")
    write_log(measure(real(workload)), "log.json")
    write_log(simulate(workload, CLUSTER), "simulated.json")
    write_log(only(measure(workload), np.zeros(0, np.int64)), "empty.json")
    return tmp_path


GIVEN = ("--config", "config.json", "--requests", "requests.yaml")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def test_command_writes_what_the_next_simulation_needs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("calibrate", "log.json", *GIVEN, "--output", "out/fit.json", "--rescale", "next.jsonl") == 0
    text = capsys.readouterr().out
    assert "Simulate with: --config out/fit.json --pcie-bandwidth 9 --switch-overhead 1.25" in text
    assert "no node of these models was measured: unrun" in text
    config = load_config("out/fit.json")
    assert config.models["c"].mean_duration == pytest.approx(OVERHEAD + FACTORS["c"] * 2)
    rescaled = load_workload("out/fit.json", "out/next_calibrated.jsonl")
    assert rescaled.duration == pytest.approx(real(varied(30, seed=5)).duration)
    assert rescaled.timestamp.tolist() == varied(30, seed=5).timestamp.tolist()


def test_command_prints_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("calibrate", "log.json", *GIVEN, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["simulate_with"] == pytest.approx({"pcie_bandwidth": 9.0, "switch_overhead": 1.25})
    assert found["calibration"]["models"]["a"]["factor"] == pytest.approx(FACTORS["a"])
    assert found["written"] == ["calibrated.json"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["simulated.json", *GIVEN], "summary.simulate: is not true"),
        (["log.json", "log.json", "log.json", *GIVEN, "--requests", "requests.yaml"], "2 are given for 3 logs"),
        (["log.json", "--config", "config.json", "--requests", "next.jsonl"], "log.json: executions["),
        (["log.json", *GIVEN, "--rescale", "next.txt"], "unknown suffix"),
        (["log.json", *GIVEN, "--rescale", "next.jsonl", "--rescale", "./more/next.jsonl"], "would be written to"),
        (["missing.json", *GIVEN], "no such file"),
        (["empty.json", *GIVEN], "executions: are none"),
    ],
)
def test_command_refuses_bad_input_and_writes_nothing(
    here: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.iterdir())
    assert run("calibrate", *arguments) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert sorted(here.iterdir()) == before
