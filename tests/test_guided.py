"""Guided dispatch: any knobs give a valid schedule, nobody starves, and reservations hold what they promise."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import tiny
from strategies import RESIDENCIES, Case, cases

from gsched.checker import check
from gsched.cluster import Cluster
from gsched.core import is_idle
from gsched.log import Log
from gsched.policies import Policy, Setting, guided
from gsched.policies.guided import BALANCE, DRAIN, MAX_WAIT, MODEL, RESIDENCY, VALUES, WAITING, Knobs
from gsched.simulator import execute, simulate
from gsched.state import Core
from gsched.workload import Config, Model, Node, Workflow, Workload

_max_waits = st.sampled_from([0.0, 0.5, 3.0]) | st.floats(0, 100)
_amounts = st.sampled_from([0.0, 0.1, 1.0, 3.0, 1000.0]) | st.floats(0, 10)


@dataclass(frozen=True)
class Choice:
    """Values of knobs, the same for all models; the rest is neutral."""

    value: dict[int, float] = field(default_factory=dict)
    threshold: float = 1.0
    weight: float = 1.0
    reserve: float = 1.0
    limit: int = 1000
    stride: int = 0

    def knobs(self, setting: Setting) -> Knobs:
        knobs = guided.neutral_knobs(setting)
        knobs.threshold[:], knobs.weight[:] = self.threshold, self.weight
        knobs.reserve[:], knobs.limit[:] = self.reserve, self.limit
        if self.stride:
            knobs.stride[:] = self.stride
        for position, value in self.value.items():
            knobs.value[position] = value
        return knobs

    def policy(self) -> Policy:
        return Policy("guided", guided.choose, guided.order, self.knobs, compilable=True)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    value = {position: draw(_amounts) for position in range(VALUES)}
    value[MAX_WAIT] = draw(_max_waits | st.just(np.inf))
    return Choice(
        value, draw(_amounts), draw(_amounts), draw(_amounts), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    )


@given(cases(residencies=RESIDENCIES), choices())
def test_any_knobs_give_a_complete_valid_schedule(case: Case, choice: Choice) -> None:
    log = simulate(case.workload, case.cluster, choice.policy(), case.mode)
    assert len(log.start_time) == case.workload.node_count
    assert check(log, *case).violations == ()


@given(cases(residencies=RESIDENCIES), choices())
@settings(max_examples=25)
def test_any_knobs_give_the_same_compiled(case: Case, choice: Choice) -> None:
    compiled = execute(case.workload, case.cluster, choice.policy(), case.mode, compile=True)
    interpreted = execute(case.workload, case.cluster, choice.policy(), case.mode, compile=False)
    assert [column.tolist() for column in compiled] == [column.tolist() for column in interpreted]


def longest_gap(log: Log, model: str) -> float:
    """The most seconds that ready nodes of a model went without one of them starting."""
    mine = np.array(log.model_name.texts()) == model
    ready, start = np.sort(log.ready_time[mine]), np.sort((log.ready_time + log.waiting_time)[mine])
    # Before the i-th start, i nodes have started; its queue has not been empty since the i-th node became ready.
    since = np.maximum(np.concatenate([[-np.inf], start[:-1]]), ready)
    return float((start - since).max(initial=0.0))


def assert_nobody_starves(log: Log, models: int, max_wait: float) -> None:
    longest = (log.switch_time + log.execution_time).max()
    bound = max_wait + (models + 1) * longest
    for model in log.model_name.values:
        assert longest_gap(log, model) <= bound * (1 + 1e-9) + 1e-6, model


@given(cases(residencies=RESIDENCIES), choices(), _max_waits)
def test_no_model_waits_longer_than_the_bound(case: Case, choice: Choice, max_wait: float) -> None:
    choice.value[MAX_WAIT] = max_wait
    log = simulate(case.workload, case.cluster, choice.policy(), case.mode)
    assert_nobody_starves(log, len(case.workload.models), max_wait)


def stream(sizes: list[int], gaps: list[float], durations: list[float], until: float) -> Workload:
    """Single-node requests: for each model, one every so many seconds."""
    models = {f"m{i}": Model(f"m{i}", 8.0 * size, size, 5.0) for i, size in enumerate(sizes)}
    flows = {f"w{i}": Workflow(f"w{i}", (Node("n", f"m{i}"),)) for i in range(len(sizes))}
    arrivals = [(t, i) for i, gap in enumerate(gaps) for t in np.arange(0.0, until, gap).tolist()]
    time, flow = (np.array(column) for column in zip(*sorted(arrivals), strict=True))
    return Workload(
        Config(models, flows),
        [f"r{i}" for i in range(len(time))],
        flow.astype(np.int32),
        (time * 1e9).astype(np.int64),
        np.array(durations)[flow],
    )


STREAMS = {
    "endless single GPUs": stream([1, 4, 8], [0.5, 100.0, 150.0], [5.0, 20.0, 30.0], 600.0),
    "several wide sizes": stream([1, 2, 4, 6, 8], [1.0, 8.0, 20.0, 30.0, 40.0], [5.0, 8.0, 9.0, 10.0, 12.0], 600.0),
    "more models than GPUs": stream([1] * 12, [3.0] * 12, [4.0] * 12, 300.0),
    "two that alternate": stream([8, 8], [2.0, 2.0], [3.0, 3.0], 200.0),
}


@pytest.mark.parametrize("residency", RESIDENCIES)
@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("max_wait", [0.0, 50.0])
def test_nobody_starves_in_adversarial_streams(name: str, residency: str, max_wait: float) -> None:
    """Nothing is ever worth a switch here, so that only the cap on waiting helps."""
    workload, cluster = STREAMS[name], Cluster(8, residency=residency, gpu_memory_gb=20.0)
    choice = Choice({MAX_WAIT: max_wait}, threshold=1e9)
    log = simulate(workload, cluster, choice.policy(), "online")
    assert check(log, workload, cluster, "online").valid
    assert_nobody_starves(log, len(workload.models), max_wait)


class Watched:
    """Guided dispatch that records its reservations, and what starts on reserved GPUs."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.promised: float | None = None
        self.kept: list[tuple[float, float]] = []  # when the gang was promised its GPUs, and got them
        self.late: list[float] = []  # ends of backfilled nodes, after that time

    def choose(self, core: Core, knobs: Knobs) -> tuple[int, int]:
        before = tuple(knobs.reserved)
        model, gang = guided.choose(core, knobs)
        first, end, owner = before
        if self.promised is not None and model >= 0:
            if (model, gang) == (owner, first) and knobs.reserved[guided.END] == 0:
                self.kept.append((self.promised, core.now[0]))
            elif tuple(knobs.reserved) == before and gang < end and gang + core.models.gpus[model] > first:
                finished = core.now[0] + core.estimate[guided.head_node(core, model)]
                self.late += [finished] if finished > self.promised else []
        if knobs.reserved[guided.END] == 0:
            self.promised = None
        elif tuple(knobs.reserved) != before:
            run = range(knobs.reserved[guided.FIRST], knobs.reserved[guided.END])
            busy = [core.gpus.free_at[gpu] for gpu in run if not is_idle(core, gpu)]
            assert len(run) == core.models.gpus[knobs.reserved[MODEL]]
            self.promised = max(busy)
        return model, gang

    def run(self, workload: Workload, cluster: Cluster) -> Log:
        return simulate(workload, cluster, Policy("watched", self.choose, guided.order, self.choice.knobs), "online")


