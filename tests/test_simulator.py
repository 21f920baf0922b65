"""The engine: equal to the slow reference row by row, compiled or not, and blind to the future."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference import simulate_slowly
from small import staying, tiny
from strategies import RESIDENCIES, SECOND, Case, cases, configs, deployments

from gsched import session
from gsched.bounds import lower_bounds
from gsched.checker import check
from gsched.cluster import Cluster, Residency
from gsched.errors import InputError
from gsched.log import Log
from gsched.policies import BUILT_IN, find_policy
from gsched.simulator import simulate
from gsched.workload import Config, Mode, Model, Node, Workflow, Workload

TIMES = ("start_time", "end_time", "execution_time", "estimated_time", "switch_time", "ready_time", "waiting_time")
TEXTS = ("request_id", "workflow_id", "node_id", "model_name")

Deployment = tuple[Case, tuple[tuple[int, int], ...]]


def assert_same_rows(log: Log, other: Log) -> None:
    for name in TEXTS:
        assert getattr(log, name).texts() == getattr(other, name).texts(), name
    for name in TIMES:
        assert getattr(log, name).tolist() == getattr(other, name).tolist(), name
    assert log.gpu_id.tolist() == other.gpu_id.tolist()
    assert log.gpu_ids.gpus.tolist() == other.gpu_ids.gpus.tolist()
    assert log.gpu_ids.first.tolist() == other.gpu_ids.first.tolist()


def run(case: Case, policy: object = "baseline", **options: object) -> Log:
    """Simulate, unless the policy says that it cannot work here, as static deployments do that do not fit."""
    try:
        return simulate(case.workload, case.cluster, policy, case.mode, **options)
    except InputError:
        assume(False)
        raise


def assert_equals_reference(log: Log, slow: Log) -> None:
    assert_same_rows(log, slow)
    for total in ("makespan", "total_model_switches", "total_model_loads"):
        assert log.summary[total] == slow.summary[total]
    assert log.summary["total_switch_time"] == pytest.approx(slow.summary["total_switch_time"])


@given(cases(residencies=RESIDENCIES))
def test_engine_equals_reference(case: Case) -> None:
    assert_equals_reference(run(case), simulate_slowly(*case))


@given(cases(residencies=RESIDENCIES).flatmap(deployments))
def test_engine_equals_reference_after_a_placement(deployment: Deployment) -> None:
    case, placement = deployment
    assert_equals_reference(simulate(*case[:2], staying(placement), case.mode), simulate_slowly(*case, placement))


@pytest.mark.parametrize("residency", RESIDENCIES)
@given(
    st.integers(60, 420),
    st.none() | st.integers(20, 300),
    st.lists(st.integers(1, 20) | st.integers(55, 260), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30),
    st.data(),
)
@settings(max_examples=50)
def test_gangs_across_words_of_the_masks(
    residency: Residency,
    gpus: int,
    per_server: int | None,
    sizes: list[int],
    nodes: list[tuple[int, int]],
    data: st.DataObject,
) -> None:
    """More GPUs than a mask's word has bits, gangs that begin in one word and end in another or the next but one."""
    models = {f"m{i}": Model(f"m{i}", 8.0 * min(size, gpus), min(size, gpus), 1.0) for i, size in enumerate(sizes)}
    flows = {f"w{i}": Workflow(f"w{i}", (Node("n", f"m{i}"),)) for i in range(len(sizes))}
    count = len(nodes)
    workload = Workload(
        Config(models, flows),
        [f"r{i}" for i in range(count)],
        np.array([flow % len(sizes) for flow, _ in nodes], np.int32),
        np.arange(count) * 500_000_000,
        np.array([duration for _, duration in nodes], np.float64),
    )
    case = Case(workload, Cluster(gpus, per_server, gpu_memory_gb=20.0, residency=residency), "online")
    case, placement = data.draw(st.just((case, ())) | deployments(case))
    compile = data.draw(st.booleans())
    log = run(case, staying(placement) if placement else "baseline", compile=compile)
    assert_equals_reference(log, simulate_slowly(*case, placement))


