"""Policies with mistakes, or malice: they end in an error, or their schedule is valid; nothing hangs."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import allowed_gangs
from small import staying, tiny
from strategies import RESIDENCIES, Case, cases, deployments, taken

from gsched import core as rules
from gsched.checker import check
from gsched.cluster import Cluster
from gsched.errors import PolicyError
from gsched.policies import Placement, Policy, find_policy
from gsched.simulator import ALARMS, simulate
from gsched.state import Core


class Greedy:
    """Does whatever it is told to."""

    def __init__(self, decision: object) -> None:
        self.decision = decision

    def choose(self, view: object) -> object:
        return self.decision


@pytest.mark.parametrize(
    ("decision", "complaint"),
    [
        ((7, 0), "there is no such model"),
        ((1, 0), "no node of that model is ready"),
        ((0, 2), "no gang of that model may begin at that GPU"),
        ((0, -1), "no gang of that model may begin at that GPU"),
        ((0, 10**6), "no gang of that model may begin at that GPU"),
        ((0, 0), "a GPU of that gang is busy"),
        ((-1, 0), "not None or"),
        (5, "not None or"),
        (("a", 0), "not None or"),
        (None, "waits although 2 nodes are ready"),
    ],
)
def test_core_refuses_what_the_rules_forbid(decision: object, complaint: str) -> None:
    with pytest.raises(PolicyError, match=complaint):
        simulate(tiny({"a": 2, "b": 1}, "ab", count=2), Cluster(3), Greedy(decision))


GARBAGE = [
    None,
    3,
    "ab",
    (0,),
    (0, 0, 0),
    (0.5, 0),
    (0, "1"),
    (None, None),
    ((0, 0), 0),
    [0, 0],
    (True, False),
    object(),
]


class Mad:
    """Decides at random: sensibly, cold wherever it can, or nonsense; and sets alarms of every kind."""

    def __init__(self, case: Case, seed: int, sense: float) -> None:
        self.case, self.sense, self.asked = case, sense, 0
        self.random = random.Random(seed)

    def choose(self, view: Any) -> object:
        self.asked += 1
        assert self.asked < 3 * (ALARMS + 3) * (self.case.workload.node_count + 3)  # it would hang
        alarms = [view.now - 1, view.now, math.nan, math.inf, -math.inf, view.now + 1e-9, view.now + 1.0]
        view.wake_at(self.random.choice(alarms))
        if self.random.random() > self.sense:
            return self.random.choice([*GARBAGE, self.anything()])
        return self.cold(view)

    def anything(self) -> tuple[int, int]:
        models, gpus = len(self.case.workload.models), self.case.cluster.gpus
        return self.random.randrange(-2, models + 2), self.random.randrange(-2, gpus + 2)

    def cold(self, view: Any) -> tuple[int, int] | None:
        """A start that must load if any must, though some gang may be warm."""
        for model in view.waiting():
            gang = view.idle_gang(model)
            if gang is not None and (gang != view.warm_gang(model) or self.random.random() < 0.5):
                return model, gang
        return None


@given(cases(max_requests=5, residencies=RESIDENCIES), st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_mad_policy_ends_in_an_error_or_a_valid_schedule(case: Case, seed: int, sense: float) -> None:
    try:
        log = simulate(case.workload, case.cluster, Mad(case, seed, sense), case.mode)
    except PolicyError:
        return
    assert check(log, *case).violations == ()


def decide_blindly(case: Case, seed: int) -> Policy:
    """A policy that draws a model and a gang with no look at the state, and waits now and then."""
    draw = random.Random(seed)
    pairs = [
        (model, gang[0])
        for model, about in enumerate(case.workload.models)
        for gang in allowed_gangs(case.cluster, about.gpus_required)
    ]

    def choose(core: Core, table: object) -> tuple[int, int]:
        return rules.WAIT if draw.random() < 0.5 else draw.choice(pairs)

    return Policy("blind", choose, place=lambda setting: ())


@given(cases(max_requests=3, residencies=RESIDENCIES), st.integers(0, 2**32))
def test_blind_policy_ends_in_an_error_or_a_valid_schedule(case: Case, seed: int) -> None:
    try:
        log = simulate(case.workload, case.cluster, decide_blindly(case, seed), case.mode)
    except PolicyError:
        return
    assert check(log, *case).violations == ()


@given(cases(max_requests=3).flatmap(deployments), st.integers(0, 2**32))
def test_mad_policy_moves_nothing_of_a_deployment(deployment: tuple[Case, Placement], seed: int) -> None:
    case, placement = deployment
    mad = replace(find_policy(Mad(case, seed, 1.0)), place=lambda setting: placement)
    try:
        log = simulate(case.workload, case.cluster, mad, case.mode)
    except PolicyError:
        return
    assert check(log, *case).violations == ()
    assert set(zip(log.model_name.codes.tolist(), log.gpu_id.tolist(), strict=True)) <= set(placement)


@given(
    cases(max_requests=3).flatmap(deployments),
    st.lists(st.tuples(st.integers(-2, 5), st.integers(-2, 13)), max_size=3),
    st.integers(0, 20),
)
def test_placement_is_refused_or_fits(
    deployment: tuple[Case, Placement], more: list[tuple[int, int]], without: int
) -> None:
    """Placements with pairs that are drawn blindly, or without one that may be needed."""
    case, placement = deployment
    placement = (*placement[:without], *placement[without + 1 :], *more)
    try:
        log = simulate(case.workload, case.cluster, staying(placement), case.mode)
    except PolicyError:
        return
    assert check(log, *case).violations == ()
    assert max(taken(placement, case.workload, case.cluster)) <= case.cluster.gpu_memory_gb * (1 + 1e-8)
    assert len(set(placement)) == len(placement)