@given(cases(residencies=RESIDENCIES), choices())
def test_reserved_gangs_get_their_gpus_when_promised(case: Case, choice: Choice) -> None:
    """Backfilled nodes never delay them, and GPUs are not kept idle for longer."""
    watched = Watched(choice)
    watched.run(case.workload, case.cluster)
    assert all(got == promised for promised, got in watched.kept)
    assert watched.late == []


@pytest.mark.parametrize("name", ["endless single GPUs", "several wide sizes", "more models than GPUs"])
def test_reservations_are_kept_in_adversarial_streams(name: str) -> None:
    watched = Watched(Choice({MAX_WAIT: 30.0, DRAIN: 1.0, BALANCE: 1.0, WAITING: 0.5}, reserve=2.0))
    watched.run(STREAMS[name], Cluster(8))
    assert watched.kept
    assert all(got == promised for promised, got in watched.kept)
    assert watched.late == []


def test_what_ends_in_time_is_backfilled() -> None:
    """GPU 0 is busy until 25; a gang is reserved; of GPU 1's nodes, only those that end by 25 still start before it."""
    sizes, names = {"a": 1, "b": 1, "c": 2}, "abc"
    models = {id: Model(id, 16.0, size, 5.0) for id, size in sizes.items()}
    flows = {id: Workflow(id, (Node("n", id),)) for id in names}
    #           a: GPU 1, 5 + 20 = 25   b: GPU 0, 5 + 1 = 6; then at 7 c, and of b: 8 to 14, 15 to 25, 16 (too late)
    requests = [
        ("a", 0.0, 20.0),
        ("b", 0.0, 1.0),
        ("c", 7.0, 5.0),
        ("b", 8.0, 6.0),
        ("b", 15.0, 10.0),
        ("b", 16.0, 1.0),
    ]
    workload = Workload(
        Config(models, flows),
        [f"r{i}" for i in range(len(requests))],
        np.array([names.index(id) for id, _, _ in requests], np.int32),
        np.array([int(time * 1e9) for _, time, _ in requests], np.int64),
        np.array([duration for _, _, duration in requests]),
    )
    log = simulate(workload, Cluster(2), Choice(threshold=0.0).policy(), "online")
    decided = dict(zip(log.request_id.texts(), (log.ready_time + log.waiting_time).tolist(), strict=True))
    assert decided == {"r0": 0.0, "r1": 0.0, "r2": 25.0, "r3": 8.0, "r4": 15.0, "r5": decided["r5"]}
    assert decided["r5"] > 25.0


