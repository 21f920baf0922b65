"""The run loop with an executor that pretends: what is simulated is what is run, whatever goes wrong."""

import asyncio
import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from live_runs import CALM, Real, real, rows, run, servers_of, stop_at, troubles
from small import staying, tiny
from strategies import Case, cases, deployments

from gsched.checker import check
from gsched.cluster import Cluster
from gsched.errors import InputError, PolicyError
from gsched.live.run.executors import Answer, Call, ExecutorError, LostError
from gsched.live.run.executors.fake import FakeInstance
from gsched.live.run.prompts import Prompts
from gsched.live.run.resume import past_of
from gsched.log import Log
from gsched.policies import find_policy
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Workflow, Workload

POLICIES = ("baseline", "edf", "tiered", "improved", "online")

two_gpus = Cluster(2, 1)


def case_of(flow: str, count: int = 1, cluster: Cluster = two_gpus, duration: float = 1.0, **sizes: int) -> Case:
    return Case(tiny({"a": 1, "b": 1, **sizes}, flow, count, duration), cluster, "offline")


def summary(log: Log, *names: str) -> tuple[Any, ...]:
    return tuple(log.summary[name] for name in names)


def assert_valid(log: Log, case: Case) -> None:
    assert check(log, *case).violations == ()
    assert log.summary["simulate"] is True


# The same as simulated


def untied(seed: int) -> Case:
    """A case in which nothing happens at the same time but arrivals."""
    random = np.random.default_rng(seed)
    models = {f"m{i}": Model(f"m{i}", float(random.uniform(1, 40))) for i in range(4)}
    nodes = tuple(Node(f"n{i}", f"m{random.integers(4)}") for i in range(5))
    edges = tuple((a, b) for b in range(5) for a in range(b) if random.random() < 0.4)
    requests = int(random.integers(1, 30))
    workload = Workload(
        Config(models, {"w": Workflow("w", nodes, edges)}),
        [f"r{i}" for i in range(requests)],
        np.zeros(requests, np.int32),
        random.integers(0, 60_000_000_000, requests),
        random.uniform(0.1, 10, requests * 5),
    )
    return Case(workload, Cluster(int(random.integers(1, 7))), "online" if seed % 2 else "offline")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("policy", ["baseline", "edf"])
def test_a_run_takes_as_long_as_its_simulation(seed: int, policy: str):
    case = untied(seed)
    cluster = case.cluster

    def seconds(model: Model) -> float:
        return model.memory_gb / cluster.pcie_bandwidth

    fake = real(case, load_seconds=lambda model: seconds(model) + cluster.switch_overhead, unload_seconds=seconds)
    log, expected = run(case, policy, fake), simulate(case.workload, cluster, policy, case.mode)
    names = ["request_id", "node_id", "gpu_id"]
    assert [[row[name] for name in names] for row in rows(log)] == [
        [row[name] for name in names] for row in rows(expected)
    ]
    for name in ("start_time", "end_time", "switch_time", "ready_time"):
        assert getattr(log, name) == pytest.approx(getattr(expected, name), abs=1e-6)
    same = "total_model_loads", "total_model_switches", "completed_requests", "policy", "mode"
    assert summary(log, *same) == summary(expected, *same)


@given(cases(), st.sampled_from(POLICIES))
@settings(max_examples=60)
def test_whatever_a_policy_does_is_done(case: Case, policy: str):
    assume(case.mode in find_policy(policy).modes)
    log = run(case, policy, real(case))
    assert_valid(log, case)
    assert len(log) == case.workload.node_count
    assert summary(log, "partial", "failed_requests", "failed_attempts") == (False, 0, 0)


@given(cases().flatmap(deployments))
@settings(max_examples=40)
def test_a_deployment_is_loaded_before_the_run(drawn: tuple[Case, Any]):
    case, placement = drawn
    fake = real(case, deployed=True, load_seconds=lambda _model: 3.0)
    log = run(case, staying(placement), fake)
    assert_valid(log, case)
    assert len(log) == case.workload.node_count
    assert log.summary["measured_deployment_seconds"] == pytest.approx(3.0)


