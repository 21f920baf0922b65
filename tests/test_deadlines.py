"""Policies edf and tiered: what is due first goes first, within a tier or regardless of tiers."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import Task, _Engine
from strategies import SECOND, Case, urgent_cases
from test_simulator import assert_same_rows, decisions_before

from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.log import Log
from gsched.policies import find_policy
from gsched.simulator import simulate
from gsched.workload import Config, Mode, Model, Node, Workflow, Workload

Key = Callable[[int], Any]
"""What a request's nodes are ordered by, given its position."""

OPTIONS = st.one_of(
    st.tuples(st.just("edf"), st.fixed_dictionaries({"horizon": st.sampled_from([0.0, 2.0, 3600.0])})),
    st.tuples(
        st.just("tiered"),
        st.fixed_dictionaries(
            {"aging": st.sampled_from([0.0, 0.5, 3.0, 1e6]), "horizon": st.sampled_from([0.0, 2.0, 3600.0])}
        ),
    ),
)
ONE = Model("m", 1.0, 1, 0.0)
CONFIG = Config({"m": ONE}, {"w": Workflow("w", (Node("n", "m"),))})


def jobs(
    duration: list[float],
    timestamp: list[float] | None = None,
    deadline: list[float] | None = None,
    tier: list[int] | None = None,
) -> Workload:
    """One request a duration, for a single node of one model that takes no time to load; times in seconds."""
    count = len(duration)
    moments = np.zeros(count, np.int64) if timestamp is None else np.array(timestamp) * SECOND
    ids = [f"r{i}" for i in range(count)]
    workflow = np.zeros(count, np.int32)
    return Workload(CONFIG, ids, workflow, moments, np.array(duration, float), deadline=deadline, tier=tier)


def due_times(workload: Workload, mode: Mode, horizon: float) -> list[float]:
    """When each request counts as due, computed one by one."""
    first = min(workload.timestamp.tolist())
    arrivals = [(t - first) / 1e9 if mode == "online" else 0.0 for t in workload.timestamp.tolist()]
    deadlines = [np.inf] * len(arrivals) if workload.deadline is None else workload.deadline.tolist()
    return [a + (horizon if d == np.inf else d) for a, d in zip(arrivals, deadlines, strict=True)]


def tiers(workload: Workload) -> list[int]:
    return [1] * workload.request_count if workload.tier is None else workload.tier.tolist()


def key_of(case: Case, policy: str, horizon: float = 3600.0, aging: float = 1e6) -> Key:
    due, tier = due_times(case.workload, case.mode, horizon), tiers(case.workload)
    return lambda request: due[request] + ((tier[request] - 1) * aging if policy == "tiered" else 0)


class ByKey(_Engine):
    """The slow reference with its queue in the order of a key, else of becoming ready."""

    def __init__(self, case: Case, key: Key) -> None:
        super().__init__(case.workload, case.cluster, case.mode, [])
        self.key = key

    def _make_ready(self, tasks: list[Task], now: float) -> None:
        super()._make_ready(tasks, now)
        self.queue.sort(key=lambda task: self.key(task.request))


@given(urgent_cases(), OPTIONS)
def test_policies_equal_the_reference(case: Case, chosen: tuple[str, dict[str, float]]) -> None:
    policy, options = chosen
    log = simulate(*case[:2], policy, case.mode, options=options)
    assert_same_rows(log, ByKey(case, key_of(case, policy, **options)).run())


@pytest.mark.parametrize("policy", ["edf", "tiered"])
@given(urgent_cases())
@settings(max_examples=25)
def test_compiled_equals_interpreted(policy: str, case: Case) -> None:
    args = (case.workload, case.cluster, policy, case.mode)
    assert_same_rows(simulate(*args, compile=True), simulate(*args, compile=False))


