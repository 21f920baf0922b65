"""What policies are given: options, a view of the state, alarms, and a look back at what has arrived."""

import math
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small import tiny

from gsched import policies
from gsched.cluster import Cluster
from gsched.core import WAIT
from gsched.errors import InputError, PolicyError
from gsched.policies import Policy, Setting, find_policy, policy_options
from gsched.simulator import execute, simulate
from gsched.workload import Workload


class Greedy:
    """Does whatever it is told to: a stand-in for policies with mistakes."""

    def __init__(self, decision: object) -> None:
        self.decision = decision

    def choose(self, view: object) -> object:
        return self.decision


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


def test_mistake_in_a_policy_is_told_with_its_line() -> None:
    class Broken:
        def choose(self, view):
            return 1 / 0

    with pytest.raises(PolicyError, match=r"Broken: choose failed at .*test_policies.py:\d+: ZeroDivisionError"):
        simulate(tiny({"a": 1}, "a"), Cluster(1), Broken())


def test_unknown_policy_is_told_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="policy fastest: is unknown; choose baseline"):
        simulate(tiny({"a": 1}, "a"), Cluster(1), "fastest")


@pytest.mark.parametrize("name", ["../up", "a/b", "", "..", "a\0b", "two words"])
def test_policy_whose_name_no_file_can_have_is_refused(name: str) -> None:
    policy = Greedy(None)
    policy.name = name
    with pytest.raises(InputError, match="has a name that no file can have"):
        simulate(tiny({"a": 1}, "a"), Cluster(1), policy)


def test_policy_that_exits_is_told_not_obeyed() -> None:
    class Quitter:
        def choose(self, view):
            raise SystemExit(0)

    with pytest.raises(PolicyError, match=r"policy Quitter: choose failed at .*: SystemExit: 0"):
        simulate(tiny({"a": 1}, "a"), Cluster(1), Quitter())


@pytest.mark.parametrize("key", [10**400, float("nan"), "first", None, 1j])
def test_order_must_be_a_number(key: object) -> None:
    class Odd(ShortestFirst):
        def order(self, view, node):
            return key

    with pytest.raises(PolicyError, match=r"order returned .* for node 0, not a number"):
        simulate(tiny({"a": 1}, "a"), Cluster(1), Odd())


def test_order_may_be_any_kind_of_number() -> None:
    class Kinds(ShortestFirst):
        def order(self, view, node):
            return [np.float32(2), np.int64(1), True, float("inf"), -1][node % 5]

    log = simulate(tiny({"a": 1}, "a", count=5), Cluster(1), Kinds())
    assert log.request_id.texts() == ["r4", "r1", "r2", "r0", "r3"]


class Curious:
    """Asks the view one question, then schedules anything."""

    def __init__(self, question) -> None:
        self.question = question
        self.answers = []

    def choose(self, view):
        if not self.answers:
            self.answers.append(self.question(view))
        return next(((model, view.idle_gang(model)) for model in view.waiting() if view.idle_gpus), None)


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        (lambda view: view.duration(1), "node 1 is not ready yet"),
        (lambda view: view.request(3), "node 3 is not ready yet"),
        (lambda view: view.arrival(2), "node 2 is not ready yet"),
        (lambda view: view.due(2), "node 2 is not ready yet"),
        (lambda view: view.tier(2), "node 2 is not ready yet"),
        (lambda view: view.duration(-1), "there is no node -1"),
        (lambda view: view.held_model(-1), "there is no GPU -1"),
        (lambda view: view.backlog(-1), "there is no model -1"),
        (lambda view: view.warm_gang(2), "there is no model 2"),
        (lambda view: view.held_gangs(2), "there is no model 2"),
        (lambda view: view.work(-1), "there is no model -1"),
        (lambda view: view.free_at(1), "there is no GPU 1"),
        (lambda view: view.wake_at("soon"), "could not convert string to float"),
        (lambda view: view.next_node(1), "no node of model 1 is ready"),
        (lambda view: view.next_key(1), "no node of model 1 is ready"),
    ],
)
def test_view_shows_neither_the_future_nor_what_is_not_there(question, complaint) -> None:
    workload = replace(tiny({"a": 1, "b": 1}, "ab", count=2), timestamp=np.array([0, 10**9]))
    with pytest.raises(PolicyError, match=rf"choose failed at .*test_policies.py:\d+: .*{complaint}"):
        simulate(workload, Cluster(1), Curious(question), "online")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (lambda view: view.duration(0), 2.0),
        (lambda view: view.request(2), 1),
        (lambda view: (view.next_node(0), view.next_key(0), view.backlog(0), view.backlog(1)), (0, 0.0, 2, 0)),
        (lambda view: (view.idle_gpus, view.now, view.held_model(0), list(view.waiting())), (1, 0.0, None, [0])),
        (lambda view: (view.warm_gang(0), view.idle_gang(0), view.models[1].id, view.cluster.gpus), (None, 0, "b", 1)),
    ],
)
def test_view_answers(question, answer) -> None:
    policy = Curious(question)
    simulate(tiny({"a": 1, "b": 1}, "ab", count=2, duration=2.0), Cluster(1), policy)
    assert policy.answers == [answer]