def assert_compiled_equals_interpreted(case: Case, policy: object) -> None:
    compiled, interpreted = run(case, policy, compile=True), run(case, policy, compile=False)
    assert_same_rows(compiled, interpreted)
    assert compiled.summary == interpreted.summary


@pytest.mark.parametrize("policy", BUILT_IN)
@given(case=cases(residencies=RESIDENCIES), data=st.data())
@settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much])
def test_compiled_engine_equals_interpreted(policy: str, case: Case, data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(find_policy(policy).modes))
    assert_compiled_equals_interpreted(case._replace(mode=mode), policy)


@given(cases(residencies=RESIDENCIES).flatmap(deployments))
@settings(max_examples=25)
def test_compiled_engine_equals_interpreted_after_a_placement(deployment: Deployment) -> None:
    case, placement = deployment
    assert_compiled_equals_interpreted(case, staying(placement))


EVERY_RUN = [
    (policy, residency, mode) for policy in BUILT_IN for residency in RESIDENCIES for mode in find_policy(policy).modes
]


@pytest.mark.parametrize(("policy", "residency", "mode"), EVERY_RUN)
@given(case=cases())
@settings(max_examples=15, suppress_health_check=[HealthCheck.filter_too_much])
def test_checker_passes_and_no_bound_is_beaten(policy: str, residency: Residency, mode: Mode, case: Case) -> None:
    case = Case(case.workload, replace(case.cluster, residency=residency), mode)
    log = run(case, policy)
    assert sorted(zip(log.request_id.codes.tolist(), log.node_id.texts(), strict=True)) == every_node(case.workload)
    report = check(log, *case)
    assert report.violations == ()
    assert report.unchecked == ()
    bounds = lower_bounds(*case, preloaded="placement" in log.extra)
    assert bounds.makespan.value <= log.summary["makespan"]
    assert bounds.mean_latency.value <= log.summary["average_request_time"]


def every_node(workload: Workload) -> list[tuple[int, str]]:
    flows = [workload.workflows[flow] for flow in workload.workflow.tolist()]
    return sorted((request, node.id) for request, flow in enumerate(flows) for node in flow.nodes)


@given(cases(residencies=RESIDENCIES).flatmap(deployments))
def test_checker_passes_after_a_placement(deployment: Deployment) -> None:
    case, placement = deployment
    report = check(simulate(*case[:2], staying(placement), case.mode), *case)
    assert report.violations == ()
    assert report.unchecked == ()


EVERY_ONLINE_RUN = [(policy, residency) for policy, residency, mode in EVERY_RUN if mode == "online"]


@pytest.mark.parametrize(("policy", "residency"), EVERY_ONLINE_RUN)
@given(case=cases(), data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
def test_later_requests_change_no_earlier_decision(
    policy: str, residency: Residency, case: Case, data: st.DataObject
) -> None:
    workload, cluster = case.workload, replace(case.cluster, residency=residency)
    stamps = workload.timestamp
    last = data.draw(st.sampled_from(sorted(set(stamps.tolist()))[:-1] or [int(stamps[0])]))
    far = data.draw(st.sampled_from([0, 10 * SECOND, 100 * SECOND]))  # so that more is decided before they come
    workload = replace(workload, timestamp=np.where(stamps > last, stamps + far, stamps))
    kept = workload.select(np.flatnonzero(stamps <= last))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "FIRST_REVIEW", 2)  # of those that look back at what has arrived
        whole = run(Case(workload, cluster, "online"), policy)
        part = run(Case(kept, cluster, "online"), policy)
    arrival = workload.arrival("online")
    horizon = arrival[stamps > last].min(initial=np.inf)
    assert decisions_before(whole, horizon) == decisions_before(part, horizon)


