"""What GPUs hold: recounted from the rows after any decisions, and computed by hand."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import ExclusiveMemory, Instance, allowed_gangs, new_memory, placed
from small import staying
from strategies import RESIDENCIES, Case, cases, deployments

from gsched import core as rules
from gsched.checker import check
from gsched.cluster import Cluster, Residency
from gsched.errors import InputError, PolicyError
from gsched.log import Log
from gsched.policies import Placement, Policy
from gsched.simulator import execute, simulate
from gsched.state import FINISHED, NONE, STARTED, Core
from gsched.workload import Config, Model, Node, Workflow, Workload

KINDS = ("warm", "load", "switch")


class Recount:
    """Decides at random, and compares all that the core knows with a recount from the rows, before each decision."""

    def __init__(self, case: Case, placement: Placement, seed: int) -> None:
        self.case, self.placement = case, placement
        self.random = random.Random(seed)
        self.gangs = [allowed_gangs(case.cluster, model.gpus_required) for model in case.workload.models]

    def policy(self) -> Policy:
        return Policy("recount", self.choose, place=lambda setting: self.placement)

    def choose(self, core: Core, table: object) -> tuple[int, int]:
        idle = self.compare(core)
        choices = [
            (model, gang[0])
            for model, gangs in enumerate(self.gangs)
            for gang in gangs
            if rules.backlog(core, model) and idle.issuperset(gang) and self.may_hold(core, model, gang[0])
        ]
        anything_runs = core.count[STARTED] > core.count[FINISHED]
        if not choices or (anything_runs and self.random.random() < 0.3):
            return rules.WAIT
        return self.random.choice(choices)

    def may_hold(self, core: Core, model: int, gang: int) -> bool:
        return not self.placement or rules.holds(core, model, gang)

    def compare(self, core: Core) -> set[int]:
        """Compare everything; return the idle GPUs."""
        rows = self.started(core)
        memory = new_memory(self.case.cluster, placed(self.case.workload, self.placement))
        for row, instance in enumerate(rows):
            assert (KINDS[core.rows.kind[row]], core.rows.switch[row]) == memory.start(instance)
        running = [Instance(*self.instance(core, node, gang)) for gang, node in enumerate(core.running) if node != NONE]
        assert all(instance in memory.held() for instance in running)
        idle = set(range(self.case.cluster.gpus)).difference(*(instance.gang for instance in running))
        self.compare_models(core, memory.held(), idle)
        self.compare_gpus(core, rows, memory)
        return idle

    def instance(self, core: Core, node: int, gang: int) -> tuple[Model, tuple[int, ...]]:
        model = self.case.workload.models[core.graph.model[core.graph.template[node]]]
        return model, tuple(range(gang, gang + model.gpus_required))

    def started(self, core: Core) -> list[Instance]:
        pairs = zip(core.rows.node, core.rows.gang, strict=True)
        return [Instance(*self.instance(core, node, gang)) for node, gang in list(pairs)[: core.count[STARTED]]]

    def compare_models(self, core: Core, held: list[Instance], idle: set[int]) -> None:
        workload = self.case.workload
        gangs = Counter(instance.model.id for instance in held)
        started = set(core.rows.node[: core.count[STARTED]])
        ready = [n for n in range(workload.node_count) if core.ready_time[n] == core.ready_time[n] and n not in started]
        for model, about in enumerate(workload.models):
            mine = [instance.gang for instance in held if instance.model == about]
            assert rules.held_gangs(core, model) == gangs[about.id]
            assert [gang[0] for gang in self.gangs[model] if rules.holds(core, model, gang[0])] == sorted(
                gang[0] for gang in mine
            )
            assert rules.warm_gang(core, model) == min((g[0] for g in mine if idle.issuperset(g)), default=NONE)
            fits = [gang[0] for gang in self.gangs[model] if idle.issuperset(gang)]
            assert rules.idle_gang(core, model) == min(fits, default=NONE)
            waiting = [workload.duration[node] for node in ready if workload.model[node] == model]
            assert rules.backlog(core, model) == len(waiting)
            assert rules.work(core, model) == pytest.approx(sum(waiting), rel=1e-9, abs=1e-9)
            assert waiting or rules.work(core, model) == 0.0

    def compare_gpus(self, core: Core, rows: list[Instance], memory: object) -> None:
        models = self.case.workload.models
        used = [*placed(self.case.workload, self.placement), *rows]
        for gpu in range(self.case.cluster.gpus):
            mine = [row for row, instance in enumerate(rows) if gpu in instance.gang]
            ends = [core.rows.time[row] + core.rows.switch[row] + core.estimate[core.rows.node[row]] for row in mine]
            assert core.gpus.free_at[gpu] == (ends[-1] if ends else 0.0)
            last = next((instance for instance in reversed(used) if gpu in instance.gang), None)
            label = (core.gpus.label_model[gpu], core.gpus.label_gang[gpu])
            if last is None or (last not in memory.held() and not isinstance(memory, ExclusiveMemory)):
                assert label == (NONE, NONE)
            else:
                assert (models[label[0]], label[1]) == (last.model, last.gang[0])
            begun = next((instance for instance in reversed(used) if gpu == instance.gang[0]), None)
            holder = core.gpus.holder[gpu]
            assert (models[holder] if holder != NONE else None) == (begun.model if begun in memory.held() else None)


@given(cases(residencies=RESIDENCIES), st.data(), st.integers(0, 2**32))
def test_state_equals_a_recount_after_any_decisions(case: Case, data: st.DataObject, seed: int) -> None:
    case, placement = data.draw(st.just((case, ())) | deployments(case))
    policy = Recount(case, placement, seed).policy()
    rows = execute(case.workload, case.cluster, policy, case.mode, compile=False)
    assert sorted(rows.node.tolist()) == list(range(case.workload.node_count))


@given(cases(residencies=RESIDENCIES), st.integers(0, 2**32))
def test_any_decisions_that_are_allowed_give_a_valid_schedule(case: Case, seed: int) -> None:
    log = simulate(case.workload, case.cluster, Recount(case, (), seed).policy(), case.mode)
    assert check(log, *case).violations == ()


def sequence(models: dict[str, tuple[float, int]], flow: str) -> Workload:
    """One request for a chain of nodes of a second, each letter a model of so many GB on so many GPUs."""
    nodes = tuple(Node(f"n{i}", id) for i, id in enumerate(flow))
    edges = tuple((i, i + 1) for i in range(len(flow) - 1))
    made = {id: Model(id, memory, size, 5.0) for id, (memory, size) in models.items()}
    config = Config(made, {"w": Workflow("w", nodes, edges)})
    return Workload(config, ["r"], np.zeros(1, np.int32), np.zeros(1, np.int64), np.ones(len(flow)))


def told(workload: Workload, cluster: Cluster, gangs: list[int], placement: Placement = ()) -> Log:
    """The log of a chain whose nodes start on these gangs."""
    models = workload.model.tolist()

    def choose(core: Core, table: object) -> tuple[int, int]:
        row = core.count[STARTED]
        return (models[row], gangs[row]) if row < len(models) and rules.backlog(core, models[row]) else rules.WAIT

    return simulate(workload, cluster, Policy("told", choose, place=lambda setting: placement))


def shared(gpus: int, memory: float, **others: float) -> Cluster:
    return Cluster(gpus, gpu_memory_gb=memory, pcie_bandwidth=1.0, switch_overhead=2.0, residency="shared", **others)


def test_least_recently_used_model_makes_room() -> None:
    log = told(sequence({"a": (10, 1), "b": (10, 1), "c": (10, 1)}, "abacba"), shared(1, 20), [0] * 6)
    # a, b fill the GPU; a is warm; c evicts b; b evicts a, the least recently used; a evicts c
    assert log.switch_time.tolist() == [5, 5, 0, 22, 22, 22]
    assert (log.summary["total_model_loads"], log.summary["total_model_switches"]) == (2, 3)


def test_everything_evicted_for_a_start_is_paid_by_the_gpus_it_leaves() -> None:
    models = {"a": (10, 1), "b": (20, 2), "c": (40, 1)}
    log = told(sequence(models, "abcb"), shared(2, 40), [0, 0, 0, 0])
    # c evicts a (10 GB), then b (20 GB), from both GPUs; b evicts c, and is loaded onto GPU 1, which is free
    assert log.switch_time.tolist() == [5, 5, 72, 62]


def test_gang_is_evicted_whole() -> None:
    models = {"a": (20, 2), "b": (10, 1), "c": (10, 1)}
    log = told(sequence(models, "abca"), shared(2, 10), [0, 0, 1, 0])
    # b evicts a from both GPUs, so that c finds GPU 1 free; a evicts b and c, one on each GPU
    assert log.switch_time.tolist() == [5, 32, 5, 32]
    assert log.summary["total_model_switches"] == 2


def test_eviction_on_one_gpu_makes_room_on_the_next() -> None:
    models = {"a": (20, 2), "b": (20, 1), "c": (40, 2)}
    log = told(sequence(models, "abac"), shared(2, 30), [0, 1, 0, 0])
    # GPU 0 holds a (10), GPU 1 a and b (10 + 20); c needs 20 on each: GPU 0 has room, GPU 1 evicts b, then fits
    assert log.switch_time.tolist() == [5, 5, 0, 62]
    log = told(sequence(models, "bac"), shared(2, 25), [1, 0, 0])
    # a evicts b; c needs 20 on each: GPU 0 evicts a from both, then GPU 1 has room
    assert log.switch_time.tolist() == [5, 42, 62]


def test_gangs_of_one_model_may_overlap() -> None:
    log = told(sequence({"a": (20, 2)}, "aaaa"), shared(3, 20), [0, 1, 0, 1])
    assert log.switch_time.tolist() == [5, 5, 0, 0]


def test_memory_fits_up_to_rounding() -> None:
    """0.1 + 0.2 is a bit more than 0.3."""
    log = told(sequence({"a": (0.1, 1), "b": (0.2, 1)}, "aba"), shared(1, 0.3), [0] * 3)
    assert log.summary["total_model_switches"] == 0
    log = told(sequence({"a": (0.1, 1), "b": (0.2, 1)}, "aba"), shared(1, 0.2999), [0] * 3)
    assert log.summary["total_model_switches"] == 2


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_placed_models_are_warm_and_stay(residency: Residency) -> None:
    workload, cluster = sequence({"a": (10, 1), "b": (20, 2)}, "abab"), replace(shared(2, 30), residency=residency)
    log = told(workload, cluster, [1, 0, 0, 0], ((1, 0), (0, 1), (0, 0)))
    assert log.switch_time.tolist() == [0] * 4
    assert log.extra["placement"][0] == {"model": "b", "gpu_ids": [0, 1]}
    refused = "models of a deployment stay where they are, and that gang does not hold it"
    with pytest.raises(PolicyError, match=refused):  # though there is room for it
        told(workload, cluster, [0, 0], ((1, 0), (0, 1)))


@pytest.mark.parametrize(
    ("placement", "complaint"),
    [
        (((0, 3),), "places model a at GPU 3, where no gang of it may begin"),
        (((0, -1),), "places model a at GPU -1, where no gang of it may begin"),
        (((0, 0), (0, 0)), "places model a twice at GPU 0"),
        (((1, 1), (0, 0), (0, 1)), "places model a where it does not fit, GPU 1 would hold 30 GB of 20"),
        (((1, 0), (2, 0)), "places model c where it does not fit, GPU 0 would hold 20.001 GB of 20"),
        (((3, 0),), r"its placement holds \(3, 0\), no pair \(model, first GPU\)"),
        (((-1, 0),), r"its placement holds \(-1, 0\), no pair"),
        ((0,), "its placement holds 0, no pair"),
        (((0, 0), (2, 2)), "places no instance of model b, which requests need"),
        ((("a", 0),), r"its placement holds \('a', 0\), no pair"),
        (((0, 0, 0),), "its placement holds .*, no pair"),
    ],
)
def test_placement_against_the_rules_is_refused(placement: object, complaint: str) -> None:
    policy = staying(placement, "bad")  # type: ignore[arg-type]
    workload = sequence({"a": (20, 2), "b": (10, 1), "c": (10.001, 1)}, "ab")
    with pytest.raises(PolicyError, match=f"policy bad: {complaint}"):
        simulate(workload, Cluster(4, gpu_memory_gb=20.0), policy)


def test_model_that_no_gpu_has_the_memory_for_is_refused() -> None:
    workload = sequence({"a": (90, 2), "b": (50, 1), "c": (100, 1), "d": (1, 1)}, "ab")
    message = (
        "model a: needs 45 GB per GPU, GPUs have 40; "
        "raise gpu_memory_gb or the model's gpus_required, or use exclusive residency"
    )
    with pytest.raises(InputError) as raised:
        simulate(workload, shared(2, 40))
    assert str(raised.value.problems[0]) == message
    assert len(raised.value.problems) == 2  # of b too, but not of c, which nobody uses
    assert simulate(workload, replace(shared(2, 40), residency="exclusive")).summary["completed_requests"] == 1