def served(count: int, timestamps: list[int] | None = None) -> Workload:
    """Requests of one node each for one model, a second apart, with deadlines and tiers."""
    stamps = np.arange(count) * 1_000_000_000 if timestamps is None else np.array(timestamps)
    tiers, deadlines = np.arange(count) % 3 + 1, np.where(np.arange(count) % 2, np.inf, 4.0)
    return replace(tiny({"a": 1}, "a", count), timestamp=stamps, tier=tiers, deadline=deadlines)


class Diary(ShortestFirst):
    """Writes down what the view says of a node when it becomes ready, and of the cluster at each decision."""

    def __init__(self) -> None:
        self.nodes, self.states = [], []

    def order(self, view, node):
        self.nodes.append((view.request(node), view.arrival(node), view.due(node), view.tier(node)))
        return view.now

    def choose(self, view):
        self.states.append((view.now, view.backlog(0), view.work(0), view.held_gangs(0), view.free_at(0)))
        return super().choose(view)


def test_view_tells_arrival_due_time_and_tier() -> None:
    diary = Diary()
    simulate(served(3), Cluster(1), diary, "online")
    assert diary.nodes == [(0, 0.0, 4.0, 1), (1, 1.0, math.inf, 2), (2, 2.0, 6.0, 3)]


def test_view_tells_that_nobody_set_deadlines_or_tiers() -> None:
    diary = Diary()
    simulate(tiny({"a": 1}, "a"), Cluster(1), diary)
    assert diary.nodes == [(0, 0.0, math.inf, 1)]


def test_view_tells_work_held_gangs_and_when_a_gpu_is_free() -> None:
    diary = Diary()
    simulate(tiny({"a": 1}, "a", count=2, duration=3.0), Cluster(1), diary)
    # two nodes wait; one starts (5 s of loading, 3 s of execution); at 8 the other; at 11 nothing is left
    assert diary.states == [
        (0.0, 2, 6.0, 0, 0.0),
        (0.0, 1, 3.0, 1, 8.0),
        (8.0, 1, 3.0, 1, 8.0),
        (8.0, 0, 0.0, 1, 11.0),
        (11.0, 0, 0.0, 1, 11.0),
    ]


class Sleeper:
    """Starts nothing before a time, for which it sets alarms, and notes when it was asked."""

    def __init__(self, until: float, *alarms: float) -> None:
        self.until, self.alarms, self.asked = until, alarms, []

    def choose(self, view):
        self.asked.append(view.now)
        if view.now >= self.until and view.backlog(0) and view.idle_gang(0) is not None:
            return 0, view.idle_gang(0)
        for alarm in self.alarms:
            view.wake_at(alarm)
        return None


