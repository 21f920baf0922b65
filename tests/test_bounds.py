"""No schedule beats a bound, and simple cases reach it."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import allowed_gangs, simulate_slowly
from strategies import RESIDENCIES, Case, cases, clusters, configs

from gsched.bounds import Bounds, fluid, lower_bounds
from gsched.bounds.capacity import LoadCosts, gangs_at_once, usable_gpus
from gsched.bounds.fluid import fluid_gain
from gsched.cluster import Cluster, Residency
from gsched.workload import Config, Mode, Model, Node, Workflow, Workload

TINY_NODES = 5


# ---- no schedule is better than a bound ----


@given(cases(residencies=RESIDENCIES))
@settings(max_examples=400, deadline=None)
def test_the_baseline_never_beats_a_bound(case: Case) -> None:
    summary = simulate_slowly(*case).summary
    bounds = lower_bounds(*case)
    for bound in bounds.all_makespan:
        assert bound.value <= summary["makespan"], bound
    for bound in bounds.all_mean:
        assert bound.value <= summary["average_request_time"], bound


@st.composite
def tiny_cases(draw: st.DrawFn, residency: Residency = "exclusive") -> Case:
    """Cases small enough to try every schedule."""
    cluster = draw(clusters(max_gpus=4))
    config = draw(configs(cluster.gpus, max_models=3, max_nodes=3))
    flows = list(config.workflows.values())
    chosen, nodes = [], 0
    for flow in draw(st.lists(st.integers(0, len(flows) - 1), min_size=1, max_size=TINY_NODES)):
        if nodes + len(flows[flow].nodes) <= TINY_NODES:
            chosen.append(flow)
            nodes += len(flows[flow].nodes)
    assume(chosen)
    seconds = st.integers(0, 20).map(lambda n: n / 4)
    durations = draw(st.lists(seconds, min_size=nodes, max_size=nodes))
    arrivals = draw(st.lists(seconds, min_size=len(chosen), max_size=len(chosen)))
    mode: Mode = draw(st.sampled_from(["offline", "online"]))
    workload = _workload(config, chosen, durations, arrivals)
    shares = sorted((model.memory_gb / model.gpus_required for model in workload.models), reverse=True)
    memory = max(sum(shares[: draw(st.integers(1, 3))]), 1e-3)  # for one model, for two or for all
    return Case(workload, replace(cluster, residency=residency, gpu_memory_gb=memory), mode)


@given(tiny_cases() | tiny_cases("shared"))
@settings(max_examples=400, deadline=None)
def test_the_best_schedule_never_beats_a_bound(case: Case) -> None:
    makespan, latency = best_schedules(*case)
    bounds = lower_bounds(*case)
    for bound in bounds.all_makespan:
        assert bound.value <= makespan, bound
    for bound in bounds.all_mean:
        assert bound.value <= latency, bound


@given(tiny_cases())
@settings(max_examples=100, deadline=None)
def test_preloaded_models_never_beat_their_bounds(case: Case) -> None:
    makespan, latency = best_schedules(*case, preloaded=True)
    bounds = lower_bounds(*case, preloaded=True)
    assert bounds.makespan.value <= makespan
    assert bounds.mean_latency.value <= latency


def best_schedules(workload: Workload, cluster: Cluster, mode: Mode, preloaded: bool = False) -> tuple[float, float]:
    """Return the least makespan and the least mean latency of all schedules.

    Starting earlier never costs more: switch costs depend on the order of the decisions alone, and both objectives
    only fall with earlier ends. So it is enough to try each order of the nodes (parents first) with each choice of
    gangs, and to start each node as early as the nodes before it in the order allow, but not before them.
    """
    return _Search(workload, cluster, mode, preloaded).run()


class _Search:
    def __init__(self, workload: Workload, cluster: Cluster, mode: Mode, preloaded: bool) -> None:
        flows = workload.workflows
        self.duration = workload.duration.tolist()
        self.request = workload.request.tolist()
        self.arrival = workload.arrival(mode).tolist()
        first = workload.first_node.tolist()
        self.parents = [
            [first[r] + parent for parent in parents]
            for r, flow in enumerate(workload.workflow.tolist())
            for parents in flows[flow].parents
        ]
        self.models = [workload.models[m] for m in workload.model.tolist()]
        self.gangs = {m.id: allowed_gangs(cluster, m.gpus_required) for m in self.models}
        self.cluster, self.preloaded = cluster, preloaded
        self.makespan = self.latency = math.inf

    def run(self) -> tuple[float, float]:
        gpus = self.cluster.gpus
        self._extend({}, 0.0, (0.0,) * gpus, () if self.cluster.residency == "shared" else (None,) * gpus)
        return self.makespan, self.latency

    def _extend(self, ends: dict[int, float], now: float, free: tuple[float, ...], held: tuple[Any, ...]) -> None:
        makespan, latency = self._values(ends)
        if makespan >= self.makespan and latency >= self.latency:
            return
        if len(ends) == len(self.duration):
            self.makespan, self.latency = min(makespan, self.makespan), min(latency, self.latency)
            return
        for node, model in enumerate(self.models):
            if node in ends or any(parent not in ends for parent in self.parents[node]):
                continue
            ready = max([now, self.arrival[self.request[node]], *(ends[parent] for parent in self.parents[node])])
            for gang in self.gangs[model.id]:
                switch, then = self._load(held, model, gang)
                begin = max(ready, *(free[gpu] for gpu in gang))
                end = begin + switch + self.duration[node]
                after = tuple(end if gpu in gang else value for gpu, value in enumerate(free))
                self._extend({**ends, node: end}, begin, after, then)

    def _load(self, held: tuple[Any, ...], model: Model, gang: list[int]) -> tuple[float, tuple[Any, ...]]:
        """Return what loading takes and what is held then: instances, the last used last, or a label for each GPU."""
        if self.preloaded:
            return 0.0, held
        if self.cluster.residency == "shared":
            return self._make_room(held, (model, tuple(gang)))
        label = (model, gang[0])
        switch = max(0.0 if held[gpu] == label else self._cost(model, [held[gpu]] if held[gpu] else []) for gpu in gang)
        return switch, tuple(label if gpu in gang else value for gpu, value in enumerate(held))

    def _make_room(self, held: tuple[Any, ...], new: tuple[Model, tuple[int, ...]]) -> tuple[float, tuple[Any, ...]]:
        model, gang = new
        if new in held:
            return 0.0, (*(one for one in held if one != new), new)
        kept, evicted = list(held), []
        for gpu in gang:
            while (here := [one for one in kept if gpu in one[1]]) and not self._fits([*here, new]):
                kept.remove(here[0])
                evicted.append(here[0])
        return max(self._cost(model, [one for one in evicted if gpu in one[1]]) for gpu in gang), (*kept, new)

    def _fits(self, instances: list[tuple[Model, tuple[int, ...]]]) -> bool:
        shares = sum(model.memory_gb / model.gpus_required for model, _ in instances)
        return shares <= self.cluster.gpu_memory_gb * (1 + 1e-9)

    def _values(self, ends: dict[int, float]) -> tuple[float, float]:
        done = list(self.arrival)
        for node, end in ends.items():
            done[self.request[node]] = max(done[self.request[node]], end)
        latencies = [end - arrival for end, arrival in zip(done, self.arrival, strict=True)]
        return max(ends.values(), default=0.0), sum(latencies) / len(latencies)

    def _cost(self, new: Model, old: list[tuple[Model, Any]]) -> float:
        """Return what loading a model takes on a GPU that others leave."""
        if not old and new.load_time_seconds is not None:
            return new.load_time_seconds
        memory = new.memory_gb + sum(model.memory_gb for model, _ in old)
        return memory / self.cluster.pcie_bandwidth + self.cluster.switch_overhead


# ---- simple cases reach the bound ----


def _workload(config: Config, chosen: list[int], durations: list[float], arrivals: list[float]) -> Workload:
    return Workload(
        config,
        [f"r{i}" for i in range(len(chosen))],
        np.array(chosen, np.int32),
        np.array([round(a * 1e9) for a in arrivals], np.int64),
        np.array(durations, np.float64),
    )


def _chains(models: list[Model], flows: list[str], requests: list[tuple[int, float, list[float]]]) -> Workload:
    """Return a workload of chains: `flows` like "ab" (by model id), requests as (flow, arrival, durations)."""
    workflows = {
        flow: Workflow(flow, tuple(Node(str(i), m) for i, m in enumerate(flow)), tuple(pairwise(range(len(flow)))))
        for flow in flows
    }
    config = Config({model.id: model for model in models}, workflows)
    return _workload(
        config, [r[0] for r in requests], [d for r in requests for d in r[2]], [arrival for _, arrival, _ in requests]
    )


def _alone(model: Model, durations: list[float], arrivals: list[float] | None = None) -> Workload:
    arrivals = arrivals or [0.0] * len(durations)
    return _chains([model], [model.id], [(0, a, [d]) for a, d in zip(arrivals, durations, strict=True)])


def _reached(workload: Workload, cluster: Cluster, mode: Mode = "offline") -> Bounds:
    """Return the bounds, having seen that the best schedules are no worse."""
    bounds = lower_bounds(workload, cluster, mode)
    makespan, latency = best_schedules(workload, cluster, mode)
    assert bounds.makespan.value == pytest.approx(makespan, rel=1e-8)
    assert bounds.mean_latency.value == pytest.approx(latency, rel=1e-8)
    return bounds


def test_chain_alone_waits_for_both_first_loads() -> None:
    models = [Model("a", 10, load_time_seconds=3), Model("b", 10, load_time_seconds=2)]
    bounds = _reached(_chains(models, ["ab"], [(0, 0.0, [5.0, 7.0])]), Cluster(2))
    assert bounds.makespan.name == bounds.mean_latency.name == "critical path"
    assert bounds.makespan.value == pytest.approx(3 + 5 + 2 + 7)


def test_a_model_that_is_slow_to_load_waits_for_another_to_replace() -> None:
    models = [Model("a", 16, load_time_seconds=1), Model("b", 16, load_time_seconds=100)]
    bounds = _reached(_chains(models, ["a", "b"], [(0, 0, [10.0]), (1, 0, [5.0])]), Cluster(2))
    assert bounds.makespan.name == bounds.mean_latency.name == "critical path"
    assert bounds.makespan.value == pytest.approx(1 + 10 + 4 + 5)


def test_equal_jobs_fill_the_gpus_and_each_gpu_loads_once() -> None:
    bounds = _reached(_alone(Model("a", 10, load_time_seconds=3), [5.0] * 4), Cluster(2))
    assert bounds.makespan.name == bounds.mean_latency.name == "GPU time"
    assert bounds.makespan.value == pytest.approx(3 + 20 / 2)
    assert bounds.mean_latency.value == pytest.approx((8 + 8 + 13 + 13) / 4)


def test_shortest_job_goes_first_on_one_gpu() -> None:
    bounds = _reached(_alone(Model("a", 10, load_time_seconds=1), [4.0, 1.0, 2.0]), Cluster(1))
    assert bounds.mean_latency.value == pytest.approx((2 + 4 + 8) / 3)


def test_gangs_that_do_not_fit_side_by_side_run_one_after_another() -> None:
    big, small = Model("a", 60, 4, 4.0), Model("b", 8, 1, 1.0)
    bounds = _reached(_chains([big, small], ["a", "b"], [(0, 0, [10.0]), (0, 0, [20.0]), (1, 0, [1.0])]), Cluster(6))
    assert bounds.makespan.name == bounds.mean_latency.name == "model a"
    assert bounds.makespan.value == pytest.approx(4 + 10 + 20)
    assert bounds.mean_latency.value == pytest.approx((14 + 34 + 2) / 3)


def test_models_that_each_need_more_than_half_share_one_place() -> None:
    models = [Model("a", 16, 4, 4.0), Model("b", 16, 5, 4.0)]
    workload = _chains(models, ["a", "b"], [(0, 0, [10.0]), (1, 0, [20.0])])
    bounds = lower_bounds(workload, Cluster(7), "offline")
    assert best_schedules(workload, Cluster(7), "offline")[0] == 38
    assert bounds.makespan.name == "gangs of 4 GPUs or more"
    assert bounds.makespan.value == pytest.approx(4 + 10 + 4 + 20)


def test_mean_latency_of_wide_models() -> None:
    models = [Model("a", 0, 4, 0.0), Model("b", 0, 5, 0.0)]
    workload = _chains(models, ["a", "b"], [(0, 0, [10.0]), (1, 0, [20.0])])
    bounds = _reached(workload, Cluster(7, switch_overhead=0))
    assert bounds.mean_latency.name == "gangs of 4 GPUs or more"
    assert bounds.mean_latency.value == pytest.approx((10 + 30) / 2)


def test_gpus_that_no_gang_can_fill_do_not_count() -> None:
    models = [Model("a", 0, 4, 0.0), Model("b", 0, 2, 0.0)]
    workload = _chains(models, ["a", "b"], [(0, 0, [10.0]), (1, 0, [10.0]), (1, 0, [10.0])])
    cluster = Cluster(5, switch_overhead=0)
    bounds = lower_bounds(workload, cluster, "offline")
    assert bounds.makespan.name == "GPU time"
    assert bounds.makespan.value == pytest.approx((40 + 20 + 20) / 4)
    assert best_schedules(workload, cluster, "offline")[0] == 20


def test_requests_that_arrive_late_still_take_their_time() -> None:
    workload = _alone(Model("a", 10, load_time_seconds=2), [1.0, 5.0, 5.0, 5.0], [0.0, 100.0, 100.0, 100.0])
    bounds = _reached(workload, Cluster(1), "online")
    assert bounds.makespan.name in ("GPU time", "model a")
    assert bounds.makespan.value == pytest.approx(100 + 15)
    assert bounds.mean_latency.value == pytest.approx((3 + 5 + 10 + 15) / 4)


def test_each_busy_period_counts_for_itself() -> None:
    """Four requests wait for two GPUs; a later one, a chain, has them to itself and takes its critical path."""
    workload = _chains(
        [Model("a", 0, load_time_seconds=0)], ["a", "aaa"], [(0, 0, [1.0])] * 4 + [(1, 50, [1.0, 1.0, 1.0])]
    )
    bounds = lower_bounds(workload, Cluster(2, switch_overhead=0), "online")
    assert bounds.mean_latency.name == "GPU time"
    assert bounds.mean_latency.value == pytest.approx((1 + 1 + 2 + 2 + 3) / 5)


def test_a_request_ends_no_earlier_than_the_tail_after_its_bottleneck() -> None:
    models = [Model("a", 0, 2, 0.0), Model("b", 0, 1, 0.0)]
    workload = _chains(models, ["ab"], [(0, 0, [10.0, 4.0]), (0, 0, [10.0, 4.0])])
    bounds = lower_bounds(workload, Cluster(3, switch_overhead=0), "offline")
    assert bounds.makespan.name == bounds.mean_latency.name == "model a"
    assert bounds.makespan.value == pytest.approx(10 + 10 + 4)
    assert bounds.mean_latency.value == pytest.approx((14 + 24) / 2)


def test_only_the_least_tail_is_certain() -> None:
    models = [Model("a", 0, 2, 0.0), Model("b", 0, 1, 0.0)]
    workload = _chains(models, ["ab", "a"], [(0, 0, [10.0, 4.0]), (1, 5, [10.0])])
    bounds = _reached(workload, Cluster(3, switch_overhead=0), "online")
    assert bounds.makespan.value == pytest.approx(10 + 10)
    assert bounds.mean_latency.value == pytest.approx((14 + 15) / 2)


def test_parallel_nodes_of_a_request_share_one_place() -> None:
    flow = Workflow("w", (Node("0", "a"), Node("1", "a")))
    workload = _workload(Config({"a": Model("a", 0, 4, 0.0)}, {"w": flow}), [0], [10.0, 10.0], [0.0])
    bounds = _reached(workload, Cluster(6))
    assert (bounds.makespan.value, bounds.mean_latency.value) == pytest.approx((20, 20))


def test_the_least_remaining_work_goes_first() -> None:
    """The long job is preempted when it has less left than the next one needs, so it ends first after all."""
    workload = _alone(Model("a", 0, load_time_seconds=0), [10.0, 4.0], [0.0, 7.0])
    bounds = _reached(workload, Cluster(1, switch_overhead=0), "online")
    assert bounds.mean_latency.value == pytest.approx((10 + 7) / 2)


SHARED = Cluster(1, None, 40.0, residency="shared")


def test_models_that_share_a_gpu_are_loaded_once_each() -> None:
    """Load times are above what replacing would take; on a GPU with room for both, they are paid all the same."""
    models = [Model("a", 16, load_time_seconds=3), Model("b", 16, load_time_seconds=3)]
    workload = _chains(models, ["ab"], [(0, 0.0, [5.0, 7.0]), (0, 50.0, [5.0, 7.0])])
    bounds = _reached(workload, SHARED, "online")
    assert bounds.makespan.value == pytest.approx(50 + 5 + 7)
    assert bounds.mean_latency.value == pytest.approx((3 + 5 + 3 + 7 + 5 + 7) / 2)


def test_a_first_load_onto_shared_gpus_may_replace() -> None:
    """Without room for both, replacing takes (32 + 8) / 16 + 2 s, less than loading onto free memory."""
    models = [Model("a", 32, load_time_seconds=1), Model("b", 32, load_time_seconds=100)]
    workload = _chains(models, ["a", "b"], [(0, 0, [10.0]), (1, 0, [5.0])])
    bounds = _reached(workload, replace(SHARED, gpus=2))
    assert bounds.makespan.value == pytest.approx(1 + 10 + 6 + 5)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_gpus_beyond_the_models_are_loaded_with_the_quickest(residency: Residency) -> None:
    """Each of three GPUs loads the quick model; the slow one replaces it once, for (4 + 4) / 16 + 2 s."""
    models = [Model("a", 4, load_time_seconds=1), Model("b", 4, load_time_seconds=100)]
    workload = _chains(models, ["a", "b"], [(0, 0, [100.0])] * 3 + [(1, 0, [0.0])])
    cluster = Cluster(3, None, 4.0, residency=residency)
    bounds = lower_bounds(workload, cluster, "offline")
    assert bounds.makespan.value == pytest.approx((300 + 1 + 2.5 + 1) / 3)
    assert best_schedules(workload, cluster, "offline")[0] == pytest.approx(1 + 100 + 2.5)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_further_gangs_may_be_loaded_in_place_of_others(residency: Residency) -> None:
    """Both GPUs load the quick model first; replacing it takes 2.5 s, loading onto an empty GPU 100 s."""
    models = [Model("a", 4, load_time_seconds=100), Model("b", 4, load_time_seconds=1)]
    workload = _chains(models, ["a", "b"], [(0, 0, [100.0])] * 2 + [(1, 0, [0.0])] * 2)
    cluster = Cluster(2, None, 4.0, residency=residency)
    assert lower_bounds(workload, cluster, "offline").makespan.value == pytest.approx(1 + 2.5 + 100)
    assert best_schedules(workload, cluster, "offline")[0] == pytest.approx(1 + 2.5 + 100)


def test_preloaded_models_cost_no_load() -> None:
    workload = _alone(Model("a", 10, load_time_seconds=3), [5.0] * 4)
    bounds = lower_bounds(workload, Cluster(2), "offline", preloaded=True)
    assert bounds.makespan.value == pytest.approx(10)
    assert bounds.mean_latency.value == pytest.approx(7.5)


def test_models_without_requests_do_not_count() -> None:
    """An unused model would be a cheap one to replace, and might not even fit."""
    models = [Model("a", 10, 1, 30.0), Model("b", 0, 64, 0.0)]
    workload = _chains(models, ["a", "b"], [(0, 0, [5.0])])
    assert lower_bounds(workload, Cluster(2), "offline").makespan.value == pytest.approx(35)


def test_a_model_larger_than_the_cluster_is_an_error() -> None:
    with pytest.raises(ValueError, match="model 'a' needs 4 GPUs, the cluster has 3"):
        lower_bounds(_alone(Model("a", 10, 4), [1.0]), Cluster(3), "offline")


def test_no_requests_take_no_time() -> None:
    workload = _chains([Model("a", 10)], ["a"], [])
    bounds = lower_bounds(workload, Cluster(1), "online")
    assert (bounds.makespan.value, bounds.mean_latency.value) == (0, 0)


# ---- parts ----


def _most(cluster: Cluster, value: dict[int, int], first: int = 0) -> int:
    """Return the largest total value of disjoint allowed gangs, where a gang of k GPUs is worth value[k]."""
    if first >= cluster.gpus:
        return 0
    best = _most(cluster, value, first + 1)
    for size, worth in value.items():
        if any(gang[0] == first for gang in allowed_gangs(cluster, size)):
            best = max(best, worth + _most(cluster, value, first + size))
    return best


@pytest.mark.parametrize(
    ("gpus", "server", "size", "count"),
    [
        (6, None, 4, 1),
        (8, 4, 3, 2),
        (6, 3, 2, 2),
        (11, 4, 3, 3),
        (10, 4, 6, 1),
        (14, 4, 6, 2),
        (16, 4, 9, 1),
        (3, 1, 4, 0),
    ],
)
def test_gangs_at_once(gpus: int, server: int | None, size: int, count: int) -> None:
    assert gangs_at_once(Cluster(gpus, server), size) == count


@pytest.mark.parametrize(
    ("gpus", "server", "sizes", "usable"),
    [(6, None, [4], 4), (5, None, [4, 2], 4), (8, 4, [3], 6), (8, 4, [5, 3], 8), (10, 4, [6, 4], 10), (9, 4, [2], 8)],
)
def test_usable_gpus(gpus: int, server: int | None, sizes: list[int], usable: int) -> None:
    assert usable_gpus(Cluster(gpus, server), sizes) == usable


@given(clusters(), st.integers(1, 12))
@settings(deadline=None)
def test_gangs_at_once_is_the_best_packing(cluster: Cluster, size: int) -> None:
    assert gangs_at_once(cluster, size) == _most(cluster, {size: 1})


@given(clusters(), st.integers(1, 12), st.sets(st.integers(1, 12), max_size=3))
@settings(deadline=None)
def test_wider_gangs_do_not_pack_better(cluster: Cluster, size: int, others: set[int]) -> None:
    assert _most(cluster, {s: 1 for s in others if s >= size}) <= gangs_at_once(cluster, size)


@given(clusters(), st.sets(st.integers(1, 12), min_size=1, max_size=4))
@settings(deadline=None)
def test_usable_gpus_is_the_best_packing(cluster: Cluster, sizes: set[int]) -> None:
    assert usable_gpus(cluster, sizes) == _most(cluster, {size: size for size in sizes})


def test_a_gang_of_a_whole_server_never_replaces_another_of_its_model() -> None:
    models = [Model("a", 16, 4, 100.0), Model("b", 16, 3, 100.0)]
    costs = LoadCosts.of(models, Cluster(8, 4), preloaded=False)
    assert costs.first.tolist() == [4, 4]  # each replaces the other
    lone = LoadCosts.of(models[:1], Cluster(8, 4), preloaded=False)
    assert (lone.first.tolist(), lone.again.tolist()) == ([100], [100])
    for size in (2, 3):
        lone = LoadCosts.of([Model("b", 16, size, 100.0)], Cluster(8, 4), preloaded=False)
        assert (lone.first.tolist(), lone.again.tolist()) == ([100], [4])


_jobs = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12), st.integers(-60, 10)), min_size=1, max_size=80)


def _slow_gain(jobs: list[tuple[int, int, int]], remaining: bool) -> float:
    """Serve the jobs in steps of a second (all times are whole), and sum up by busy period."""
    left = [work for _, work, _ in jobs]
    total = gain = 0.0
    for now in range(2000):
        open_jobs = [i for i, (release, _, _) in enumerate(jobs) if release <= now and left[i]]
        if all(jobs[i][0] == now for i in open_jobs):  # nothing is left of the jobs before
            total, gain = total + max(gain, 0.0), 0.0
        if not open_jobs:
            continue
        chosen = min(open_jobs, key=lambda i: left[i] if remaining else jobs[i][1])
        work, offset = jobs[chosen][1:]
        left[chosen] -= 1
        if remaining:
            gain += 0 if left[chosen] else now + 1 + offset
        else:
            gain += (now + 0.5) / work + offset / work
    return total


def _columns(jobs: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    release, work, offset = np.array(sorted(jobs), np.float64).T.copy()
    return release, work, offset


@given(_jobs, st.booleans())
@settings(deadline=None)
def test_fluid_gain_is_that_of_least_work_first(jobs: list[tuple[int, int, int]], remaining: bool) -> None:
    assert fluid_gain(*_columns(jobs), remaining) == pytest.approx(_slow_gain(jobs, remaining))


@pytest.mark.parametrize("remaining", [False, True])
def test_compiled_and_interpreted_agree(monkeypatch: pytest.MonkeyPatch, remaining: bool) -> None:
    random = np.random.default_rng(1)
    columns = np.sort(random.uniform(0, 4000, 3000)), random.exponential(1.5, 3000), random.normal(-2000, 900, 3000)
    interpreted = fluid_gain(*columns, remaining)
    monkeypatch.setattr(fluid, "COMPILE_FROM", 0)
    assert fluid_gain(*columns, remaining) == pytest.approx(interpreted, rel=1e-12)
    assert interpreted > 0
