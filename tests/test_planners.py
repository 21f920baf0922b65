"""The planners: offline equals a slow plan that is slowly obeyed, hybrid and improved leave nothing warm idle."""

import itertools
import math
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, cases, workloads
from test_simulator import assert_compiled_equals_interpreted, assert_equals_reference, tiny

from gsched.checker import check
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.load import load_workload
from gsched.log import Log
from gsched.policies import find_policy
from gsched.policies.levels import disjoint_gangs, new_plan, plan_blocks
from gsched.simulator import simulate
from gsched.state import WORD
from gsched.workload import Config, Model, Node, Workflow, Workload

ROOT = Path(__file__).parent.parent
PLANNERS = ("offline", "improved", "hybrid")


# A slow plan, slowly obeyed


@dataclass(eq=False)
class Batch:
    """The nodes of one level and model."""

    level: int
    model: Model
    tasks: list[reference.Task]

    @property
    def seconds(self) -> float:
        return list(itertools.accumulate(task.duration for task in self.tasks))[-1]


@dataclass(eq=False)
class Part:
    """A batch's seconds on one gang."""

    batch: Batch
    gang: tuple[int, ...]
    seconds: float
    left: float


class ObedientEngine(reference._Engine):
    """Runs the plan: a gang starts a node only for the first unfinished part of all its GPUs."""

    def __init__(self, workload: Workload, cluster: Cluster) -> None:
        super().__init__(workload, cluster, "offline", [])
        self.depth = {task: self._depth(task) for tasks in self.tasks for task in tasks}
        self.free = [0.0] * cluster.gpus
        self.planned = reference.ExclusiveMemory(cluster)  # what will be held where
        self.parts: list[Part] = []
        self._plan()
        self.open = list(self.parts)

    def _depth(self, task: reference.Task) -> int:
        return max((self._depth(parent) + 1 for parent in task.parents), default=0)

    def _plan(self) -> None:
        models = list(self.workload.config.models.values())
        last = None
        for level in range(max(self.depth.values()) + 1):
            tasks = [task for task in self.depth if self.depth[task] == level]
            batches = [Batch(level, model, [task for task in tasks if task.model == model]) for model in models]
            batches = [batch for batch in batches if batch.tasks]
            while batches:
                gpu_seconds = {batch: batch.seconds * batch.model.gpus_required for batch in batches}
                going_on = [batch for batch in batches if batch.model == last]
                batch = going_on[0] if going_on else max(batches, key=lambda batch: gpu_seconds[batch])
                self._spread(batch, end_together(self.free, math.fsum(gpu_seconds.values())))
                last = batch.model
                batches.remove(batch)

    def _spread(self, batch: Batch, target: float) -> None:
        gangs = side_by_side(self.cluster, batch.model.gpus_required)
        begin, costs, ranks = {}, {}, {}
        for gang in gangs:
            costs[gang] = max(self._planned_cost(gpu, reference.Instance(batch.model, gang)) for gpu in gang)
            begin[gang] = max(self.free[gpu] for gpu in gang) + costs[gang]
            held = all(self.planned.label[gpu] == reference.Instance(batch.model, gang) for gpu in gang)
            ranks[gang] = (not held, begin[gang], gang)
        target = max(target, end_together(list(begin.values()), batch.seconds))
        chosen, left = [], batch.seconds
        for gang in sorted(gangs, key=lambda gang: ranks[gang]):
            room = target - begin[gang]
            if not chosen or (left > costs[gang] and room > costs[gang]):
                chosen.append(gang)
                left -= max(room, 0.0)
        target = max(target, end_together([begin[gang] for gang in chosen], batch.seconds))
        done = filled = 0.0
        for gang in chosen:
            filled += max(target - begin[gang], 0.0)
            seconds, done = min(filled, batch.seconds) - done, min(filled, batch.seconds)
            if seconds > 0 or len(chosen) == 1:
                mean = batch.seconds / len(batch.tasks)
                self.parts.append(Part(batch, gang, seconds, seconds - mean / 2))
                self.planned.start(reference.Instance(batch.model, gang))
                for gpu in gang:
                    self.free[gpu] = begin[gang] + seconds

    def _planned_cost(self, gpu: int, new: reference.Instance) -> float:
        held = self.planned.label[gpu]
        if held == new:
            return 0.0
        if held is None:
            return reference.load_cost(new.model, self.cluster)
        return reference.switch_cost([held.model], new.model, self.cluster)

    def _start_one(self, now: float) -> bool:
        for model in self.workload.config.models.values():
            waiting = [task for task in self.queue if task.model == model]
            if not waiting:
                continue
            task = min(waiting, key=lambda task: (self.depth[task], task.request, task.node))
            for part in sorted(self.open, key=lambda part: part.gang):
                if task in part.batch.tasks and self._may_start(part):
                    self.queue.remove(task)
                    self._start(task, [self.gpus[gpu] for gpu in part.gang], now)
                    self._count(task, part)
                    return True
        return False

    def _count(self, task: reference.Task, part: Part) -> None:
        part.left -= task.duration
        siblings = [other for other in self.open if other.batch is part.batch]
        if all(task.decided is not None for task in part.batch.tasks):
            self.open = [other for other in self.open if other not in siblings]
        elif part.left <= 0 and len(siblings) > 1:
            self.open.remove(part)

    def _may_start(self, part: Part) -> bool:
        first = {next(other for other in self.open if gpu in other.gang) for gpu in part.gang}
        return first == {part} and not any(self.gpus[gpu].busy for gpu in part.gang)


