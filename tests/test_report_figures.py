"""The figures of a page against the same figures worked out slowly, and the data that its chart gets."""

import base64
import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured import varied
from strategies import cases

from gsched.checker import check
from gsched.cluster import Cluster
from gsched.log import Gangs, Labels, Log
from gsched.metrics import gpu_use, request_times
from gsched.report.page.chart import Axis, Layers, Line, axis_of, chart, tick_text, ticks
from gsched.report.page.pack import UNKNOWN, json_text, pack
from gsched.report.page.views import PageRun, groups_of, number_in
from gsched.report.scales import count_scale, value_scale
from gsched.report.schedule import (
    Schedule,
    busy_gpus,
    distribution,
    edges_of,
    gpu_shares,
    mean_levels,
    queue_lengths,
    request_seconds,
)
from gsched.simulator import simulate

quick = settings(max_examples=40)
moments = st.integers(0, 40).map(lambda n: n / 4) | st.floats(0, 10)


def foreign(rows, **more):
    """A log of another tool: rows of a request, a node, a gang, a start and an end."""
    columns = list(zip(*rows, strict=True)) or [()] * 5
    requests, nodes, gangs, starts, ends = columns
    first = np.cumsum([0, *map(len, gangs)])
    gpus = np.array([gpu for gang in gangs for gpu in gang], np.int32)
    return Log(
        request_id=Labels.of(requests),
        workflow_id=None,
        node_id=Labels.of(nodes),
        model_name=Labels.of(["m"] * len(rows)),
        gpu_id=np.array([gang[0] if gang else 0 for gang in gangs], np.int32),
        start_time=np.array(starts, float),
        end_time=np.array(ends, float),
        gpu_ids=Gangs(first, gpus),
        **more,
    )


@quick
@given(
    st.lists(st.tuples(moments, moments, st.integers(0, 2)), max_size=12),
    st.integers(1, 9),
    st.sampled_from([10.0, 11]),
)
def test_mean_levels_are_those_of_every_moment(intervals, bins, span):
    edges = np.linspace(0, span, bins + 1)
    slow = np.zeros((3, bins))
    for a, b, kind in intervals:
        for i, (left, right) in enumerate(pairwise(edges)):
            slow[kind, i] += max(min(max(a, b), right) - max(min(a, b), left), 0) / (right - left)
    up, down = (np.array([of(a, b) for a, b, _ in intervals]) for of in (min, max))
    kinds = np.array([kind for *_, kind in intervals], np.int32)
    assert mean_levels(up, down, kinds, 3, edges) == pytest.approx(slow, abs=1e-9)


@settings(max_examples=25)
@given(cases())
def test_figures_of_simulated_runs(case):
    workload, cluster, mode = case
    log = simulate(workload, cluster, "baseline", mode)
    schedule = Schedule(log)
    assert len(schedule.rows) == len(log)
    assert schedule.gpus.tolist() == list(range(cluster.gpus))
    edges = edges_of(schedule.makespan, 100)
    width = edges[1]
    waiting = dict.fromkeys(log.model_name.values, 0.0)
    for name, seconds in zip(log.model_name.texts(), log.waiting_time.tolist(), strict=True):
        waiting[name] += seconds
    queue = queue_lengths(schedule, edges)
    assert dict(zip(log.model_name.values, (queue.sum(axis=1) * width).tolist(), strict=True)) == pytest.approx(
        waiting, rel=1e-6, abs=1e-6
    )
    shares = gpu_shares(schedule)
    used = [use.utilization_percent for use in gpu_use(log, range(cluster.gpus))]
    assert 100 * shares.sum(axis=0) == pytest.approx(used, rel=1e-6, abs=1e-6)
    scale = schedule.makespan or 1.0
    assert busy_gpus(schedule, edges).sum(axis=1) * width == pytest.approx(
        shares.sum(axis=1) * scale, rel=1e-6, abs=1e-6 * scale
    )
    expected = np.sort(request_times(log, workload, mode))
    assert request_seconds(schedule, workload) == pytest.approx(expected, abs=1e-6)
    assert request_seconds(schedule, None) == pytest.approx(expected, abs=1e-6)


def test_requests_that_are_not_complete_have_no_time():
    workload = varied(20)
    log = simulate(workload, Cluster(4), "baseline", "online")
    kept = np.arange(len(log)) != len(log) - 1
    texts = {name: getattr(log, name) for name in ("request_id", "node_id", "model_name")}
    labels = {name: Labels(column.codes[kept], column.values) for name, column in texts.items()}
    times = {
        name: getattr(log, name)[kept] for name in ("gpu_id", "start_time", "end_time", "switch_time", "ready_time")
    }
    part = replace(log, **labels, **times, gpu_ids=None, workflow_id=None)
    assert len(request_seconds(Schedule(part), workload)) == 19
    assert len(request_seconds(Schedule(part), None)) == 20
    lost = {"request_id": log.request_id.texts()[-1], "node_id": "n0", "model_name": "a", "reason": "x", "attempts": 3}
    assert len(request_seconds(Schedule(replace(part, extra={"failures": [lost]})), None)) == 19