def decisions_before(log: Log, horizon: float) -> list[tuple[object, ...]]:
    decided = log.ready_time + log.waiting_time
    rows = zip(
        log.request_id.texts(), log.node_id.texts(), log.gpu_id.tolist(), log.start_time.tolist(), decided, strict=True
    )
    return [row[:4] for row in rows if row[4] < horizon - 1e-6]


def test_hand_computed_chain() -> None:
    log = simulate(tiny({"a": 1, "b": 2}, "aba"), Cluster(2))
    # a loads GPU 0 (5 s) and runs; b replaces a on GPU 0 ((16+16)/16+2 = 4 s, GPU 1 loads in 5 s) and runs; a again
    assert log.start_time.tolist() == [5.0, 11.0, 16.0]
    assert log.switch_time.tolist() == [5.0, 5.0, 4.0]
    assert log.end_time.tolist() == [6.0, 12.0, 17.0]
    assert log.summary["total_model_loads"] == 1
    assert log.summary["total_model_switches"] == 2
    assert log.summary["makespan"] == 17.0


def test_warm_gang_is_preferred_to_a_lower_one() -> None:
    log = simulate(tiny({"a": 1, "b": 1}, "ab", count=2), Cluster(2))
    assert log.gpu_id.tolist() == [0, 1, 0, 1]
    assert log.summary["total_model_switches"] == 2


@pytest.mark.parametrize(
    ("gpus", "per_server", "size", "starts"),
    [
        (8, 4, 3, [0, 4]),
        (8, 4, 6, [0]),
        (10, 4, 2, [0, 2, 4, 6, 8]),
        (7, 4, 3, [0, 4]),
        (70, None, 7, [*range(0, 70, 7)]),
    ],
)
def test_gangs_stay_in_servers(gpus: int, per_server: int | None, size: int, starts: list[int]) -> None:
    log = simulate(tiny({"a": size}, "a", count=len(starts)), Cluster(gpus, per_server))
    assert log.gpu_id.tolist() == starts


def test_model_larger_than_the_cluster_is_refused() -> None:
    with pytest.raises(InputError, match="model a: needs 4 GPUs, the cluster has 2"):
        simulate(tiny({"a": 4}, "a"), Cluster(2))


def test_model_that_nobody_uses_may_be_too_large() -> None:
    workload = tiny({"a": 1, "b": 4}, "a")
    assert simulate(workload, Cluster(2)).summary["makespan"] == 6.0


class ShortestFirst:
    """Orders the nodes of a model by their duration."""

    def order(self, view, node):
        return view.duration(node)

    def choose(self, view):
        for model in view.waiting():
            gang = view.idle_gang(model)
            if gang is not None:
                return model, gang
        return None


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 3))
def test_order_decides_who_is_next(durations: list[int], gpus: int) -> None:
    workload = tiny({"a": 1}, "a", count=len(durations))
    workload = replace(workload, duration=np.array(durations, np.float64))
    log = simulate(workload, Cluster(gpus), ShortestFirst())
    assert log.execution_time.tolist() == sorted(durations)
    assert check(log, workload).valid


@given(configs(), st.integers(1, 3))
def test_late_lane_keeps_the_order(config: Config, gpus: int) -> None:
    """Nodes that become ready with smaller keys than those before them come out first, ties as they came."""
    rng = np.random.default_rng(0)
    nodes = [len(flow.nodes) for flow in config.workflows.values()]
    flows = rng.integers(0, len(nodes), 20).astype(np.int32)
    duration = rng.integers(0, 5, sum(nodes[flow] for flow in flows)).astype(np.float64)
    stamps = np.sort(rng.integers(0, 20, 20)) * 1_000_000_000
    workload = Workload(config, [f"r{i}" for i in range(20)], flows, stamps, duration)
    cluster = Cluster(max(model.gpus_required for model in config.models.values()) + gpus)
    log = simulate(workload, cluster, ShortestFirst(), "online")
    assert check(log, workload).valid


def test_progress_is_told_to_the_end() -> None:
    told = []
    simulate(tiny({"a": 1}, "aa", count=3), Cluster(1), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 6)