def end_together(begins: list[float], seconds: float) -> float:
    """When all end if they share so many seconds, filled up from the earliest."""
    sums = itertools.accumulate(sorted(begins))
    return min((total + seconds) / (i + 1) for i, total in enumerate(sums))


def side_by_side(cluster: Cluster, size: int) -> list[tuple[int, ...]]:
    gangs: list[tuple[int, ...]] = []
    for gang in reference.allowed_gangs(cluster, size):
        if not any(set(gang) & set(other) for other in gangs):
            gangs.append(tuple(gang))
    return gangs


@given(cases(modes=("offline",)))
def test_offline_equals_a_slow_plan_slowly_obeyed(case: Case) -> None:
    engine = ObedientEngine(case.workload, case.cluster)
    models = list(case.workload.config.models.values())
    parts = [(part.batch.level, models.index(part.batch.model), part.gang[0], part.seconds) for part in engine.parts]
    planned = [block for _, blocks in plan_blocks(case.workload, case.cluster) for block in blocks]
    assert [tuple(block) for block in planned] == parts
    assert_equals_reference(simulate(case.workload, case.cluster, "offline"), engine.run())


@given(
    st.integers(60, 200),
    st.none() | st.integers(20, 90),
    st.lists(st.integers(1, 3) | st.integers(30, 100), min_size=1, max_size=3),
    workloads(max_gang=1, min_requests=20, max_requests=40),
)
@settings(max_examples=20)
def test_planners_across_words_of_the_masks(
    gpus: int, per_server: int | None, sizes: list[int], workload: Workload
) -> None:
    """More GPUs than a mask's word has bits: compiled equals interpreted, and offline the reference."""
    models = list(workload.config.models.values())
    larger = {m.id: replace(m, gpus_required=min(gpus, sizes[i % len(sizes)])) for i, m in enumerate(models)}
    workload = replace(workload, config=Config(larger, workload.config.workflows))
    case = Case(workload, Cluster(gpus, per_server), "offline")
    for policy in PLANNERS:
        assert_compiled_equals_interpreted(case, policy)
    engine = ObedientEngine(workload, case.cluster)
    assert_equals_reference(simulate(workload, case.cluster, "offline"), engine.run())


# What the plan promises


@given(cases(modes=("offline",)))
def test_blocks_share_all_the_work_of_their_groups(case: Case) -> None:
    seen = []
    for group, blocks in plan_blocks(case.workload, case.cluster):
        assert {(block.level, block.model) for block in blocks} == {(group.level, group.model)}
        assert sum(block.seconds for block in blocks) == pytest.approx(group.seconds)
        gangs = [block.gang for block in blocks]
        assert len(set(gangs)) == len(gangs)
        assert set(gangs) <= set(disjoint_gangs(case.cluster, case.workload.models[group.model].gpus_required))
        seen.append((group.level, group.model))
    assert len(set(seen)) == len(seen)
    assert [level for level, _ in seen] == sorted(level for level, _ in seen)
    nodes = zip(case.workload.template_level[case.workload.template], case.workload.model, strict=True)
    assert set(seen) == set(nodes)