def test_time_is_that_of_the_workload():
    case = case_of("a", 3, duration=2.0)
    fake = real(case)
    fake.time_scale = 0.25
    log = run(case, "baseline", fake, time_scale=0.25)
    assert_valid(log, case)
    assert log.summary["makespan"] == pytest.approx(simulate(*case[:2]).summary["makespan"])
    assert log.summary["p99_dispatch_overhead_seconds"] == pytest.approx(0.0, abs=1e-6)


# What goes wrong


@given(cases(), st.sampled_from(POLICIES), st.data())
@settings(max_examples=150)
def test_whatever_goes_wrong_is_told(case: Case, policy: str, data: st.DataObject):
    assume(case.mode in find_policy(policy).modes)
    trouble = data.draw(troubles(len(servers_of(case))))
    retries = data.draw(st.integers(0, 2))
    fake = real(case, trouble=trouble, unload_seconds=lambda model: model.memory_gb / 16)
    log = run(case, policy, fake, lambda _loop: trouble.schedule(fake), limits=replace(CALM, retries=retries))
    assert_told(log, case, retries)
    if not trouble.rate and not trouble.losses:
        assert "interruptions" not in log.extra


@given(cases().flatmap(deployments), st.data())
@settings(max_examples=60)
def test_a_deployment_is_restored_before_its_gpus_come_back(drawn: tuple[Case, Any], data: st.DataObject):
    case, placement = drawn
    trouble = data.draw(troubles(len(servers_of(case))))
    deployed: list[FakeInstance] = []

    def fail(what: str, instance: FakeInstance) -> None:
        if len(deployed) < len(placement):
            deployed.append(instance)
        else:
            trouble(what, instance)

    fake = real(case, deployed=True, trouble=fail, load_seconds=lambda _model: 0.5)
    try:
        log = run(case, staying(placement), fake, lambda _loop: trouble.schedule(fake))
    except InputError:
        assume(False)  # lost while it was deployed
    assert_told(log, case, CALM.retries)
    assert log.execution_time == pytest.approx(log.estimated_time, abs=1e-5)  # nothing was loaded by calls


def assert_told(log: Log, case: Case, retries: int) -> None:
    """Every request is done, or listed with what was wrong, and nothing was tried too often."""
    assert_valid(log, case)
    workload = case.workload
    failures = log.extra.get("failures", ())
    done = Counter(row["request_id"] for row in rows(log))
    sizes = np.diff(workload.first_node).tolist()
    complete = {id for id, size in zip(workload.request_ids, sizes, strict=True) if done[id] == size}
    assert {part["request_id"] for part in failures} == set(workload.request_ids) - complete
    assert all(part["reason"] for part in failures)
    failed = Counter(
        (part["request_id"], part["node_id"]) for part in log.extra.get("interruptions", ()) if "node_id" in part
    )
    assert max(failed.values(), default=0) <= retries + 1
    assert all(part["attempts"] == failed[part["request_id"], part["node_id"]] for part in failures)
    assert summary(log, "partial", "failed_requests", "failed_attempts") == (False, len(failures), failed.total())


def test_an_attempt_that_fails_stands_where_it_was_decided():
    """At one moment `a` makes `big` go, and `b`, which then finds an empty GPU, fails."""

    def fail(_what: str, instance: FakeInstance) -> None:
        if instance.model.id == "b":
            raise ExecutorError("no b today")

    models = {"big": Model("big", 16.0, 2), "a": Model("a", 8.0), "b": Model("b", 8.0)}
    nodes = Node("first", "big"), Node("left", "a"), Node("right", "b")
    config = Config(models, {"w": Workflow("w", nodes, ((0, 1), (0, 2)))})
    workload = Workload(config, ["r"], np.zeros(1, np.int32), np.zeros(1, np.int64), np.ones(3))
    case = Case(workload, Cluster(2, gpu_memory_gb=10.0, residency="shared"), "offline")
    log = run(case, "baseline", real(case, trouble=fail), limits=replace(CALM, retries=0))
    assert_told(log, case, 0)
    assert summary(log, "total_model_loads", "total_model_switches") == (1, 1)
    assert log.extra["interruptions"][0]["row"] == 2