@given(urgent_cases(max_gang=1), st.sampled_from(["edf", "tiered"]))
def test_nothing_more_urgent_is_passed_over(case: Case, policy: str) -> None:
    """All models need one GPU, so whatever was ready could have been started instead."""
    due, tier = due_times(case.workload, case.mode, 3600.0), tiers(case.workload)
    log = simulate(*case[:2], policy, case.mode)
    for row, later in passed_over(log):
        if policy == "edf":
            assert due[row] <= due[later]
        else:
            assert (tier[row], due[row]) <= (tier[later], due[later])


def passed_over(log: Log) -> list[tuple[int, int]]:
    """The requests of each started node and of each that was ready before but started later."""
    request, decided = log.request_id.codes.tolist(), (log.start_time - log.switch_time).tolist()
    ready = log.ready_time.tolist()
    pairs = ((i, j) for i in range(len(request)) for j in range(i + 1, len(request)))
    return [(request[i], request[j]) for i, j in pairs if ready[j] < decided[i] - 1e-9]


@given(urgent_cases(max_gang=1), st.sampled_from([0.0, 0.5, 3.0]))
def test_what_comes_late_enough_overtakes_nobody(case: Case, aging: float) -> None:
    arrival, tier = case.workload.arrival(case.mode), tiers(case.workload)
    due = due_times(case.workload, case.mode, 2.0)
    log = simulate(*case[:2], "tiered", case.mode, options={"aging": aging, "horizon": 2.0})
    for row, later in passed_over(log):
        assert arrival[row] <= due[later] + (tier[later] - 1) * aging


@pytest.mark.parametrize(("aging", "wait"), [(0.0, 0.0), (10.0, 20.0), (1e6, 300.0)])
def test_ageing_ends_the_wait_behind_an_endless_stream(aging: float, wait: float) -> None:
    """A request of tier 1 each second, for a second; one of tier 3 at the start waits `2 * aging` seconds at most."""
    count = 300
    workload = jobs([1.0] * (count + 1), [0, *range(count)], tier=[3] + [1] * count)
    log = simulate(workload, Cluster(1), "tiered", "online", options={"aging": aging})
    assert log.start_time[log.request_id.texts().index("r0")] == wait


@given(urgent_cases(), st.sampled_from(["edf", "tiered"]), st.data())
def test_later_requests_change_no_earlier_decision(case: Case, policy: str, data: st.DataObject) -> None:
    workload = case.workload
    moments = sorted(set(workload.timestamp.tolist()))
    last = data.draw(st.sampled_from(moments))
    kept = workload.select(np.flatnonzero(workload.timestamp <= last))
    whole = simulate(workload, case.cluster, policy, "online")
    part = simulate(kept, case.cluster, policy, "online")
    until = next((moment for moment in moments if moment > last), None)
    horizon = np.inf if until is None else (until - moments[0]) / 1e9
    assert decisions_before(whole, horizon) == decisions_before(part, horizon)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), min_size=1, max_size=12),
    st.none() | st.integers(0, 9),
    st.integers(1, 3),
    st.sampled_from(["edf", "tiered"]),
)
def test_equal_deadlines_are_first_in_first_out(
    nodes: list[tuple[int, int]], deadline: int | None, gpus: int, policy: str
) -> None:
    durations, moments = (list(column) for column in zip(*nodes, strict=True))
    workload = jobs(durations, moments, None if deadline is None else [deadline] * len(nodes))
    args = (workload, Cluster(gpus))
    assert_same_rows(simulate(*args, policy, "online"), simulate(*args, "baseline", "online"))


def test_tiers_are_nothing_to_edf() -> None:
    workload = jobs([1.0] * 4, deadline=[4.0, 3.0, 2.0, 1.0], tier=[1, 2, 3, 4])
    log = simulate(workload, Cluster(1), "edf")
    assert log.request_id.texts() == ["r3", "r2", "r1", "r0"]
    assert simulate(workload, Cluster(1), "tiered").request_id.texts() == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("policy", ["edf", "tiered"])