@given(
    st.builds(Case, workloads(2, 8, 16), st.builds(Cluster, st.integers(2, 5)), st.just("offline"))
    | cases(modes=("offline",))
)
def test_each_gpu_works_off_its_blocks_in_the_order_of_the_plan(case: Case) -> None:
    """Contiguous blocks, each of one model and level, and thus no more switches and loads than blocks."""
    workload = case.workload
    log = simulate(workload, case.cluster, "offline")
    plan = new_plan(workload, case.cluster)
    blocks = list(zip(plan.group.tolist(), plan.gang.tolist(), strict=True))
    places = zip(workload.template_level.tolist(), workload.template_model.tolist(), strict=True)
    group_of = dict(zip(places, plan.template_group.tolist(), strict=True))
    rows = zip(level_of_rows(log, workload), log.model_name.codes.tolist(), strict=True)
    done = list(zip(map(group_of.get, rows), log.gpu_id.tolist(), strict=True))
    for gpu in range(case.cluster.gpus):
        mine = [row for row, gpus in zip(done, gangs_of(log), strict=True) if gpu in gpus]
        runs = [row for row, _ in itertools.groupby(mine)]
        ends = np.append(0, plan.queue_end)
        planned = [blocks[block] for block in plan.queue[ends[gpu] : ends[gpu + 1]]]
        assert is_subsequence(runs, planned)
    assert log.summary["total_model_switches"] + log.summary["total_model_loads"] <= len(blocks)


