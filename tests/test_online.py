"""The policy online: what it gains on streams, what its options do, and that it sees nothing of the future."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import RESIDENCIES, SECOND, Case, cases

from gsched import generate, load_config
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Workflow, Workload

EXAMPLES = Path(__file__).parents[1] / "examples"


def at_load(workload: Workload, gpus: int, load: float) -> Workload:
    """The workload with its arrivals stretched until they bring so much of the work that the GPUs can do."""
    sizes = np.array([model.gpus_required for model in workload.models])[workload.model]
    time = workload.timestamp - workload.timestamp.min()
    seconds = (workload.duration * sizes).sum() / (gpus * load)
    return replace(workload, timestamp=(time / time.max() * seconds * SECOND).astype(np.int64))


@pytest.mark.parametrize(("example", "requests"), [("studio", 700), ("documents", 2000)])
@pytest.mark.parametrize("gpus", [8, 16, 30])
def test_latencies_under_load_are_far_below_those_of_the_baseline(example: str, requests: int, gpus: int) -> None:
    workload = at_load(generate(load_config(EXAMPLES / f"{example}.json"), requests, seed=21), gpus, 0.9)
    summaries = [simulate(workload, Cluster(gpus), name, "online").summary for name in ("baseline", "online")]
    for figure, share in (("p99_request_time", 0.75), ("average_request_time", 0.85)):
        baseline, online = (summary[figure] for summary in summaries)
        assert online <= share * baseline, figure


@given(cases(residencies=RESIDENCIES), st.data())
def test_later_requests_change_no_earlier_decision(case: Case, data: st.DataObject) -> None:
    workload = case.workload
    moments = sorted(set(workload.timestamp.tolist()))
    last = data.draw(st.sampled_from(moments))
    kept = workload.select(np.flatnonzero(workload.timestamp <= last))
    until = next(((moment - moments[0]) / SECOND for moment in moments if moment > last), np.inf)
    whole, part = (decisions(w, case.cluster, until) for w in (workload, kept))
    assert whole == part


def decisions(workload: Workload, cluster: Cluster, until: float) -> list[tuple[object, ...]]:
    """What was decided before a time: request, node, GPU and when."""
    log = simulate(workload, cluster, "online", "online")
    decided = (log.ready_time + log.waiting_time).tolist()
    rows = zip(log.request_id.texts(), log.node_id.texts(), log.gpu_id.tolist(), decided, strict=True)
    return [row for row in rows if row[3] < until - 1e-6]


def singles(requests: list[tuple[str, float, float]], loads: float = 5.0) -> Workload:
    """Requests of one node each: model (of one GPU), arrival, duration."""
    names = sorted({model for model, _, _ in requests})
    models = {id: Model(id, 16.0, 1, loads) for id in names}
    return Workload(
        Config(models, {id: Workflow(id, (Node("n", id),)) for id in names}),
        [f"r{i}" for i in range(len(requests))],
        np.array([names.index(model) for model, _, _ in requests], np.int32),
        np.array([int(time * SECOND) for _, time, _ in requests], np.int64),
        np.array([duration for _, _, duration in requests]),
    )


ALTERNATING = singles([("abcdef"[i % 6], 1.0 * i, 2.0) for i in range(300)])


@pytest.mark.parametrize("last", [30, 100, 200])
def test_later_requests_of_a_stream_change_no_earlier_decision(last: int) -> None:
    part = ALTERNATING.select(np.arange(last))
    assert decisions(part, Cluster(3), last) == decisions(ALTERNATING, Cluster(3), last)


def started(workload: Workload, **options: float) -> dict[str, float]:
    """When the node of each request was started, on one GPU."""
    log = simulate(workload, Cluster(1), "online", "online", options=options)
    return dict(zip(log.request_id.texts(), (log.ready_time + log.waiting_time).tolist(), strict=True))


CAUTIOUS = {
    "switch_weight": 0.33,
    "waiting_weight": 0.12,
    "balance_weight": 2.3,
    "drain_weight": 3.5,
    "reserve": 4.0,
    "reload_weight": 0.4,
    "calm": 0.3,
    "max_wait": 1e6,
}


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("switch_weight", (0.33, 3.0)),
        ("waiting_weight", (1.0, 0.12)),
        ("reload_weight", (0.4, 2.0)),
        ("min_residency", (5.0, 60.0)),
    ],
)
def test_options_that_make_switches_rarer(option: str, values: tuple[float, float]) -> None:
    counts = []
    for value in values:
        options = {**CAUTIOUS, option: value}
        summary = simulate(ALTERNATING, Cluster(3), "online", "online", options=options).summary
        counts.append(summary["total_model_switches"])
    assert counts[0] > 1.5 * counts[1]


def test_a_cap_on_waiting_ends_it() -> None:
    """a never runs dry, so that b's one node never is worth the switch."""
    workload = singles([("a", 0.5 * i, 1.0) for i in range(600)] + [("b", 10.0, 1.0)])
    assert 60.0 <= started(workload, max_wait=50.0)["r600"] <= 62.0
    assert 110.0 <= started(workload, max_wait=100.0)["r600"] <= 112.0


def test_in_calm_a_switch_is_cheap() -> None:
    """Both GPUs hold a, one is idle; loading b takes 4 s, which weigh 2, its node 1 s: 1 s more comes by waiting."""
    workload = singles([("a", 0.0, 100.0), ("a", 0.0, 5.0), ("b", 20.0, 1.0)])
    options = {"switch_weight": 0.5, "waiting_weight": 0.1, "reload_weight": 0.0}
    for calm, expected in ((0.0, 30.0), (10.0, 20.0)):
        log = simulate(workload, Cluster(2), "online", "online", options={"calm": calm, **options})
        assert log.ready_time[2] + log.waiting_time[2] == pytest.approx(expected)


def test_size_weight_lets_short_requests_go_first() -> None:
    workload = singles([("a", 0.0, 10.0), ("a", 1.0, 10.0), ("a", 2.0, 1.0)])
    assert started(workload, size_weight=0.0) == {"r0": 0.0, "r1": 15.0, "r2": 25.0}
    assert started(workload, size_weight=1.0) == {"r0": 0.0, "r2": 15.0, "r1": 16.0}


def test_balance_weight_protects_models_with_work() -> None:
    """b's work is worth the switch of a's GPU if the work that waits there counts little."""
    workload = singles([("a", 0.0, 5.0)] * 4 + [("b", 1.0, 30.0)])
    little, much = (started(workload, balance_weight=weight)["r4"] for weight in (0.1, 10.0))
    assert little == 10.0
    assert much == 25.0


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("switch_weight", -1, "switch_weight must not be negative or infinite, not -1"),
        ("waiting_weight", "inf", "waiting_weight must not be negative or infinite, not inf"),
        ("calm", "nan", "calm must not be negative or infinite, not nan"),
        ("max_wait", -1, "max_wait must be between 0 and 1e[+]09 seconds, not -1"),
        ("min_residency", "inf", "min_residency must be between 0 and 1e[+]09 seconds, not inf"),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: object, complaint: str) -> None:
    with pytest.raises(InputError, match=f"policy online: {complaint}"):
        simulate(ALTERNATING, Cluster(1), "online", "online", options={option: value})