@quick
@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.integers(2, 50))
def test_a_distribution_counts(values, most):
    values = np.sort(values)
    points = distribution(values, most)
    assert len(points.value) == min(most, len(values))
    assert points.value[[0, -1]].tolist() == values[[0, -1]].tolist()
    assert points.share[-1] == 1.0
    for value, share in zip(*points, strict=True):
        below, upto = (values < value).mean(), (values <= value).mean()
        assert below < share <= upto + 1e-12


gangs = st.lists(st.integers(0, 9) | st.just(77), min_size=0, max_size=5)


@quick
@given(st.lists(st.tuples(gangs, moments, moments), max_size=8), st.none() | st.integers(1, 12))
def test_bars_cover_each_gang_once(rows, gpus):
    log = foreign(
        [(f"r{i}", "n", gang, min(a, b), max(a, b)) for i, (gang, a, b) in enumerate(rows)],
        summary={"gpus": gpus} if gpus else {},
    )
    schedule = Schedule(log)
    assert schedule.rows.tolist() == [i for i, (gang, *_) in enumerate(rows) if gang]
    found = defaultdict(list)
    for node, row, size in zip(*(column.tolist() for column in schedule.bars), strict=True):
        part = schedule.gpus[row : row + size].tolist()
        assert part == list(range(part[0], part[0] + size))
        found[node] += part
    assert found == {node: sorted(set(rows[row][0])) for node, row in enumerate(schedule.rows.tolist())}
    assert set(schedule.gpus.tolist()) == {gpu for gang, *_ in rows for gpu in gang} | set(range(gpus or 0))


def test_rows_that_make_no_sense_are_left_out():
    nan, inf = float("nan"), float("inf")
    spans = [(0, 1), (nan, 1), (0, nan), (2, 1), (-5, 1), (1, inf), (1, 1)]
    log = foreign([(f"r{i}", "n", [0], *span) for i, span in enumerate(spans)])
    assert Schedule(log).rows.tolist() == [0, 6]
    assert Schedule(replace(log, switch_time=np.full(7, 0.25))).rows.tolist() == [6]
    ready = replace(log, ready_time=np.array([nan, *[0.0] * 5, 2.0]))
    assert np.isnan(Schedule(ready).ready).tolist() == [True, True]
    assert queue_lengths(Schedule(ready), edges_of(1.0, 9)).sum() == 0


def unpacked(text):
    data = json.loads(text)
    for name, (size, packed) in data.pop("columns").items():
        data[name] = np.frombuffer(base64.b64decode(packed), f"<u{size}").astype(np.int64)
    return data


def test_packed_data_are_the_rows():
    workload = varied(60)
    log = simulate(workload, Cluster(4, 2), "baseline", "online")
    models = {name: 3 + i for i, name in enumerate(log.model_name.values)}
    data = unpacked(pack(Schedule(log), models))
    begin = log.start_time - log.switch_time
    for name, seconds in (
        ("begin", begin),
        ("load", log.switch_time),
        ("run", log.end_time - log.start_time),
        ("wait", begin - log.ready_time),
    ):
        assert data[name] * data["unit"] == pytest.approx(seconds, abs=0.51 * data["unit"])
    assert data["unit"] < 1e-4
    assert [data["requests"][i] for i in data["request"]] == log.request_id.texts()
    assert [data["steps"][i] for i in data["step"]] == log.node_id.texts()
    assert data["model"].tolist() == [models[name] for name in log.model_name.texts()]
    assert data["size"].tolist() == log.gpu_ids.sizes.tolist()
    assert (data["rows"], data["gpus"], data["server"]) == (4, None, 2)


def test_packed_times_that_are_not_known():
    log = foreign([("r", "n", [5], 0.0, 1e9)], ready_time=np.array([float("nan")]))
    data = unpacked(pack(Schedule(log), {"m": 0}))
    assert data["wait"].tolist() == [UNKNOWN]
    assert data["gpus"] == [5]
    assert data["run"][0] * data["unit"] == pytest.approx(1e9)
    assert unpacked(pack(Schedule(foreign([])), {}))["makespan"] == 0


def test_json_in_a_page_ends_no_script():
    text = json_text(["</script><!--", "\ud800", "é"])
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text) == ["</script><!--", "\ud800", "é"]


@quick
@given(st.floats(0, 1e6), st.floats(1e-6, 1e9), st.integers(2, 8), st.booleans(), st.booleans())
def test_ticks_are_few_and_inside(low, span, most, log, whole):
    low = low if span > 1e-9 * low else 0.0
    axis = Axis("x", low + (1e-3 if log else 0), low + span + 1e-3, (low + 1e-3) * log, whole)
    found = ticks(axis, most)
    assert len(found) <= most + 2
    assert all(axis.low - 1e-6 * span <= value <= axis.high + 1e-6 * span for value in found)
    assert found == sorted(found)
    if whole and not log:
        assert all(value == round(value) for value in found)