def test_a_call_may_end_while_its_server_is_found_to_be_lost():
    """The server of both calls is lost as one of them fails; the other has ended, but a little later."""

    class Dying(Real):
        async def call(self, instance: FakeInstance, call: Call) -> Answer:
            answer = await super().call(instance, call)
            if instance.model.id == "a":
                raise LostError("gone")
            asyncio.get_running_loop()._jumping.time += 0.25  # type: ignore[attr-defined]
            return answer

    workload = tiny({"a": 1, "b": 1}, "a", 2)
    flows = {name: Workflow(name, (Node("n", name),)) for name in "ab"}
    config = Config(workload.config.models, flows)
    both = Workload(config, ["x", "y"], np.array([0, 1], np.int32), np.zeros(2, np.int64), np.ones(2))
    case = Case(both, Cluster(2), "offline")
    log = run(case, "baseline", Dying([range(2)], 1.0), limits=replace(CALM, retries=0))
    assert_told(log, case, 0)
    assert [row["model_name"] for row in rows(log)] == ["b"]


@pytest.mark.parametrize("what", ["load", "call"])
def test_a_retry_goes_elsewhere(what: str):
    def fail(which: str, instance: FakeInstance) -> None:
        if which == what and 0 in instance.gpus:
            raise ExecutorError("bad GPU")

    case = case_of("ab", 5)
    log = run(case, "baseline", real(case, trouble=fail), limits=replace(CALM, retries=1))
    assert_valid(log, case)
    assert len(log) == case.workload.node_count
    assert {row["gpu_id"] for row in rows(log)} == {1}
    assert log.summary["failed_attempts"] > 0


def test_a_retry_stays_where_there_is_no_elsewhere():
    broken = [True, True]

    def fail(_what: str, _instance: FakeInstance) -> None:
        if broken:
            broken.pop()
            raise ExecutorError("bad luck")

    case = case_of("a", cluster=Cluster(1))
    log = run(case, "baseline", real(case, trouble=fail))
    assert_valid(log, case)
    assert summary(log, "failed_attempts", "completed_requests") == (2, 1)


def test_a_request_that_fails_is_given_up_and_no_other():
    def fail(what: str, instance: FakeInstance) -> None:
        if what == "call" and instance.model.id == "b":
            raise ExecutorError("no b today")

    workload = tiny({"a": 1, "b": 1}, "ab", 2)
    flows = {"w": workload.workflows[0], "only": Workflow("only", (Node("n", "a"),))}
    mixed = Workload(
        Config(workload.config.models, flows), ["x", "y"], np.array([0, 1], np.int32), np.zeros(2, np.int64), np.ones(3)
    )
    case = Case(mixed, two_gpus, "offline")
    log = run(case, "baseline", real(case, trouble=fail))
    assert_told(log, case, CALM.retries)
    assert log.extra["failures"] == [
        {"request_id": "x", "node_id": "n1", "model_name": "b", "reason": "no b today", "attempts": 3}
    ]
    assert summary(log, "completed_requests", "total_requests") == (1, 2)


def test_what_others_can_serve_is_served_while_a_server_is_lost():
    case = case_of("a", 6, Cluster(3, 2), big=2)
    flows = {"w": case.workload.workflows[0], "wide": Workflow("wide", (Node("n", "big"),))}
    workload = Workload(
        Config(case.workload.config.models, flows),
        list("uvwxyz"),
        np.array([0, 0, 0, 0, 0, 1], np.int32),
        np.zeros(6, np.int64),
        np.ones(6),
    )
    case = case._replace(workload=workload)
    fake = real(case, [range(2), range(2, 3)])
    fake.lost.add(0)
    log = run(case, "baseline", fake)
    assert_told(log, case, CALM.retries)
    assert {row["gpu_id"] for row in rows(log)} == {2}
    assert len(log) == 5
    (failure,) = log.extra["failures"]
    assert failure["request_id"] == "z"
    assert "server 0 is lost: server 0 does not answer" in failure["reason"]
    assert any(part["end_time"] is None for part in log.extra["interruptions"])


def test_a_server_that_comes_back_is_used_again():
    case = case_of("a", 4, Cluster(1))
    fake = real(case)
    fake.lost.add(0)

    def come_back(_loop: object) -> None:
        asyncio.get_running_loop().call_later(7.0, fake.lost.discard, 0)

    log = run(case, "baseline", fake, come_back)
    assert_told(log, case, CALM.retries)
    assert len(log) == 4
    assert min(row["start_time"] for row in rows(log)) >= 7.0