def test_residency_keeps_models_for_a_while() -> None:
    workload = stream([1, 1, 1], [2.0, 2.0, 2.0], [1.0, 1.0, 1.0], 200.0)
    choice = Choice({RESIDENCY: 30.0, MAX_WAIT: np.inf}, threshold=0.0)
    log = simulate(workload, Cluster(2), choice.policy(), "online")
    decided, loads = log.ready_time + log.waiting_time, log.switch_time > 0
    gaps = [np.diff(decided[loads & (log.gpu_id == gpu)]) for gpu in (0, 1)]
    assert min(map(len, gaps)) > 3
    assert min(gap.min() for gap in gaps) >= 30.0
    without = simulate(workload, Cluster(2), Choice({MAX_WAIT: np.inf}, threshold=0.0).policy(), "online")
    assert (without.switch_time > 0).sum() > 2 * loads.sum()


def test_a_switch_must_be_worth_its_cost() -> None:
    """GPU 1 is empty: b is loaded, which takes 5 s, when its ready work is worth it: one node of 5 s, or two."""
    models = {"a": Model("a", 16.0, 1, 5.0), "b": Model("b", 16.0, 1, 5.0)}
    flows = {id: Workflow(id, (Node("n", id),)) for id in "ab"}
    starts = {}
    for threshold in (1.0, 1.5):
        workload = Workload(
            Config(models, flows),
            [f"r{i}" for i in range(4)],
            np.array([0, 0, 1, 1], np.int32),
            np.array([0, 0, 1, 20], np.int64) * 10**9,
            np.array([1.0, 30.0, 5.0, 5.0]),
        )
        log = simulate(workload, Cluster(2), Choice({MAX_WAIT: np.inf}, threshold, limit=1).policy(), "online")
        decided = dict(zip(log.request_id.texts(), (log.ready_time + log.waiting_time).tolist(), strict=True))
        starts[threshold] = decided["r2"]
    assert starts == {1.0: 1.0, 1.5: 20.0}


def test_gangs_and_single_gpus_keep_apart() -> None:
    workload = tiny({"a": 1, "b": 2}, "ab", count=2, duration=30.0)
    log = simulate(workload, Cluster(6), Choice().policy())
    gangs = dict(zip(log.model_name.texts(), log.gpu_id.tolist(), strict=True))
    assert gangs["a"] >= 4
    assert gangs["b"] < 4


def test_a_model_that_had_nothing_to_do_has_not_starved() -> None:
    """A switch is never worth it; b waits 50 s for its GPU, each time anew."""
    workload = stream([1, 1], [1.0, 300.0], [2.0, 1.0], 500.0)
    log = simulate(workload, Cluster(1), Choice({MAX_WAIT: 50.0}, threshold=1e9).policy(), "online")
    waited = log.waiting_time[np.array(log.model_name.texts()) == "m1"]
    assert ((waited >= 50.0) & (waited <= 53.0)).all()


def test_the_starved_are_served_in_time_though_nothing_happens() -> None:
    """GPU 0 is busy for long; loading GPU 1 is never worth it, neither for another a nor for b, which comes at 10."""
    models = {id: Model(id, 16.0, 1, 5.0) for id in "ab"}
    workload = Workload(
        Config(models, {id: Workflow(id, (Node("n", id),)) for id in "ab"}),
        ["long", "short", "starved"],
        np.array([0, 0, 1], np.int32),
        np.array([0, 0, 10], np.int64) * 10**9,
        np.array([1000.0, 1.0, 1.0]),
    )
    log = simulate(workload, Cluster(2), Choice({MAX_WAIT: 50.0}, threshold=1e9).policy(), "online")
    assert log.waiting_time.tolist() == [0.0, 50.0, 50.0]