@given(cases(modes=("offline",)))
def test_turns_come_to_blocks_that_are_first_on_all_their_gpus(case: Case) -> None:
    plan = new_plan(case.workload, case.cluster)
    first = {gpu: plan.queue[at] for gpu, at in enumerate(plan.queue_at) if at < plan.queue_end[gpu]}
    words = len(plan.turn) // len(case.workload.models)
    for block, (model, gang) in enumerate(zip(plan.model.tolist(), plan.gang.tolist(), strict=True)):
        gpus = range(gang, gang + case.workload.models[model].gpus_required)
        is_first = all(first[gpu] == block for gpu in gpus)
        others = [b for b in first.values() if b != block and (plan.model[b], plan.gang[b]) == (model, gang)]
        turn = int(plan.turn[model * words + gang // WORD]) >> (gang % WORD) & 1
        assert turn == is_first or others


def is_subsequence(part: list[object], whole: list[object]) -> bool:
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)


def level_of_rows(log: Log, workload: Workload) -> list[int]:
    positions = {node.id: i for flow in workload.workflows for i, node in enumerate(flow.nodes)}
    flows = [workload.workflows[workload.workflow[request]] for request in log.request_id.codes]
    return [flow.level[positions[node]] for flow, node in zip(flows, log.node_id.texts(), strict=True)]


def gangs_of(log: Log) -> list[list[int]]:
    first = log.gpu_ids.first
    return [log.gpu_ids.gpus[first[i] : first[i + 1]].tolist() for i in range(len(log))]


@pytest.mark.parametrize("policy", ["hybrid", "improved"])
@given(case=cases(residencies=("exclusive",)), data=st.data())
def test_no_gpu_idles_while_its_model_has_work(policy: str, case: Case, data: st.DataObject) -> None:
    """With single-GPU models, where no GPU has to wait for others, and one model a GPU."""
    models = {m.id: replace(m, gpus_required=1) for m in case.workload.models}
    workload = replace(case.workload, config=Config(models, case.workload.config.workflows))
    mode = data.draw(st.sampled_from(find_policy(policy).modes))
    log = simulate(workload, case.cluster, policy, mode)
    decided = log.ready_time + log.waiting_time
    for now in {*decided.tolist(), *log.end_time.tolist()}:
        waiting = {int(m) for m in log.model_name.codes[(log.ready_time <= now - 1e-6) & (decided > now + 1e-6)]}
        for gpu in range(case.cluster.gpus):
            mine = log.gpu_id == gpu
            busy = mine & (decided <= now + 1e-6) & (log.end_time > now - 1e-6)
            before = np.flatnonzero(mine & (log.end_time <= now - 1e-6))
            if not busy.any() and len(before):
                assert log.model_name.codes[before[-1]] not in waiting


def stream(big: int, length: int) -> Workload:
    """A steady stream of 1-s nodes of model a, and after 10 s a single node of model b, which needs `big` GPUs."""
    models = {"a": Model("a", 16.0, 1, 5.0), "b": Model("b", 16.0, big, 5.0)}
    flows = {name: Workflow(name, (Node("n", name),)) for name in models}
    timestamp = np.append(np.arange(length) * 100_000_000, 10_000_000_000)
    flow = np.append(np.zeros(length, np.int32), 1)
    return Workload(Config(models, flows), [f"r{i}" for i in range(length + 1)], flow, timestamp, np.ones(length + 1))


@pytest.mark.parametrize("gpus", [1, 4, 6])
def test_nobody_starves_with_improved(gpus: int) -> None:
    """The patience, then what was under way on the gang, then the loading: 1 s each, and 4 s."""
    workload = stream(min(gpus, 4), 4000)
    ends = {}
    for patience in (20, 50, math.inf):
        log = simulate(workload, Cluster(gpus), "improved", "online", options={"patience": patience})
        assert check(log, workload, Cluster(gpus), "online").valid
        ends[patience] = float(log.end_time[log.model_name.texts().index("b")])
    assert 30 <= ends[20] <= 30 + 1 + 1 + 4 + 1
    assert 60 <= ends[50] <= 60 + 1 + 1 + 4 + 1
    assert ends[math.inf] > 400


def test_offline_by_hand() -> None:
    """Two GPUs, three requests a-b: all a's on both GPUs, then all b's on both, after one switch each."""
    log = simulate(tiny({"a": 1, "b": 1}, "ab", count=4, duration=10.0), Cluster(2), "offline")
    assert log.model_name.texts() == ["a"] * 4 + ["b"] * 4
    assert log.start_time.tolist() == [5.0, 5.0, 15.0, 15.0, 29.0, 29.0, 39.0, 39.0]
    assert (log.summary["total_model_loads"], log.summary["total_model_switches"]) == (2, 2)


def test_hybrid_steals_what_offline_leaves() -> None:
    """On the example with gangs of 8, 2 and 1 GPUs, a static plan waits; stealing takes away most of that."""
    workload = load_workload(ROOT / "examples" / "studio.json", ROOT / "examples" / "studio_requests.parquet")
    offline, hybrid = (simulate(workload, Cluster(16), policy) for policy in ("offline", "hybrid"))
    assert hybrid.summary["gap_percent"] < offline.summary["gap_percent"] / 2


@pytest.mark.parametrize("policy", PLANNERS)
def test_nothing_to_do_is_done(policy: str) -> None:
    workload = tiny({"a": 1, "b": 2}, "ab").select(np.zeros(0, np.int64))
    assert simulate(workload, Cluster(2), policy).summary["total_nodes_executed"] == 0


@pytest.mark.parametrize("policy", ["offline", "hybrid"])
def test_plans_are_for_what_is_known_ahead(policy: str) -> None:
    with pytest.raises(InputError, match=f"policy {policy}: does not work online"):
        simulate(tiny({"a": 1}, "a"), Cluster(1), policy, "online")


@pytest.mark.parametrize(
    ("policy", "option", "value"),
    [
        ("improved", "worth", "-1"),
        ("improved", "worth", "nan"),
        ("improved", "worth", "inf"),
        ("improved", "share", "inf"),
        ("improved", "patience", "-0.5"),
        ("improved", "patience", "nan"),
        ("hybrid", "worth", "inf"),
    ],
)
def test_options_out_of_range_are_told(policy: str, option: str, value: str) -> None:
    with pytest.raises(InputError, match=f"policy {policy}: {option} must be a (finite )?number from 0 on, not "):
        simulate(tiny({"a": 1}, "a"), Cluster(1), policy, options={option: value})


def test_script_works_as_its_document_says(tmp_path: Path) -> None:
    for kind, suffix in (("simple_config.json", ".json"), ("simple_requests.yaml", "_requests.yaml")):
        shutil.copy(ROOT / "examples" / f"documents{suffix}", tmp_path / kind)
    words = [sys.executable, ROOT / "scripts" / "offline_scheduler.py", "--gpus", "8", "--simulate", "false"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {"offline_scheduler.log", "offline_execution_log.json"}
    assert "The schedule is valid" in done.stdout
