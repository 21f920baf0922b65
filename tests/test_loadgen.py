"""The load generator's parts: schedules, verdicts, files, the search of the peak, and what becomes of each query."""

import csv
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsched.cli import main
from gsched.errors import InputError
from gsched.live import wire
from gsched.live.loadgen import run
from gsched.live.loadgen.class_process import ClassPlan
from gsched.live.loadgen.generated.scheduler_pb2 import InferResponse
from gsched.live.loadgen.metrics import COLUMNS, OUTCOMES, Record, attainment, print_summary, write_csv
from gsched.live.loadgen.peak import Trial, find_peak
from gsched.live.loadgen.plans import MOST_QPS, MOST_REQUESTS, Load, class_plans, class_seeds
from gsched.live.loadgen.qsl import PERF_SAMPLE_COUNT, TOTAL_SAMPLES
from gsched.live.loadgen.reach import require_scheduler
from gsched.live.loadgen.run import ClassRun, complaints
from gsched.live.loadgen.schedule import Schedule, draw_schedule, loadgen_arrivals, pattern_profile, read_trace
from gsched.live.loadgen.sut import Connection, SchedulerSUT
from gsched.live.loadgen.tables import figures, stimulus_table
from gsched.live.loadgen.verdict import Verdict, read_verdict
from gsched.live.loadgen.workload_config import (
    INPUT_SHAPE,
    MODEL_FOR_SLO,
    REQUEST_CLASSES,
    SLO_LATENCY_NS,
    TIERS,
    WORKLOAD_DISTRIBUTIONS,
)

PATIENCE = 30.0
"""Seconds after which a test that waits for something has failed."""

CONNECTION = Connection("localhost:1")
PLAN = ClassPlan(1, "urgent", 10.0, 10.0, CONNECTION, (1, 2, 3, 4))
BALANCED = WORKLOAD_DISTRIBUTIONS["balanced"]


def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until something has become true."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def record(**changes: Any) -> Record:
    plain = Record(
        number=0,
        timestamp_issued=1_000,
        sample_id=0,
        tier=1,
        slo="urgent",
        model_name="resnet50",
        latency_ns=5_000_000,
        slo_met=True,
        timestamp_scheduled=900,
        timestamp_sent=1_100,
        outcome="done",
        error="",
    )
    return Record(**{**plain, **changes})


# The workload


def test_workloads_are_those_of_the_document() -> None:
    assert TIERS == [1, 2, 3]
    assert SLO_LATENCY_NS == {"urgent": 100_000_000, "normal": 500_000_000, "relaxed": 2_000_000_000}
    classes = "1 urgent, 1 normal, 1 relaxed, 2 urgent, 2 normal, 2 relaxed, 3 urgent, 3 normal, 3 relaxed"
    assert [f"{tier} {slo}" for tier, slo in REQUEST_CLASSES] == classes.split(", ")
    mix = [("resnet50", 0.7), ("vit", 0.3)]
    assert {"urgent": [("resnet50", 1.0)], "normal": mix, "relaxed": mix} == MODEL_FOR_SLO
    assert (INPUT_SHAPE, math.prod(INPUT_SHAPE)) == ([1, 3, 224, 224], 150_528)
    assert (TOTAL_SAMPLES, PERF_SAMPLE_COUNT) == (1000, 500)
    assert {name: list(shares.values()) for name, shares in WORKLOAD_DISTRIBUTIONS.items()} == {
        "balanced": [0.05, 0.10, 0.15, 0.10, 0.15, 0.10, 0.10, 0.15, 0.10],
        "urgent_heavy": [0.20, 0.10, 0.05, 0.15, 0.10, 0.05, 0.15, 0.10, 0.10],
        "batch_heavy": [0.05, 0.05, 0.20, 0.05, 0.10, 0.20, 0.05, 0.10, 0.20],
    }
    for shares in WORKLOAD_DISTRIBUTIONS.values():
        assert list(shares) == REQUEST_CLASSES
        assert sum(shares.values()) == pytest.approx(1.0)


# LoadGen itself

REAL_RUNS = """
import json, sys
from pathlib import Path
import mlperf_loadgen as lg

for name, seed, qps, count, target_ns in json.loads(sys.argv[1]):
    Path(name).mkdir()
    settings = lg.TestSettings()
    settings.scenario, settings.mode = lg.TestScenario.Server, lg.TestMode.PerformanceOnly
    settings.server_target_qps, settings.server_target_latency_ns = qps, target_ns
    settings.min_duration_ms, settings.min_query_count, settings.schedule_rng_seed = 1, count, seed
    logs = lg.LogSettings()
    logs.enable_trace = True
    logs.log_output.outdir = name
    logs.log_output.copy_summary_to_stdout = False
    answer = lambda samples: lg.QuerySamplesComplete([lg.QuerySampleResponse(s.id, 0, 0) for s in samples])
    sut, qsl = lg.ConstructSUT(answer, lambda: None), lg.ConstructQSL(9, 9, lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(sut, qsl, settings, logs, "")
"""

SCHEDULES = [(0, 20_000.0, 900), (1, 3_333.3, 700), (2**32 - 1, 700.0, 200), (1_234_567, 12.5, 5)]
MINUTE = 60 * 10**9