def test_policy_is_woken_at_the_earliest_of_its_alarms() -> None:
    sleeper = Sleeper(2.5, 7.0, 2.5, 4.0)
    log = simulate(tiny({"a": 1}, "a"), Cluster(1), sleeper)
    assert sleeper.asked == [0.0, 2.5, 2.5, 4.0, 7.0, 8.5]  # it sets all alarms anew each time; the node runs until 8.5
    assert (log.ready_time[0], log.waiting_time[0], log.start_time[0]) == (0.0, 2.5, 7.5)


def test_alarm_holds_until_the_policy_is_asked_next() -> None:
    class Once(Sleeper):
        def choose(self, view):
            self.alarms = self.alarms if view.now == 0 else ()
            return super().choose(view)

    sleeper = Once(1.0, 50.0)
    simulate(served(2), Cluster(1), sleeper, "online")
    assert sleeper.asked == [0.0, 1.0, 1.0, 7.0, 7.0, 8.0]  # an arrival comes first, and 50 is forgotten


@pytest.mark.parametrize("alarm", [-1.0, 0.0, math.nan, -math.inf, math.inf])
def test_alarm_that_never_rings_leaves_a_policy_stuck(alarm: float) -> None:
    with pytest.raises(PolicyError, match="waits although 1 nodes are ready and nothing is left to wait for"):
        simulate(tiny({"a": 1}, "a"), Cluster(1), Sleeper(1.0, alarm))


@pytest.mark.parametrize("step", [1e-9, 1.0, 1e300])
def test_endless_alarms_end(step: float) -> None:
    class Insomniac:
        def choose(self, view):
            view.wake_at(view.now + step)

    with pytest.raises(PolicyError, match="waits although 1 nodes are ready"):
        simulate(tiny({"a": 1}, "a"), Cluster(1), Insomniac())


def test_many_alarms_are_fine_while_things_happen() -> None:
    class Nervous(Sleeper):
        def choose(self, view):
            view.wake_at(view.now + 1 / 1024)
            return super().choose(view)

    log = simulate(served(30), Cluster(1), Nervous(0.0), "online")  # more than 10,000 alarms in all
    assert log.end_time[-1] == 35.0


class Reviewer:
    """Notes what `review` is shown, and serves in the order of arrival."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.tables: list[int] = []
        self.settings: list[Setting] = []

    def policy(self) -> Policy:
        return Policy("reviewer", self.choose, prepare=self.prepare, review=self.review)

    def prepare(self, setting: Setting) -> int:
        self.settings.append(setting)
        return 0

    def review(self, setting: Setting, table: int) -> int:
        self.settings.append(setting)
        self.seen.append(list(setting.known.request_ids))
        return table + 1

    def choose(self, core: Any, table: int) -> tuple[int, int]:
        self.tables.append(table)
        return find_policy("baseline").choose(core, ())


def reviewed(workload: Workload, mode: str) -> Reviewer:
    reviewer = Reviewer()
    execute(workload, Cluster(4), reviewer.policy(), mode)
    return reviewer


def test_review_sees_exactly_what_has_arrived_each_time_that_has_doubled() -> None:
    workload = served(130)
    reviewer = reviewed(workload, "online")
    assert reviewer.seen == [[f"r{i}" for i in range(count)] for count in (32, 64, 128)]
    assert sorted(set(reviewer.tables)) == [0, 1, 2, 3]
    known = reviewer.settings[1].known
    assert known.duration.tolist() == [1.0] * 32
    assert known.tier.tolist() == workload.tier[:32].tolist()


def test_review_sees_ties_together_and_requests_by_arrival() -> None:
    stamps = [3_000_000_000] * 10 + [1_000_000_000] * 40 + [5_000_000_000] * 49 + [7_000_000_000]
    reviewer = reviewed(served(100, stamps), "online")
    by_arrival = [*range(10, 50), *range(10), *range(50, 100)]
    assert reviewer.seen == [[f"r{i}" for i in by_arrival[:count]] for count in (40, 99)]


def test_review_is_for_what_arrives() -> None:
    assert reviewed(served(130), "offline").seen == []
    assert reviewed(served(31), "online").seen == []


@pytest.mark.parametrize(("mode", "known"), [("offline", 40), ("online", 0)])
def test_policies_plan_with_what_they_may_know(mode: str, known: int) -> None:
    setting = reviewed(served(40), mode).settings[0]
    assert (setting.known.request_count, setting.known.node_count, setting.mode) == (known, known, mode)
    assert [model.id for model in setting.known.models] == ["a"]


def test_trial_runs_in_the_same_setting() -> None:
    rows = []

    def prepare(setting: Setting) -> tuple[()]:
        rows.append(setting.trial(find_policy("baseline"), setting.known.select(np.array([2, 0]))))
        return ()

    execute(served(3), Cluster(1), replace(find_policy("baseline"), prepare=prepare), "offline")
    assert (rows[0].node.tolist(), rows[0].time.tolist()) == ([0, 1], [0.0, 6.0])


# Options


def build(*, share: float = 0.5, count: int = 3, eager: bool = False, title: str = "x") -> Policy:
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    options = {"share": share, "count": count, "eager": eager, "title": title}
    return Policy("sample", lambda core, table: WAIT, options=options)


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A built-in policy with an option of every type."""
    monkeypatch.setitem(sys.modules, "gsched.policies.sample", SimpleNamespace(build=build))
    monkeypatch.setattr(policies, "BUILT_IN", ("sample",))