def test_a_server_that_does_not_answer_is_found_by_looking():
    case = case_of("a", 1, duration=1000.0)
    fake = real(case)

    def vanish(_loop: object) -> None:
        asyncio.get_running_loop().call_later(10.0, fake.lost.add, 0)

    log = run(case, "baseline", fake, vanish)
    assert_told(log, case, CALM.retries)
    first = log.extra["interruptions"][0]
    assert first["reason"] == "server 0 is lost: it does not answer"
    assert 10 < first["start_time"] < 10 + CALM.health_interval * (CALM.misses + 1)
    assert [row["gpu_id"] for row in rows(log)] == [1]


@pytest.mark.parametrize(("limit", "why"), [("load_timeout", "loading"), ("call_timeout", "the call")])
def test_what_takes_too_long_has_failed(limit: str, why: str):
    case = case_of("a", duration=50.0)
    fake = real(case, load_seconds=lambda _model: 50.0)
    log = run(case, "baseline", fake, limits=replace(CALM, retries=1, **{limit: 10.0}))
    assert_told(log, case, 1)
    assert log.extra["failures"][0]["reason"] == f"{why} took more than 10 s"


def test_what_never_leaves_its_gpu_is_given_up_with_it():
    def fail(what: str, _instance: FakeInstance) -> None:
        if what == "unload":
            raise ExecutorError("stuck")

    case = case_of("ab", 2, Cluster(1))
    log = run(case, "baseline", real(case, trouble=fail), limits=replace(CALM, load_timeout=20.0))
    assert_told(log, case, CALM.retries)
    assert {row["model_name"] for row in rows(log)} == {"a"}
    assert {part["reason"] for part in log.extra["failures"]} == {"no GPU that it could use comes back"}


def test_an_attempt_that_has_just_begun_is_given_up_too():
    """One attempt fails as the server is lost, in the moment in which another on that server begins."""
    case = case_of("ab", 3, Cluster(3))
    fake = real(case)
    fake.lost.add(0)
    loops: list[Any] = []
    log = run(case, "baseline", fake, loops.append)
    assert_told(log, case, CALM.retries)
    assert not loops[0].under_way


@pytest.mark.parametrize("what", ["load", "call", "unload"])
def test_a_bug_of_an_executor_ends_the_run(what: str):
    def fail(which: str, _instance: FakeInstance) -> None:
        if which == what:
            raise ZeroDivisionError(what)

    case = case_of("ab", 4, Cluster(1))
    with pytest.raises(ZeroDivisionError, match=what):
        run(case, "baseline", real(case, trouble=fail))


def test_a_deployment_that_cannot_be_loaded_is_bad_input():
    def fail(_what: str, _instance: FakeInstance) -> None:
        raise ExecutorError("no room")

    case = case_of("a")
    with pytest.raises(InputError, match=r"deployment.*no room"):
        run(case, staying(((0, 0),)), real(case, trouble=fail))
    slow = real(case, load_seconds=lambda _model: 60.0)
    with pytest.raises(InputError, match="loading took more than 5 s"):
        run(case, staying(((0, 0),)), slow, limits=replace(CALM, load_timeout=5.0))


# Policies


class Lazy:
    """Waits for ever."""

    def choose(self, _view: Any) -> None:
        return None


class Sleepless(Lazy):
    """Wants to be asked again and again."""

    def choose(self, view: Any) -> None:
        view.wake_at(view.now + 1)


class Patient(Lazy):
    """Waits until a time, then starts what it can."""

    def choose(self, view: Any) -> Any:
        if view.now < 30:
            view.wake_at(30.0)
            return None
        return next(((m, view.idle_gang(m)) for m in view.waiting() if view.idle_gang(m) is not None), None)


@pytest.mark.parametrize("policy", [Lazy(), Sleepless()])
def test_a_policy_that_waits_for_ever_is_an_error(policy: object):
    case = case_of("a")
    with pytest.raises(PolicyError, match="waits although 1 nodes are ready"):
        run(case, policy, real(case))


@pytest.mark.parametrize("policy", [Lazy(), Sleepless()])
def test_no_policy_waits_for_ever_for_a_server(policy: object):
    case = case_of("a", cluster=Cluster(1))
    fake = real(case)
    fake.lost.add(0)
    first = [True]

    class Once(type(policy)):  # type: ignore[misc]
        def choose(self, view: Any) -> Any:
            return (0, 0) if first and first.pop() else super().choose(view)

    log = run(case, Once(), fake)
    assert_told(log, case, CALM.retries)
    assert len(log.extra["failures"]) == 1