@pytest.mark.parametrize(("horizon", "order"), [(50.0, ["r1", "r0"]), (200.0, ["r0", "r1"])])
def test_a_request_without_a_deadline_counts_as_due_at_the_horizon(
    policy: str, horizon: float, order: list[str]
) -> None:
    workload = jobs([1.0, 1.0], deadline=[100.0, np.inf])
    log = simulate(workload, Cluster(1), policy, options={"horizon": horizon})
    assert log.request_id.texts() == order


# What theory says, on one GPU with nothing to load

tiny_jobs = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 30)), min_size=1, max_size=5)


def ends_of(order: tuple[int, ...], release: list[float], duration: list[float]) -> dict[int, float]:
    """When each job ends if they run in this order, each as soon as it can."""
    ends: dict[int, float] = {}
    now = 0.0
    for job in order:
        now = max(now, release[job]) + duration[job]
        ends[job] = now
    return ends


def lateness(workload: Workload, mode: Mode) -> float:
    """The largest time by which a request ends after it is due under edf."""
    log = simulate(workload, Cluster(1), "edf", mode)
    return float(max(log.end_time - workload.due(mode)[log.request_id.codes]))


@given(tiny_jobs)
def test_no_order_has_a_smaller_largest_lateness(nodes: list[tuple[int, int]]) -> None:
    """Jackson's rule: all jobs are there at the start."""
    duration, deadline = ([n / 4 for n in column] for column in zip(*nodes, strict=True))
    zeros = [0.0] * len(nodes)
    orders = [ends_of(order, zeros, duration) for order in permutations(range(len(nodes)))]
    best = min(max(ends[job] - deadline[job] for job in ends) for ends in orders)
    assert lateness(jobs(duration, deadline=deadline), "offline") == best


@given(tiny_jobs)
def test_edf_meets_what_can_be_met_with_unit_jobs(nodes: list[tuple[int, int]]) -> None:
    """Jobs of a second that arrive at whole seconds."""
    release, deadline = (list(column) for column in zip(*nodes, strict=True))
    first = min(release)
    release, ones = [r - first for r in release], [1.0] * len(nodes)
    slack = [d / 4 for d in deadline]
    orders = [ends_of(order, release, ones) for order in permutations(range(len(nodes)))]
    assume(any(all(ends[job] <= release[job] + slack[job] for job in ends) for ends in orders))
    assert lateness(jobs(ones, release, slack), "online") <= 0


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("edf", {"horizon": -1.0}, "policy edf: horizon must be between 0 and 1e+09 seconds, not -1; correct the"),
        ("edf", {"horizon": "nan"}, "policy edf: horizon must be between 0 and 1e+09 seconds, not nan"),
        ("edf", {"horizon": "soon"}, "policy edf: option horizon must be a number, not 'soon'"),
        ("edf", {"aging": 1.0}, "policy edf: has no option aging; it has horizon"),
        ("tiered", {"aging": -0.5}, "policy tiered: aging must be between 0 and 1e+09 seconds, not -0.5"),
        ("tiered", {"aging": 2e9}, "policy tiered: aging must be between 0 and 1e+09 seconds, not 2e+09"),
        ("tiered", {"horizon": "inf"}, "policy tiered: horizon must be between 0 and 1e+09 seconds, not inf"),
    ],
)
def test_options_out_of_range_are_refused(policy: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        find_policy(policy, options)
    assert str(caught.value).startswith(message)


def test_the_lowest_tier_is_told_apart_to_the_microsecond() -> None:
    workload = jobs([1.0] * 3, deadline=[30.000002, 30.000001, 30.0], tier=[100, 100, 100])
    assert simulate(workload, Cluster(1), "tiered").request_id.texts() == ["r2", "r1", "r0"]
    assert simulate(replace(workload, tier=[1, 2, 3]), Cluster(1), "tiered").request_id.texts() == ["r0", "r1", "r2"]