DEFAULTS = {"share": 0.5, "count": 3, "eager": False, "title": "x"}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, {}),
        ({"share": "0.25", "count": "7", "eager": "true", "title": "y"}, None),
        ({"share": 0.25, "count": np.int64(7), "eager": True, "title": "y"}, None),
        ({"eager": "False", "share": 2}, {"share": 2.0}),
    ],
)
@pytest.mark.usefixtures("sample")
def test_options_are_converted(given: dict[str, Any], meant: dict[str, Any] | None) -> None:
    expected = {"share": 0.25, "count": 7, "eager": True, "title": "y"} if meant is None else DEFAULTS | meant
    options = find_policy("sample", given).options
    assert options == expected
    assert [type(options[name]) for name in ("share", "eager")] == [float, bool]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"shares": 1}, "policy sample: has no option shares; did you mean share?"),
        ({"zzz": 1, "yyy": 2}, "policy sample: has no option zzz; it has share, count, eager, title"),
        ({"share": "much"}, "option share must be a number, not 'much'"),
        ({"share": None}, "option share must be a number, not None"),
        ({"share": True}, "option share must be a number, not True"),
        ({"share": 10**400}, "option share must be a number, not 1000"),
        ({"count": "2.5"}, "option count must be a whole number, not '2.5'"),
        ({"count": 2.5}, "option count must be a whole number, not 2.5"),
        ({"count": True}, "option count must be a whole number, not True"),
        ({"eager": "yes"}, "option eager must be true or false, not 'yes'"),
        ({"eager": 1}, "option eager must be true or false, not 1"),
        ({"eager": None}, "option eager must be true or false, not None"),
        ({"count": 0}, "policy sample: count must be at least 1, not 0; correct the option"),
    ],
)
@pytest.mark.usefixtures("sample")
def test_wrong_options_are_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as raised:
        find_policy("sample", given)
    assert complaint in str(raised.value)


@pytest.mark.usefixtures("sample")
def test_options_are_told_with_their_defaults() -> None:
    assert policy_options("sample") == DEFAULTS


@pytest.mark.parametrize("policy", [Greedy(None), find_policy("baseline")])
def test_objects_take_no_options(policy: object) -> None:
    with pytest.raises(InputError, match="options: are for policies given by name; set them on the object"):
        find_policy(policy, {"share": 1})


@pytest.mark.parametrize("name", policies.BUILT_IN)
def test_defaults_of_the_built_in_policies_are_their_options(name: str) -> None:
    """What the log says of a policy that was given no options is what it says if it was given all defaults."""
    defaults = policy_options(name)
    assert all(isinstance(default, (int, float, bool, str)) for default in defaults.values())
    assert find_policy(name, defaults).options == find_policy(name).options
    assert find_policy(name, {key: str(value) for key, value in defaults.items()}).options == find_policy(name).options