def test_a_policy_is_asked_again_when_it_wishes():
    case = case_of("a", 3)
    log = run(case, Patient(), real(case))
    assert_valid(log, case)
    assert min(row["start_time"] - row["switch_time"] for row in rows(log)) == pytest.approx(30.0)


def test_a_decision_against_the_rules_is_an_error():
    class Wrong:
        def choose(self, _view: Any) -> tuple[int, int]:
            return 0, 7

    case = case_of("a")
    with pytest.raises(PolicyError, match="its decision is refused"):
        run(case, Wrong(), real(case))


# Stopping, and going on


@given(cases(), st.sampled_from(POLICIES), st.floats(0, 40), st.none() | st.floats(0, 5), st.data())
@settings(max_examples=80)
def test_a_stopped_run_goes_on_where_it_was(
    case: Case, policy: str, first: float, second: float | None, data: st.DataObject
):
    assume(case.mode in find_policy(policy).modes)
    trouble = data.draw(troubles(len(servers_of(case)), returning=True))
    times = [first] if second is None else [first, first + second]
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.jsonl"
        fake = real(case, trouble=trouble)

        def during(loop: Any) -> None:
            trouble.schedule(fake)
            stop_at(*times)(loop)

        begun = run(case, policy, fake, during, answers=answers)
        assert_valid(begun, case)
        assert all(row["start_time"] - row["switch_time"] <= first + 1e-6 for row in rows(begun))
        if second is not None and begun.summary["partial"]:
            assert all(row["end_time"] <= first + second + 1e-6 for row in rows(begun))
        if len(begun) == case.workload.node_count:
            return
        past = past_of(begun, Path("log.json"), answers, *case, find_policy(policy))
        calm = real(case)
        ended = run(case, policy, calm, past=past, answers=answers)
        told = [json.loads(line) for line in answers.read_text().splitlines()]
    assert_valid(ended, case)
    names = [(row["request_id"], row["node_id"]) for row in rows(ended)]
    assert names[: len(begun)] == [(row["request_id"], row["node_id"]) for row in rows(begun)]
    assert ended.end_time[: len(begun)] == pytest.approx(begun.end_time)
    assert len(ended) == case.workload.node_count
    assert len(calm.asked) == len(ended) - len(begun)
    assert ended.summary["partial"] is False
    assert Counter((row["request_id"], row["node_id"]) for row in told) == Counter(names)


def test_a_stopped_run_lets_calls_end_and_starts_nothing():
    case = case_of("ab", 4, Cluster(1), 10.0)
    log = run(case, "baseline", real(case), stop_at(7.0))
    assert_valid(log, case)
    assert [row["end_time"] for row in rows(log)] == pytest.approx([15.0])
    assert log.summary["partial"] is True
    cut = run(case, "baseline", real(case), stop_at(7.0, 9.0))
    assert_valid(cut, case)
    assert len(cut) == 0
    (part,) = cut.extra["interruptions"]
    assert (part["node_id"], part["start_time"], part["end_time"]) == ("n0", 0.0, pytest.approx(9.0))


def test_a_stopped_run_does_not_wait_for_what_its_policy_wished():
    class Wishing:
        def choose(self, view: Any) -> Any:
            view.wake_at(view.now + 2)
            return next(((m, view.idle_gang(m)) for m in view.waiting() if view.idle_gang(m) is not None), None)

    case = case_of("a", 2, Cluster(1), 100.0)
    turns: list[float] = []

    def during(loop: Any) -> None:
        stop_at(7.0)(loop)
        take, now = loop._take_news, loop.now
        loop._take_news = lambda: (turns.append(now()), take())

    log = run(case, Wishing(), real(case), during)
    assert len(log) == 1
    assert len([turn for turn in turns if turn > 7.0]) <= 3


def test_an_attempt_that_has_not_begun_can_be_cut_off():
    case = case_of("a")

    def during(loop: Any) -> None:
        start = loop._start
        loop._start = lambda *place: (start(*place), loop.stop(), loop.stop())

    log = run(case, "baseline", real(case), during)
    assert_valid(log, case)
    assert (len(log), len(log.extra["interruptions"])) == (0, 1)