@pytest.fixture(scope="module")
def real_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of logs that LoadGen has written, by name: of each schedule its seed, and `late`."""
    folder = tmp_path_factory.mktemp("loadgen")
    runs = [(str(seed), seed, qps, count, MINUTE) for seed, qps, count in SCHEDULES]
    runs.append(("late", 3, 5_000.0, 20, 1))
    subprocess.run([sys.executable, "-c", REAL_RUNS, json.dumps(runs)], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(("seed", "qps", "count"), SCHEDULES)
def test_arrivals_are_those_that_loadgen_schedules(real_logs: Path, seed: int, qps: float, count: int) -> None:
    trace = (real_logs / str(seed) / "mlperf_log_trace.json").read_text()
    entries = re.findall(r'"ts":(\d+)\.(\d{3}),"args":\{"sample_seq":(\d+)', trace)
    scheduled = dict(sorted((int(number), int(micros + nanos)) for micros, nanos, number in entries))
    assert list(scheduled) == list(range(count))
    times = np.array(list(scheduled.values()))
    assert (times - times[0]).tolist() == loadgen_arrivals(seed, qps, count).tolist()


def test_fewer_arrivals_are_the_first_of_more() -> None:
    assert loadgen_arrivals(7, 50.0, 100)[:30].tolist() == loadgen_arrivals(7, 50.0, 30).tolist()
    assert loadgen_arrivals(7, 50.0, 1).tolist() == [0]


# LoadGen's verdict

FINE = {
    "generated_query_duration": 60_100_000_000,
    "result_validity": "VALID",
    "result_perf_constraints_met": True,
    "result_min_duration_met": True,
    "result_min_queries_met": True,
    "early_stopping_met": True,
    "early_stopping_result": " * Run successful.",
    "result_invalid_reason": "",
    "result_query_count": 700,
    "result_overlatency_query_count": 1,
    "result_99.00_percentile_latency_ns": 80_000_000,
}
TOO_FEW = " * Run unsuccessful.  * Processed 190 queries.  * Would need to run at least 269 more queries,  with the run"


def write_detail(folder: Path, **changes: object) -> Path:
    lines = [f":::MLLOG {json.dumps({'key': key, 'value': value})}" for key, value in {**FINE, **changes}.items()]
    (folder / "mlperf_log_detail.txt").write_text("\n".join(["LoadGen says hello", *lines, ""]))
    return folder


def test_valid_verdict(tmp_path: Path) -> None:
    assert read_verdict(write_detail(tmp_path), 10**8) == Verdict(True, (), 60_100_000_000)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"early_stopping_met": False, "early_stopping_result": TOO_FEW, "result_query_count": 190},
            "too few queries to be sure of p99: 190 with 1 late, at least 459 are needed",
        ),
        (
            {"early_stopping_met": False, "early_stopping_result": "no"},
            "too few queries to be sure of p99: 700 with 1 late",
        ),
        (
            {
                "result_perf_constraints_met": False,
                "result_99.00_percentile_latency_ns": 1_234_000_000,
                "result_overlatency_query_count": 650,
            },
            "p99 1,234 ms is above 100 ms (650 of 700 late)",
        ),
        ({"result_min_duration_met": False}, "shorter than the minimum duration"),
        ({"result_min_queries_met": False}, "fewer queries than the minimum"),
        ({"result_invalid_reason": "moon phase"}, "moon phase"),
        ({}, "LoadGen gives no reason"),
    ],
)
def test_invalid_verdict_has_its_reason_in_words(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    folder = write_detail(tmp_path, **changes, result_validity="INVALID")
    assert read_verdict(folder, 10**8) == Verdict(False, (reason,), 60_100_000_000)


def test_several_reasons_are_all_told(tmp_path: Path) -> None:
    unmet = {"result_perf_constraints_met": False, "result_min_duration_met": False, "result_min_queries_met": False}
    verdict = read_verdict(write_detail(tmp_path, **unmet, result_validity="INVALID"), 10**8)
    assert len(verdict.reasons) == 3


@pytest.mark.parametrize("content", [None, b"", b":::MLLOG {cut", b":::MLLOG {}\n", b"\xff\xfe"])
def test_missing_verdict_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "mlperf_log_detail.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"mlperf_log_detail\.txt holds no result of LoadGen$"):
        read_verdict(tmp_path, 10**8)


def test_real_verdicts(real_logs: Path) -> None:
    for seed, qps, count in SCHEDULES[:2]:
        assert read_verdict(real_logs / str(seed), MINUTE) == Verdict(
            True, (), loadgen_arrivals(seed, qps, count + 1)[-1]
        )
    few = read_verdict(real_logs / "1234567", MINUTE)
    assert few.reasons == ("too few queries to be sure of p99: 5 with 0 late, at least 459 are needed",)
    late = read_verdict(real_logs / "late", 1)
    assert late.reasons[0].startswith("p99 ")
    assert late.reasons[0].endswith("ms is above 0 ms (20 of 20 late)")


# Patterns


def rate_at(pattern: str, second: float, duration: float, peak: float) -> float:
    """The documented rate, relative to the base rate."""
    if pattern == "burst":
        return peak if second % 10 < 2 else 1.0
    if pattern == "spike":
        return peak if abs(second - duration / 2) < 0.05 * duration else 1.0
    return 1 + (peak - 1) * second / duration if pattern == "ramp" else 1.0


patterns = st.sampled_from(["poisson", "burst", "spike", "ramp"])


@given(pattern=patterns, duration=st.floats(0.5, 100), peak=st.floats(1, 20), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_patterns_have_the_documented_rates(pattern: str, duration: float, peak: float, seed: int) -> None:
    base = 40_000 / duration
    times = draw_schedule(pattern, base, duration, peak, seed).times
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0
    assert times[-1] <= duration * 1e9
    assert times.dtype == np.int64
    seconds = np.linspace(0, duration, 20_000, endpoint=False)
    rates = base * np.array([rate_at(pattern, second, duration, peak) for second in seconds.tolist()])
    expected = rates.reshape(20, -1).mean(1) * duration / 20
    counts = np.histogram(times / 1e9, 20, (0, duration))[0]
    assert (np.abs(counts - expected) < 6 * np.sqrt(expected) + 0.02 * expected).all()
    _, mean = pattern_profile(pattern, duration, peak)
    assert mean == pytest.approx(rates.mean() / base, rel=0.01)


@given(pattern=patterns, seed=st.integers(0, 2**32 - 1), qps=st.floats(0.01, 50))
def test_schedules_follow_from_their_seed(pattern: str, seed: int, qps: float) -> None:
    one, again, other = (draw_schedule(pattern, qps, 20.0, 4.0, given) for given in (seed, seed, seed ^ 1))
    assert one.times.tolist() == again.times.tolist()
    assert len(one.times) < 5 or one.times.tolist() != other.times.tolist()


def test_classes_have_independent_seeds() -> None:
    drawn = [seed for user in (0, 1, 2**70) for seeds in class_seeds(user).values() for seed in seeds]
    assert len(set(drawn)) == len(drawn) == 3 * 9 * 4
    assert all(0 <= seed < 2**32 for seed in drawn)
    assert class_seeds(5) == class_seeds(5)
    plans = class_plans(Load(CONNECTION, pattern="burst", qps=200.0, duration=5.0))
    times = [tuple(plan.schedule.times[:5].tolist()) for plan in plans if plan.schedule]
    assert len(set(times)) == 9


# Plans


def test_plans_have_the_shares_and_folders_of_the_document() -> None:
    plans = class_plans(Load(CONNECTION, qps=70.0, workload="urgent_heavy", duration=2.5, min_queries=7))
    assert [(plan.tier, plan.slo) for plan in plans] == REQUEST_CLASSES
    assert [plan.qps for plan in plans] == [70.0 * share for share in WORKLOAD_DISTRIBUTIONS["urgent_heavy"].values()]
    assert {str(plan.logs) for plan in plans} == {f"loadgen_logs/tier{tier}_{slo}" for tier, slo in REQUEST_CLASSES}
    assert {(plan.duration, plan.min_queries, plan.schedule) for plan in plans} == {(2.5, 7, None)}


def test_classes_with_almost_no_load_are_left_out() -> None:
    plans = class_plans(Load(CONNECTION, qps=0.1, min_queries=1))
    assert [(plan.tier, plan.slo) for plan in plans] == [kind for kind in REQUEST_CLASSES if BALANCED[kind] >= 0.1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qps": 0.05}, "options: no class would get 0.01 requests/s; raise --total-qps"),
        ({"qps": math.nan}, "options: the load must be above 0 and at most 100,000 requests/s"),
        ({"qps": 100_001.0}, "options: the load must be above 0 and at most 100,000 requests/s"),
        ({"duration": 0.0}, "options: the duration must be above 0 and at most 86,400 s"),
        (
            {"workload": "idle"},
            "options: there is no workload 'idle'; choose one of balanced, urgent_heavy, batch_heavy",
        ),
        (
            {"pattern": "chirp"},
            "options: there is no pattern 'chirp'; choose one of poisson, burst, spike, ramp, trace",
        ),
        ({"pattern": "trace"}, "options: --pattern trace and --trace FILE belong together; give both"),
        ({"trace": Path("x")}, "options: --pattern trace and --trace FILE belong together; give both"),
        ({"peak": 0.5}, "options: the peak must be 1 to 1000 times the load, not 0.5"),
        (
            {"qps": 90_000.0, "pattern": "ramp", "peak": 3.0},
            "options: that would be about 10,800,000 requests; a run has at most 5,000,000",
        ),
        (
            {"qps": 9_000.0, "min_queries": 1_000_000},
            "options: that would be about 9,000,000 requests; a run has at most 5,000,000",
        ),
        (
            {"qps": 1.0, "min_queries": 5_000},
            "options: tier1_urgent would be loaded for 100,000 s; a run takes at most 86,400 s",
        ),
    ],
)
def test_loads_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as told:
        class_plans(Load(CONNECTION, **changes))
    assert str(told.value) == message


def test_patterns_ask_for_their_mean_rate() -> None:
    plans = class_plans(Load(CONNECTION, qps=10.0, duration=10.0, pattern="burst", peak=6.0))
    assert sum(plan.qps for plan in plans) == pytest.approx(20.0)
    assert {plan.logs for plan in plans} == {None}


# Traces


def traced(path: Path, text: str | bytes, seed: int = 0) -> dict[tuple[int, str], Schedule]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_trace(path, BALANCED, seed)


def test_trace_with_everything(tmp_path: Path) -> None:
    text = "model,slo,tier,seconds\nvit,normal,2,10.5\nresnet50,normal,2,10.25\n,normal,2,11\nresnet50,urgent,3,10\n"
    schedules = traced(tmp_path / "t.csv", text)
    assert list(schedules) == [(2, "normal"), (3, "urgent")]
    assert schedules[2, "normal"].times.tolist() == [250_000_000, 500_000_000, 1_000_000_000]
    assert schedules[2, "normal"].models == ["resnet50", "vit", ""]
    assert (schedules[3, "urgent"].times.tolist(), schedules[3, "urgent"].models) == ([0], ["resnet50"])


def test_trace_of_times_alone_is_shared_out(tmp_path: Path) -> None:
    text = "\ufeffseconds\r\n" + "".join(f"{i / 1000}\r\n" for i in range(2000))
    schedules = traced(tmp_path / "t.csv", text, seed=1)
    assert sum(len(schedule.times) for schedule in schedules.values()) == 2000
    for kind, schedule in schedules.items():
        assert len(schedule.times) == pytest.approx(2000 * BALANCED[kind], abs=80)
        assert schedule.models is None
    again, other = (traced(tmp_path / "t.csv", text, seed) for seed in (1, 2))
    assert schedules[1, "urgent"].times.tolist() == again[1, "urgent"].times.tolist()
    assert schedules[1, "urgent"].times.tolist() != other[1, "urgent"].times.tolist()


@given(
    st.lists(
        st.tuples(st.integers(0, 10**12), st.sampled_from(REQUEST_CLASSES), st.sampled_from(["resnet50", "vit"])),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=30)
def test_metrics_file_can_be_replayed(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[int, tuple[int, str], str]]
) -> None:
    path = tmp_path_factory.mktemp("replay") / "metrics.csv"
    start = 1_790_000_000_123_456_789
    rows = [
        record(timestamp_scheduled=start + at, tier=kind[0], slo=kind[1], model_name=model)
        for at, kind, model in requests
    ]
    write_csv(rows, path)
    schedules = read_trace(path, BALANCED, 0)
    first = min(at for at, _, _ in requests)
    assert {
        kind: list(zip(schedule.times.tolist(), schedule.models or (), strict=True))
        for kind, schedule in schedules.items()
    } == {
        kind: sorted((at - first, model) for at, other, model in requests if other == kind)
        for kind in REQUEST_CLASSES
        if any(other == kind for _, other, _ in requests)
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: names no column seconds or timestamp_scheduled; add a header"),
        ("1.5\n2.5\n", "line 1: names no column seconds or timestamp_scheduled; add a header"),
        (b"\xff\xfes\x00e\x00", "line 1: names no column seconds or timestamp_scheduled; add a header"),
        ("seconds\n", "holds no arrivals; give one a line"),
        ("seconds,slo\n1,normal\n", "line 1: names only one of the columns tier and slo; give both or neither"),
        ("seconds\n1\nsoon\n", "line 3: has a time or tier that is no number; correct it"),
        ("seconds\nnan\n", "line 2: has a time or tier that is no number; correct it"),
        ("seconds\ninf\n", "line 2: has a time or tier that is no number; correct it"),
        ("x,seconds\n1\n", "line 2: has a time or tier that is no number; correct it"),
        ("timestamp_scheduled\n1.5\n", "line 2: has a time or tier that is no number; correct it"),
        ("seconds,tier,slo\n1,,normal\n", "line 2: has a time or tier that is no number; correct it"),
        ("seconds\n-1\n", "line 2: has a time out of range, or no class of "),
        ("seconds\n1e11\n", "line 2: has a time out of range, or no class of "),
        ("seconds,tier,slo\n1,4,normal\n", "no class of tier 1 to 3 and SLO urgent, normal, relaxed; correct it"),
        ("seconds,tier,slo\n1,2,\n", "line 2: has a time out of range, or no class of "),
        ('seconds\n1\n"2\n', "line 3: is no CSV (unexpected end of data); correct it"),
    ],
)
def test_broken_trace_is_one_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(InputError) as stop:
        traced(tmp_path / "t.csv", text)
    assert str(stop.value).startswith(f"{tmp_path}/t.csv: ")
    assert told in str(stop.value)


def test_missing_trace_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file; check the path$"):
        read_trace(tmp_path / "none.csv", BALANCED, 0)


def trace_load(path: Path, text: str) -> Load:
    path.write_text(text)
    return Load(CONNECTION, pattern="trace", trace=path)


def test_rates_of_a_trace_are_its_own(tmp_path: Path) -> None:
    load = trace_load(tmp_path / "t.csv", "seconds,tier,slo\n0,1,urgent\n2,1,urgent\n4,3,normal\n1,1,urgent\n")
    assert [(plan.tier, plan.slo, plan.qps, plan.duration) for plan in class_plans(load)] == [
        (1, "urgent", 0.75, 4.0),
        (3, "normal", 0.25, 4.0),
    ]
    load = trace_load(tmp_path / "t.csv", "seconds,tier,slo\n7,1,urgent\n")
    assert [(plan.qps, plan.sending) for plan in class_plans(load)] == [(1.0, 0.0)]


def test_trace_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    load = trace_load(tmp_path / "t.csv", "timestamp_scheduled,tier,slo\n0,1,urgent\n1790000000000000000,1,urgent\n")
    with pytest.raises(InputError, match=r"t\.csv: tier1_urgent would be loaded for 1,790,000,000 s; a run takes"):
        class_plans(load)


def test_trace_of_too_many_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsched.live.loadgen.plans.MOST_REQUESTS", 2)
    load = trace_load(tmp_path / "t.csv", "seconds\n1\n2\n3\n")
    with pytest.raises(InputError, match=r"t\.csv: that would be about 3 requests; a run has at most 2$"):
        class_plans(load)


# Records


def test_metrics_file_has_the_columns_of_the_document(tmp_path: Path) -> None:
    nasty = 'a "quoted", line\nand half \ud800'
    rows = [
        record(sample_id=2**63, latency_ns=1_234_567, tier=2, slo="relaxed", model_name="vit"),
        record(latency_ns=5, slo_met=False, outcome="failed", error=nasty, timestamp_sent=0),
    ]
    write_csv(rows, str(tmp_path / "new" / "metrics.csv"))
    with (tmp_path / "new" / "metrics.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert tuple(read[0]) == COLUMNS
    assert ",".join(COLUMNS[:8]) == "timestamp_issued,sample_id,tier,slo,model,latency_ns,latency_ms,slo_met"
    assert ",".join(COLUMNS[8:]) == "timestamp_scheduled,timestamp_sent,outcome,error"
    first = f"1000,{2**63},2,relaxed,vit,1234567,1.235,true,900,1100,done,"
    assert list(read[0].values()) == first.split(",")
    assert (read[1]["slo_met"], read[1]["outcome"], read[1]["timestamp_sent"]) == ("false", "failed", "0")
    assert read[1]["error"] == nasty.replace("\ud800", "?")


def test_metrics_file_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_csv([record()], tmp_path / "file" / "metrics.csv")


def test_summary_has_the_figures_of_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [record(latency_ns=ms * 1_000_000) for ms in range(1, 101)]
    rows += [record(tier=3, slo="normal", outcome="expired", slo_met=False)]
    rows += [record(tier=3, slo="normal", latency_ns=10_000_000)]
    print_summary(rows[::-1])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip() and "─" not in line]
    assert lines == [
        ["tier", "slo", "count", "done", "p50_ms", "p95_ms", "p99_ms", "slo_attainment_%"],
        ["1", "urgent", "100", "100", "50.5", "95.0", "99.0", "100.0"],
        ["3", "normal", "2", "1", "10.0", "10.0", "10.0", "50.0"],
        ["all", "102", "101", "50.0", "95.0", "99.0", "99.0"],
    ]


def test_summary_of_nothing_done(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary([record(outcome="timeout", slo_met=False)])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["1", "urgent", "1", "0", "-", "-", "-", "0.0"]
    print_summary([])
    assert attainment([]) == 1.0
    assert attainment([record(), record(slo_met=False), record(slo_met=False), record()]) == 0.5


# Scheduled times


def completed(plan: ClassPlan, verdict: Verdict | None = None, began: int | None = None) -> ClassRun:
    """Return a class of which requests 0 to 2 were issued 5, 7 and 9 ms after their times, and answered 30 ms later."""
    at = [0, 40_000_000, 90_000_000] if plan.schedule else loadgen_arrivals(1, plan.qps, 3).tolist()
    rows = [
        record(number=i, timestamp_issued=10**18 + at[i] + lag, timestamp_sent=10**18 + at[i] + lag + 10**6)
        for i, lag in enumerate([5_000_000, 7_000_000, 9_000_000])
    ]
    for row in rows:
        row["latency_ns"], row["timestamp_scheduled"] = 30_000_000, 0
    worker = run._Worker(None, None, ClassRun(plan, rows[::-1], 3, verdict), began=began)  # type: ignore[arg-type]
    run._add_schedule(worker)
    return worker.run


def test_latencies_and_lags_of_a_schedule_count_from_its_times() -> None:
    plan = replace(PLAN, schedule=Schedule(np.array([0, 40_000_000, 90_000_000])))
    told = completed(plan, began=10**18)
    assert [row["timestamp_scheduled"] - 10**18 for row in told.records] == [0, 40_000_000, 90_000_000]
    assert [row["latency_ns"] for row in told.records] == [35_000_000, 37_000_000, 39_000_000]
    assert told.lag_ms.tolist() == [6.0, 8.0, 10.0]
    assert (told.seconds, told.delivered_qps) == (10.0, 0.3)
    assert {row["timestamp_scheduled"] for row in completed(plan).records} == {0}


def test_loadgen_begins_where_the_promptest_request_was_issued() -> None:
    following = int(loadgen_arrivals(1, PLAN.qps, 4)[-1])
    told = completed(PLAN, Verdict(True, (), following + 500))
    assert [row["latency_ns"] for row in told.records] == [30_000_000, 32_000_000, 34_000_000]
    assert told.lag_ms.tolist() == [1.0, 3.0, 5.0]
    assert told.problem == ""
    assert completed(PLAN, Verdict(True, (), following + 5_000)).problem.startswith("LoadGen has made another schedule")


def test_slow_answer_is_out_of_time_by_its_lag() -> None:
    plan = replace(PLAN, schedule=Schedule(np.array([0, 40_000_000, 90_000_000])))
    assert [row["slo_met"] for row in completed(plan, began=10**18 - 64_000_000).records] == [True, False, False]


# What makes a run unusable


def class_run(
    rows: Sequence[Record], issued: int | None = None, lag_ms: Sequence[float] = (), **named: Any
) -> ClassRun:
    return ClassRun(PLAN, list(rows), len(rows) if issued is None else issued, lag_ms=np.array(lag_ms), **named)


def test_answers_of_any_kind_make_a_usable_run() -> None:
    rows = [record(outcome=outcome, slo_met=False) for outcome in ("done", "expired", "rejected", "failed")]
    assert complaints([class_run(rows, lag_ms=[1.0, 2.0, 3.0, 4.0])]) == []
    assert complaints([class_run([]), class_run(rows)]) == []


@pytest.mark.parametrize("outcome", ["timeout", "unavailable", "garbage", "unsent"])
def test_requests_without_an_answer_are_told(outcome: str) -> None:
    rows = [record()] * 99 + [record(outcome=outcome, error="why")]
    told = f"tier1_urgent: 1 of 100 requests got no answer (1 {outcome}; the first: why)"
    assert complaints([class_run(rows)]) == [told]


@pytest.mark.parametrize(
    ("class_", "told"),
    [
        (class_run([record()] * 3, problem="it broke"), ["it broke"]),
        (class_run([record()] * 3, issued=5), ["2 of 5 requests have no record", "only 3 of 5 requests were sent"]),
        (class_run([record(outcome="failed", error="no")] * 3), ["no request was done (the first that failed: no)"]),
        (class_run([record()] * 3, lag_ms=[1.0, 99.0, 2.0]), []),
        (
            class_run([record()] * 3, lag_ms=[11.0, 99.0, 2.0]),
            ["2 requests were sent late, up to 99 ms (over 10 ms each)"],
        ),
        (class_run([record()] * 300, lag_ms=[11.0] * 3 + [1.0] * 297), []),
        (
            class_run([record()] * 300, lag_ms=[11.0] * 4 + [1.0] * 296),
            ["4 requests were sent late, up to 11 ms (over 10 ms each)"],
        ),
    ],
)
def test_complaints(class_: ClassRun, told: list[str]) -> None:
    assert complaints([class_]) == [f"tier1_urgent: {text}" for text in told]


def test_run_without_any_request_says_nothing() -> None:
    assert complaints([class_run([])] * 2) == ["not one request was due: the load is too small, or too short"]
    assert complaints([class_run([], problem="it died")]) == ["tier1_urgent: it died"]


def test_tables_hold_what_was_asked_and_what_came(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    rows = [record(outcome=outcome, slo_met=outcome == "done") for outcome in OUTCOMES for _ in range(2)]
    loaded = class_run(rows, lag_ms=[1.0, 3.0], seconds=4.0, verdict=Verdict(False, ("few",), 1))
    Console(width=200).print(stimulus_table([loaded, class_run([], problem="it died")]))
    titles, _, *lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert titles == "class asked/s sent/s lag_p50_ms lag_p99_ms expired rejected failed no answer LoadGen"
    assert lines == ["tier1_urgent 10.00 4.00 2.00 2.98 2 2 2 8 INVALID", "tier1_urgent 10.00 0.00 - - 0 0 0 0"]
    (told,) = json.loads(json.dumps(figures([loaded])))
    assert told["outcomes"] == dict.fromkeys(OUTCOMES, 2)
    assert told["loadgen"] == {"valid": False, "reasons": ["few"]}
    assert (told["requests"], told["records"], told["slo_attainment"]) == (16, 16, 2 / 16)
    assert told["latency_ms"] == {"p50": 5.0, "p95": 5.0, "p99": 5.0}
    assert told["send_lag_ms"]["p50"] == 2.0


# The highest load


@given(
    threshold=st.floats(-3, 7).map(lambda power: 10**power),
    qps=st.floats(-0.5, 5).map(lambda power: 10**power),
    duration=st.sampled_from([0.5, 10.0, 3600.0]),
    workload=st.sampled_from(list(WORKLOAD_DISTRIBUTIONS)),
)
def test_peak_is_found(threshold: float, qps: float, duration: float, workload: str) -> None:
    if qps * duration > MOST_REQUESTS:
        qps = MOST_REQUESTS / duration / 1.01
    load = Load(CONNECTION, qps=qps, duration=duration, min_queries=1, workload=workload)
    trials: list[Trial] = []

    def pretend(plans: Sequence[ClassPlan]) -> list[ClassRun]:
        assert len(plans) == 9 or not trials
        kept = sum(plan.qps for plan in plans) <= threshold
        return [ClassRun(plan, [record(slo_met=kept or plan.slo != "normal")], 1) for plan in plans]

    found = find_peak(load, 0.99, trials.append, pretend)
    highest = max(trial.qps for trial in trials)
    assert len(trials) < 40
    assert highest <= MOST_QPS
    for trial in trials:  # the sum of the classes' rates is rounded
        assert trial.kept == (trial.qps <= threshold) or trial.qps == pytest.approx(threshold, rel=1e-9)
    assert found == max((trial.qps for trial in trials if trial.kept), default=0.0)
    if found == 0:
        assert threshold < max(qps / 32, 0.4) or threshold < qps < 0.4
        assert {(trial.worst, trial.worst_class) for trial in trials} == {(0.0, trials[0].worst_class)}
    elif found < highest:
        assert 0.95 * threshold <= found * (1 + 1e-9)
    else:
        assert found >= 0.98 * min(MOST_QPS, MOST_REQUESTS / duration)


def test_trial_that_is_no_measurement_is_not_kept() -> None:
    def pretend(plans: Sequence[ClassPlan]) -> list[ClassRun]:
        return [ClassRun(plan, [record()], 2) for plan in plans]

    trials: list[Trial] = []
    assert find_peak(Load(CONNECTION, pattern="poisson", duration=0.1), 0.9, trials.append, pretend) == 0.0
    assert trials[0].worst == 1.0
    assert trials[0].problems[0] == "tier1_urgent: 1 of 2 requests have no record"
    assert [trial.qps for trial in trials] == [30 / 2**i for i in range(7)]


# What becomes of each query


def answer(call: wire.Call, *, success: bool = False, message: str = "", off: int = 0) -> bytes:
    return InferResponse(deadline_ns=call.deadline_ns + off, success=success, message=message).SerializeToString()


@dataclass
class Fake:
    """A scheduler that does what the name of the model says."""

    certificate: tuple[bytes, bytes] | None = None
    calls: list[wire.Call] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self._released = threading.Event()

    def _infer(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        call = wire.decode(data)
        self.calls.append(call)
        self.metadata.append(dict(context.invocation_metadata()))
        self.limits.append(context.time_remaining())
        match call.model:
            case "expired" | "rejected" as outcome:
                return answer(call, message=f"{outcome}: for a reason")
            case "refused":
                return answer(call, message="no luck: today")
            case "broken":
                context.abort(grpc.StatusCode.INTERNAL, "failed: broken")
            case "gone":
                context.abort(grpc.StatusCode.UNAVAILABLE, "closing")
            case "noise":
                return b"\xff\xff\xff"
            case "silence":
                return b""
            case "half":
                return b"\x1a\x01\xff"  # a message that is no UTF-8
            case "stranger":
                return answer(call, success=True, off=1)
            case "flood":
                return answer(call, message="x" * (2 << 20))
            case "never":
                given_up = threading.Event()
                assert not context.add_callback(given_up.set) or given_up.wait(PATIENCE)
            case "held":
                assert self._released.wait(PATIENCE)
        return answer(call, success=True, message="done: ")

    def release(self) -> None:
        self._released.set()

    def __enter__(self) -> "Fake":
        self._server = grpc.server(ThreadPoolExecutor(64))
        handler = grpc.unary_unary_rpc_method_handler(self._infer)
        handlers = {"Infer": handler}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, handlers),))
        if self.certificate:
            certificate, key = self.certificate
            self.port = self._server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
        else:
            self.port = self._server.add_insecure_port("localhost:0")
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.stop(None).wait()

    @property
    def url(self) -> str:
        return f"localhost:{self.port}"


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    with Fake() as server:
        yield server


@dataclass
class Client:
    """A SUT and what it has completed, with the time of each completion."""

    sut: SchedulerSUT
    completed: list[tuple[int, int]]

    def issue(self, *samples: int) -> None:
        self.sut.issue_query([SimpleNamespace(id=sample) for sample in samples])

    def ended(self) -> list[Record]:
        with self.sut.lock:
            return sorted(self.sut.records, key=lambda record: record["number"])

    def wait(self, count: int) -> list[Record]:
        until(lambda: len(self.completed) >= count)
        return self.ended()


@contextmanager
def client(
    connection: str | Connection, models: Sequence[str] | None = None, slo: str = "urgent", **named: Any
) -> Iterator[Client]:
    completed: list[tuple[int, int]] = []

    def complete(samples: Sequence[int]) -> None:
        completed.extend((sample, time.time_ns()) for sample in samples)

    sut = SchedulerSUT(connection, 2, slo, models=models, complete=complete, **named)
    try:
        yield Client(sut, completed)
    finally:
        sut.drain(0.0)
        sut.destroy()


ENDS = {
    "resnet50": ("done", ""),
    "expired": ("expired", "for a reason"),
    "rejected": ("rejected", "for a reason"),
    "refused": ("failed", "no luck: today"),
    "broken": ("failed", "INTERNAL: failed: broken"),
    "gone": ("unavailable", "UNAVAILABLE: closing"),
    "noise": ("garbage", "the answer is no InferResponse (Error parsing message with type 'scheduler.InferResponse')"),
    "half": ("garbage", "the answer is no InferResponse (Error parsing message with type 'scheduler.InferResponse')"),
    "silence": ("garbage", "the answer is for deadline 0, not "),
    "stranger": ("garbage", "the answer is for deadline "),
    "flood": ("failed", "RESOURCE_EXHAUSTED: "),
}


@given(
    batches=st.lists(st.lists(st.sampled_from(list(ENDS)), min_size=1, max_size=6), min_size=1, max_size=3),
    room=st.integers(1, 20),
)
@settings(max_examples=15)
def test_each_query_has_one_record_and_one_completion(fake: Fake, batches: list[list[str]], room: int) -> None:
    names = [name for batch in batches for name in batch]
    samples = iter(range(100, 200))
    with client(Connection(fake.url, timeout=PATIENCE, max_in_flight=room), names) as driver:
        for batch in batches:
            driver.issue(*(next(samples) for _ in batch))
        rows = driver.wait(len(names))
        assert driver.sut.drain(0.0) == 0
    assert [row["sample_id"] for row in rows] == list(range(100, 100 + len(names)))
    assert sorted(sample for sample, _ in driver.completed) == [row["sample_id"] for row in rows]
    assert [(row["number"], row["model_name"]) for row in rows] == list(enumerate(names))
    for row in rows:
        if row["outcome"] == "unsent":
            assert len(names) > room
            assert (row["error"], row["timestamp_sent"]) == ("too many calls are under way", 0)
        else:
            outcome, error = ENDS[row["model_name"]]
            assert (row["outcome"], row["error"].startswith(error)) == (outcome, True)
            assert row["timestamp_sent"] >= row["timestamp_issued"]
        assert row["slo_met"] == (row["outcome"] == "done" and row["latency_ns"] <= SLO_LATENCY_NS["urgent"])
    ends = dict(driver.completed)
    for row in rows:
        if row["outcome"] != "done":
            assert ends[row["sample_id"]] - row["timestamp_issued"] >= SLO_LATENCY_NS["urgent"]


def test_silent_scheduler_is_given_up(fake: Fake) -> None:
    fake.limits.clear()
    with client(Connection(fake.url, timeout=0.25), ["never"] * 3) as driver:
        driver.issue(1, 2)
        driver.issue(3)
        rows = driver.wait(3)
    assert [(row["outcome"], row["error"]) for row in rows] == [("timeout", "no answer within 0.25 s")] * 3
    assert all(row["latency_ns"] >= 0.25e9 and row["timestamp_sent"] for row in rows)
    assert max(fake.limits, default=0.0) <= 0.25


def test_calls_that_grpc_forgets_are_given_up(fake: Fake) -> None:
    """Seen with a scheduler that froze: the deadline passed, and nothing ever came of the call."""
    with client(Connection(fake.url, timeout=0.25), ["resnet50"] * 2) as driver:
        driver.sut._call = lambda *_, **__: driver.sut._loop.create_future()
        driver.issue(1, 2)
        rows = driver.wait(2)
    assert [(row["outcome"], row["error"]) for row in rows] == [("timeout", "no answer within 0.25 s")] * 2


def test_what_is_done_is_completed_before_what_failed_earlier(fake: Fake) -> None:
    with client(fake.url, ["rejected", "resnet50"], slo="normal") as driver:
        driver.issue(1)
        until(lambda: driver.ended())
        driver.issue(2)
        driver.wait(2)
    assert [sample for sample, _ in driver.completed] == [2, 1]


def test_requests_are_those_of_the_document(fake: Fake) -> None:
    fake.calls.clear()
    with client(fake.url, slo="normal", seed=1) as driver:
        driver.issue(*range(8))
        rows = driver.wait(8)
    assert Counter(call.deadline_ns for call in fake.calls) == Counter(
        row["timestamp_sent"] + SLO_LATENCY_NS["normal"] for row in rows
    )
    assert {(call.tier, call.shape, call.tensor.size) for call in fake.calls} == {(2, (1, 3, 224, 224), 150_528)}
    assert len({call.tensor.tobytes() for call in fake.calls}) == 8
    for call in fake.calls:
        assert (call.tensor.min() >= 0, call.tensor.max() < 1, abs(call.tensor.mean() - 0.5) < 0.01) == (True,) * 3


def models_of(fake: Fake, slo: str, count: int, seed: int, batch: int) -> list[str]:
    with client(fake.url, slo=slo, seed=seed) as driver:
        for first in range(0, count, batch):
            driver.issue(*range(first, first + batch))
            driver.wait(first + batch)
        return [row["model_name"] for row in driver.ended()]


def test_models_follow_from_the_seed_however_queries_come(fake: Fake) -> None:
    one, all_at_once, other = (models_of(fake, "relaxed", 24, *given) for given in ((3, 1), (3, 24), (4, 24)))
    assert one == all_at_once != other


def test_models_have_the_mix_of_the_slo(fake: Fake) -> None:
    with client(Connection(fake.url, max_in_flight=0), slo="normal", seed=1) as driver:
        driver.issue(*range(4000))
        counts = Counter(row["model_name"] for row in driver.wait(4000))
    assert counts["vit"] == pytest.approx(1200, abs=150)
    assert counts["vit"] + counts["resnet50"] == 4000
    assert set(models_of(fake, "urgent", 8, 1, 8)) == {"resnet50"}


def test_models_that_a_trace_leaves_open_are_drawn(fake: Fake) -> None:
    with client(fake.url, ["rejected", "", "expired"]) as driver:
        driver.issue(0, 1, 2)
        assert [row["model_name"] for row in driver.wait(3)] == ["rejected", "resnet50", "expired"]


def test_what_is_left_at_the_end_is_given_up_and_counted() -> None:
    models = ["resnet50", "never", "never", "held"]
    with Fake() as scheduler, client(Connection(scheduler.url, timeout=60.0), models) as driver:
        driver.issue(1, 2, 3, 4)
        driver.wait(1)
        until(lambda: len(scheduler.calls) == 4)
        assert driver.sut.drain(0.05) == 3
        rows = driver.ended()
        assert [(row["sample_id"], row["outcome"]) for row in rows] == [
            (1, "done"),
            (2, "timeout"),
            (3, "timeout"),
            (4, "timeout"),
        ]
        assert {row["error"] for row in rows} == {"", "given up when the run ended"}
        driver.wait(4)
        assert sorted(sample for sample, _ in driver.completed) == [1, 2, 3, 4]
        assert driver.sut.drain(0.05) == 0


def test_drain_waits_for_what_comes_in_time() -> None:
    with Fake() as scheduler, client(Connection(scheduler.url, timeout=60.0), ["held"] * 2, slo="relaxed") as driver:
        driver.issue(1, 2)
        until(lambda: len(scheduler.calls) == 2)
        scheduler.release()
        assert driver.sut.drain(PATIENCE) == 0
        assert [row["outcome"] for row in driver.ended()] == ["done"] * 2


def test_room_is_made_when_calls_end() -> None:
    with Fake() as scheduler, client(Connection(scheduler.url, max_in_flight=2), ["held"] * 6) as driver:
        driver.issue(1, 2, 3, 4)
        until(lambda: len(driver.ended()) == 2)
        scheduler.release()
        until(lambda: len(driver.ended()) == 4)
        driver.issue(5, 6)
        until(lambda: len(driver.ended()) == 6)
        assert [row["outcome"] for row in driver.ended()] == ["done"] * 2 + ["unsent"] * 2 + ["done"] * 2


def test_nobody_there_is_unavailable() -> None:
    with client("localhost:1", ["resnet50"]) as driver:
        driver.sut.connect(0.05)
        driver.issue(1)
        (row,) = driver.wait(1)
    assert row["outcome"] == "unavailable"
    assert row["error"].startswith("UNAVAILABLE: ")


def test_request_that_cannot_be_made_is_unsent(fake: Fake) -> None:
    with client(fake.url, ["\ud800", "resnet50"]) as driver:
        driver.issue(1, 2)
        rows = driver.wait(2)
    assert [(row["outcome"], row["timestamp_sent"] > 0) for row in rows] == [("unsent", False), ("done", True)]
    assert rows[0]["error"].startswith("the load generator failed")


def test_token_is_sent_with_each_call(fake: Fake) -> None:
    fake.metadata.clear()
    with client(Connection(fake.url, token="open sesame")) as driver:
        driver.issue(1, 2)
        driver.wait(2)
    with client(fake.url) as driver:
        driver.issue(3)
        driver.wait(1)
    assert [sent.get("authorization") for sent in fake.metadata] == ["Bearer open sesame", "Bearer open sesame", None]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A self-signed certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        ["openssl", *words.split(), "-keyout", "k", "-out", "c"], cwd=folder, check=True, capture_output=True
    )
    return (folder / "c").read_bytes(), (folder / "k").read_bytes()


def test_scheduler_behind_tls_is_reached_by_those_who_trust_it(certificate: tuple[bytes, bytes]) -> None:
    with Fake(certificate) as scheduler:
        trusting = Connection(scheduler.url, authority=certificate[0])
        require_scheduler(trusting, PATIENCE)
        with client(trusting) as driver:
            driver.issue(1)
            assert driver.wait(1)[0]["outcome"] == "done"
        with pytest.raises(InputError, match=r"no scheduler answers within 0\.3 s"):
            require_scheduler(Connection(scheduler.url), 0.3)


# The command line


def call_loadgen(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["loadgen", *map(str, arguments)])
    return int(stop.value.code or 0)


FILES = {"ca.pem": "no certificate", "empty": "", "word": "tok\u00e9n", "trace.csv": "seconds\nsoon\n"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--total-qps 0", "options: the load must be above 0 and at most 100,000 requests/s"),
        ("--total-qps nan", "options: the load must be above 0 and at most 100,000 requests/s"),
        ("--total-qps many", "Invalid value for '--total-qps'"),
        ("--total-qps 0.01", "options: no class would get 0.01 requests/s; raise --total-qps"),
        ("--duration-ms 0", "Invalid value for '--duration-ms'"),
        ("--duration-ms 1.5", "Invalid value for '--duration-ms'"),
        ("--workload calm", "Invalid value for '--workload'"),
        ("--min-query-count -1", "Invalid value for '--min-query-count'"),
        ("--seed -1", "Invalid value for '--seed'"),
        ("--pattern waves", "Invalid value for '--pattern'"),
        ("--pattern burst --peak 0", "options: the peak must be 1 to 1000 times the load, not 0"),
        ("--pattern trace", "options: --pattern trace and --trace FILE belong together; give both"),
        ("--trace x", "options: --pattern trace and --trace FILE belong together; give both"),
        ("--pattern trace --trace x", "x: no such file; check the path"),
        ("--pattern trace --trace trace.csv", "trace.csv: line 2: has a time or tier that is no number; correct it"),
        ("--pattern trace --trace trace.csv --find-peak", "options: --find-peak writes no report, and cannot change"),
        ("--find-peak --attainment 1.5", "Invalid value for '--attainment'"),
        ("--timeout 0", "Invalid value for '--timeout'"),
        ("--timeout nan", "Invalid value for '--timeout'"),
        ("--wait nan", "Invalid value for '--wait'"),
        ("--max-in-flight 0", "Invalid value for '--max-in-flight'"),
        ("--metrics-csv .", ".: is a folder; name a file in it"),
        ("--metrics-csv empty/x.csv", "empty: cannot be written (Not a directory); choose another place"),
        ("--output-dir empty", "empty/tier1_urgent: cannot be written (Not a directory); choose another place"),
        ("--token-file none", "none: no such file; check the path"),
        ("--token-file empty", "empty: holds no token of printable ASCII characters; write one into it"),
        ("--token-file word", "word: holds no token of printable ASCII characters; write one into it"),
        ("--tls-ca none", "none: no such file; check the path"),
        ("--tls-ca ca.pem", "ca.pem: holds no certificate (PEM); give that of the scheduler's authority"),
        ("--scheduler-url=", "options: --scheduler-url: is empty; give HOST:PORT"),
        ("--scheduler-url localhost:1", "localhost:1: no scheduler answers within 0.1 s; start one with gsched serve"),
        ("extra", "Got unexpected extra argument"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_text(content)
    assert call_loadgen("--wait", "0.1", *words.split()) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: {told}")
    assert output.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