def test_ticks_are_round():
    assert ticks(Axis("x", 0.0, 1303.0), 6) == [0, 250, 500, 750, 1000, 1250]
    assert ticks(Axis("x", -0.5, 3.5, whole=True), 6) == [0, 1, 2, 3]
    assert ticks(Axis("x", 0.5, 2100.0, log=0.5), 6) == [1, 3, 10, 30, 100, 300, 1000]
    assert ticks(Axis("x", 0.0, 2100.0, log=1.0), 6) == [0, 1, 3, 10, 30, 100, 300, 1000]
    sizes = (4, 6, 8, 10, 12, 16, 20, 30)
    assert ticks(axis_of("GPUs", count_scale(sizes), at=sizes), 6) == list(sizes)
    assert ticks(axis_of("GPUs", count_scale((990, 1000, 9000)), at=(990, 1000, 9000)), 6) == [1000, 2000, 5000, 10000]
    assert ticks(Axis("x", 5.0, 17.0, at=(6, 8, 16)), 6) == [6, 8, 16]
    assert ticks(Axis("x", 0.0, 1000.0, at=(1, 2, 900)), 5) == [0, 200, 400, 600, 800, 1000]
    assert [tick_text(value) for value in (0, 0.25, 1250, 250_000, 3e6)] == ["0", "0.25", "1,250", "250k", "3M"]


def test_a_logarithmic_axis_may_begin_with_a_linear_piece():
    axis = axis_of("gap", value_scale([0.0, 0.5, 60.0]))
    assert axis == ("gap, log scale", 0.0, 90.0, 0.1, False, ())
    decades = np.log10(90 / 0.1)
    places = [axis.place(value) for value in (-1.0, 0.0, 0.05, 0.1, 1.0, 90.0, 100.0)]
    assert places == pytest.approx([0, 0, 0.5 / (1 + decades), 1 / (1 + decades), 2 / (1 + decades), 1, 1])
    plain = axis_of("gap", value_scale([0.5, 60.0]))
    assert plain == ("gap, log scale", 0.25, 90.0, 0.25, False, ())
    assert [plain.place(value) for value in (0.0, 0.25, 90.0)] == [0, 0, 1]
    assert plain.place(np.sqrt(0.25 * 90)) == pytest.approx(0.5)


def test_a_chart_draws_to_scale():
    line = Line("a<b", "red", [0, 10], [0, 5], notes=["zero", "five"], low=[0, 4], high=[0, 6])
    text = chart("T<", Axis("x", 0, 10), Axis("y", 0, 10), [line])
    assert 'd="M60 200L370 104"' in text
    assert "<title>five</title>" in text
    assert '<path class="bars" d="M60 200V200M370 123.2V84.8"' in text
    assert "translate" not in text.partition("</g>")[2]
    assert '<g transform="translate(2.5 0)"><path class="bars"' in chart(
        "T", Axis("x", 0, 10), Axis("y", 0, 10), [replace(line, aside=2.5)]
    )
    assert "a&lt;b" in text
    assert "T<" not in text
    layers = Layers(["low", "top"], ["red", "blue"], np.array([0.0, 5, 10]), np.array([[1.0, 1], [1, 4]]))
    text = chart("T", Axis("x", 0, 10), Axis("y", 0, 10), layers)
    assert 'd="M60 200H60V161.6H215V104H370V200Z" style="fill:blue"' in text
    assert 'd="M60 200H60V180.8H370V200Z" style="fill:red"' in text
    assert text.index('data-name="top"') < text.index('data-name="low"')  # which hides what is below it


def test_only_numbers_of_sane_size_are_figures():
    given = [1, 2.5, -3, True, None, "4", [5], {}, float("nan"), float("inf"), 10**400, -(10**400)]
    assert [number_in(value) for value in given] == [1, 2.5, -3, *[None] * 9]


def names(*given):
    runs = [PageRun(log, check(log), source) for log, source in given]
    groups = groups_of(runs, None)
    return [[view.name for view in group] for group in groups], [view.label for group in groups for view in group]


def test_names_tell_logs_apart_in_few_words():
    def log(policy, mode="offline", gpus=4):
        return foreign([("r", "n", [0], 0.0, 1.0)], summary={"policy": policy, "mode": mode, "gpus": gpus})

    assert names((log("a"), "x"), (log("b"), "y")) == ([["a", "b"]], ["a", "b"])
    both = names((log("a"), "x"), (log("b"), "y"), (log("a", "online"), "z"))
    assert both == ([["a", "b"], ["a"]], ["a (offline)", "b", "a (online)"])
    assert names((log("a"), "x"), (log("a"), "y")) == ([["a (x)", "a (y)"]], ["a (x)", "a (y)"])
    assert names((log("a"), "x"), (log("a", gpus=8), "x"))[1] == ["a (4 GPUs)", "a (8 GPUs)"]
    assert names((log("a"), "x"), (log("a"), "x"))[1] == ["a (no. 1)", "a (no. 2)"]
    assert names((foreign([]), "x"), (foreign([]), "y"))[1] == ["x", "y"]