def test_a_deployment_can_be_stopped():
    case = case_of("a")
    log = run(case, staying(((0, 0),)), real(case, load_seconds=lambda _model: 1e6), stop_at(5.0))
    assert_valid(log, case)
    assert (len(log), log.summary["partial"]) == (0, True)


def stopped(folder: Path) -> tuple[Case, Log, Path]:
    case, answers = case_of("ab", 2, Cluster(1)), folder / "answers.jsonl"
    log = run(case, "baseline", real(case), stop_at(5.5), answers=answers)
    assert len(log) == 1
    return case, log, answers


def test_only_the_same_run_goes_on(tmp_path: Path):
    case, log, answers = stopped(tmp_path)
    path, baseline = Path("log.json"), find_policy("baseline")
    other = case_of("ba", 2, Cluster(1))
    with pytest.raises(InputError, match=r"policy: is baseline, not edf"):
        past_of(log, path, answers, *case, find_policy("edf"))
    with pytest.raises(InputError, match=r"policy_options: are {}, not those given"):
        past_of(log, path, answers, *case, replace(baseline, options={"knob": 1}))
    with pytest.raises(InputError, match="does not fit this run"):
        past_of(log, path, answers, *other, baseline)
    with pytest.raises(InputError, match="does not fit this run"):
        past_of(log, path, answers, case.workload, Cluster(2), "offline", baseline)
    with pytest.raises(InputError, match="is not the log of a run for real"):
        past_of(simulate(*case[:2]), path, answers, *case, baseline)
    with pytest.raises(InputError, match="has nothing left to do"):
        past_of(run(case, "baseline", real(case)), path, answers, *case, baseline)
    with pytest.raises(InputError, match="no such file"):
        past_of(log, path, tmp_path / "other", *case, baseline)
    answers.write_text(answers.read_text()[:-5])
    with pytest.raises(InputError, match=r"request r0, node n0: has no answer here"):
        past_of(log, path, answers, *case, baseline)


def test_later_nodes_are_given_the_answers_of_earlier_parts(tmp_path: Path):
    case, log, answers = stopped(tmp_path)
    past = past_of(log, Path("log.json"), answers, *case, find_policy("baseline"))
    fake = real(case)
    run(case, "baseline", fake, past=past, answers=answers)
    assert Counter(call.data["prompt"] for call in fake.asked) == {"": 1, "answer of a": 2}


# Prompts


def prompts(details: dict[str, list[str | None]]) -> Prompts:
    nodes = (
        Node("ask", "m", inputs=("question",), outputs=("draft",)),
        Node("check", "m", inputs=("draft", "rules"), outputs=("verdict",)),
        Node("end", "m"),
    )
    config = Config({"m": Model("m", 1.0)}, {"w": Workflow("w", nodes, ((0, 1), (1, 2), (0, 2)))})
    count = 2
    return Prompts(
        Workload(
            config,
            ["r0", "r1"],
            np.zeros(count, np.int32),
            np.zeros(count, np.int64),
            np.arange(6.0),
            details=details,
        )
    )


def test_nodes_are_asked_what_their_inputs_name():
    given_data = json.dumps({"question": "why?", "rules": {"be": "short"}, "more": "unused"})
    made = prompts({"input_data": [given_data, None], "node_configs": [json.dumps({"check": {"max_tokens": 7}}), None]})
    assert made.call(0).data == {"prompt": "why?"}
    assert made.call(0).seconds == 0.0
    made.remember(0, Answer("so."))
    made.remember(1, Answer("fine"))
    assert made.call(1).data == {"prompt": 'so.\n\n{"be": "short"}', "max_tokens": 7}
    assert made.call(1).seconds == 1.0
    everything = 'why?\n\n{"be": "short"}\n\nunused\n\nso.\n\nfine'
    parts = sorted(str(made.call(2).data["prompt"]).split("\n\n"))
    assert parts == sorted(everything.split("\n\n"))


def test_nodes_of_other_requests_are_not_mixed_in():
    made = prompts({"input_data": [json.dumps({"question": "why?"}), json.dumps({"question": "who?"})]})
    made.remember(0, Answer("first"))
    assert made.call(3).data == {"prompt": "who?"}
    made.remember(3, Answer("second"))
    assert made.call(4).data == {"prompt": "second"}
    assert prompts({}).call(0).data == {"prompt": ""}
