"""Policy search: never worse than baseline, what it finds is what runs, and it stops when it should."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import tiny
from strategies import RESIDENCIES, Case, cases

from gsched import session
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.policies import Policy, Setting, find_policy, search, tuning
from gsched.policies.search import Objective, Plan, figures
from gsched.simulator import execute
from gsched.state import Rows
from gsched.workload import Workload

OBJECTIVES = ("makespan", "mean", "p99", "makespan=1,mean=0.5,p99=2")


def watched(policy: Policy, watch: Callable[[Setting, Workload, Rows], None]) -> Policy:
    """Return the policy, with each of its trials shown."""

    def shown(setting: Setting) -> Setting:
        def trial(policy: Policy, workload: Workload, times: int = 1) -> Rows:
            rows = setting.trial(policy, workload, times)
            watch(setting, workload, rows)
            return rows

        return replace(setting, trial=trial)

    assert policy.review
    review = policy.review
    return replace(
        policy,
        prepare=lambda setting: policy.prepare(shown(setting)),
        review=lambda setting, table: review(shown(setting), table),
    )


def mixed() -> Workload:
    """A workload on which orders and switches matter."""
    workload = tiny({"a": 1, "b": 2, "c": 1}, "abca", count=8)
    return replace(workload, duration=np.random.default_rng(1).integers(1, 30, 32).astype(np.float64))


def same(rows: Rows, other: Rows) -> bool:
    return all((mine == theirs).all() for mine, theirs in zip(rows, other, strict=True))


@given(cases(residencies=RESIDENCIES), st.sampled_from(OBJECTIVES), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=60)
def test_never_worse_than_baseline(case: Case, text: str, trials: int, seed: int) -> None:
    workload, cluster = case.workload, case.cluster
    base = figures(execute(workload, cluster, find_policy("baseline"), "offline"), workload, "offline")
    policy = find_policy("search", {"objective": text, "trials": trials, "seed": seed})
    found = figures(execute(workload, cluster, policy, "offline"), workload, "offline")
    objective = Objective.parse(text)
    assert objective.score(found, base) <= objective.score(base, base)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("trials", [1, 5, 60])
def test_the_best_trial_is_what_runs(trials: int, compile: bool) -> None:
    seen: list[Rows] = []
    policy = watched(find_policy("search", {"trials": trials}), lambda _setting, _workload, rows: seen.append(rows))
    rows = execute(mixed(), Cluster(3), policy, "offline", compile=compile)
    spans = [figures(trial, mixed(), "offline")[0] for trial in seen]
    assert len(spans) == trials
    assert any(same(rows, trial) for trial, span in zip(seen, spans, strict=True) if span == min(spans))
    assert trials < 60 or min(spans) < spans[0]
    assert same(seen[0], execute(mixed(), Cluster(3), find_policy("baseline"), "offline"))


def space(ranked: bool = True) -> tuning.Space:
    def trial(*_args: object) -> Rows:
        raise NotImplementedError

    return tuning.Space(Setting(mixed(), Cluster(3), "offline", trial, lambda share: None), ranked)


def test_the_same_trials_give_the_same_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(search, "monotonic")  # no clock is read
    policies = [search.build(objective="mean", trials=200, seed=seed) for seed in (0, 0, 1)]
    runs = [execute(mixed(), Cluster(3), policy, "offline") for policy in policies]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_without_options_no_clock_is_read_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(search, "monotonic")
    seen: list[int] = []
    policy = watched(search.build(), lambda _setting, workload, _rows: seen.append(workload.node_count))
    monkeypatch.setattr(search, "NODES", 32 * 30)
    monkeypatch.setattr(search, "MOST_TRIALS", 100)
    execute(mixed(), Cluster(3), policy, "offline")
    assert len(seen) == 30


def test_a_budget_begins_when_the_first_trial_is_over_and_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    seen: list[float] = []
    shares: list[float] = []

    def trial_takes(_setting: Setting, _workload: Workload, _rows: Rows) -> None:
        clock[0] += 50 if not seen else 1
        seen.append(clock[0])

    monkeypatch.setattr(search, "monotonic", lambda: clock[0])
    policy = watched(find_policy("search", {"budget": 8}), trial_takes)
    execute(mixed(), Cluster(3), policy, "offline", compile=False, planning=shares.append)
    assert len(seen) == 9
    assert shares == [i / 8 for i in range(9)]


def test_progress_reaches_one() -> None:
    shares: list[float] = []
    execute(mixed(), Cluster(3), find_policy("search", {"trials": 70}), "offline", planning=shares.append)
    assert shares == [(i + 1) / 70 for i in range(70)]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"objective": "speed"}, "objective 'speed' must be made of makespan, mean, p99, as in makespan=1,p99=0.5"),
        ({"objective": "makespan=1,"}, "objective 'makespan=1,' must be made of makespan, mean, p99"),
        ({"objective": "mean=x"}, "objective 'mean=x': a weight must be a number from 0 on, not 'x'"),
        ({"objective": "mean=-1"}, "a weight must be a number from 0 on, not '-1'"),
        ({"objective": "mean=nan"}, "a weight must be a number from 0 on, not 'nan'"),
        ({"objective": "p99=inf"}, "a weight must be a number from 0 on, not 'inf'"),
        ({"objective": "mean=0,p99=0"}, "objective 'mean=0,p99=0' needs a weight above 0"),
        ({"trials": -1}, "trials, budget and seed must be numbers from 0 on"),
        ({"budget": float("nan")}, "trials, budget and seed must be numbers from 0 on"),
        ({"budget": float("inf")}, "trials, budget and seed must be numbers from 0 on"),
        ({"seed": -1}, "trials, budget and seed must be numbers from 0 on"),
        ({"trials": 3, "budget": 1}, "give either trials or budget"),
    ],
)
def test_options_out_of_range(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        find_policy("search", options)
    assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_objectives() -> None:
    figures, first = np.array([50.0, 30.0, 0.0]), np.array([100.0, 10.0, 0.0])
    assert Objective.parse("makespan").score(figures, first) == 0.5
    assert Objective.parse("mean").score(figures, first) == 3.0
    assert Objective.parse("p99").score(figures, first) == 1.0
    assert Objective.parse(" makespan=2, mean=0.5 ").score(figures, first) == pytest.approx((2 * 0.5 + 0.5 * 3) / 2.5)
    assert Objective.parse("mean,mean=3") == Objective.parse("mean=4")


def test_each_figure_can_be_made_small() -> None:
    found = []
    for objective in ("makespan", "mean", "p99"):
        policy = find_policy("search", {"objective": objective, "trials": 300})
        found.append(figures(execute(mixed(), Cluster(3), policy, "offline"), mixed(), "offline"))
    assert np.argmin(found, axis=0)[1] == 1
    assert found[0][0] == np.min(found, axis=0)[0]
    assert found[2][2] == np.min(found, axis=0)[2]


def test_a_workload_without_requests() -> None:
    nothing = mixed().select(np.zeros(0, np.int64))
    assert len(execute(nothing, Cluster(3), search.build(), "offline").node) == 0


# Online


def stream(requests: int) -> Workload:
    workload = tiny({"a": 1, "b": 2, "c": 1}, "abc", count=requests)
    stamps = np.arange(requests) * 7_000_000_000
    duration = np.random.default_rng(2).integers(1, 12, 3 * requests).astype(np.float64)
    return replace(workload, timestamp=stamps, duration=duration)


def test_online_it_begins_as_policy_online_does() -> None:
    workload = stream(31)  # no review yet
    expected = execute(workload, Cluster(4), find_policy("online"), "online")
    assert same(execute(workload, Cluster(4), search.build(trials=5), "online"), expected)


def test_reviews_replay_the_latest_of_what_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REVIEWED", 40)
    monkeypatch.setattr(search, "REVIEW_TRIALS", 6)
    seen: list[list[str]] = []
    policy = watched(search.build(), lambda _setting, workload, _rows: seen.append([*workload.request_ids]))
    rows = execute(stream(70), Cluster(4), policy, "online")
    assert seen == [[f"r{i}" for i in range(32)]] * 12 + [[f"r{i}" for i in range(24, 64)]] * 12
    assert len(rows.node) == 210


def test_a_review_takes_the_best_setting_and_keeps_what_the_policy_remembers() -> None:
    plans: list[tuple[Setting, Plan, Plan]] = []
    trials: list[tuple[Workload, Rows]] = []
    policy = watched(search.build(trials=120, objective="p99"), lambda _setting, *trial: trials.append(trial))
    review = policy.review
    assert review

    def kept(setting: Setting, plan: Plan) -> Plan:
        plans.append((setting, plan, review(setting, plan)))
        return plans[-1][2]

    execute(stream(33), Cluster(4), replace(policy, review=kept), "online")
    ((setting, before, after),) = plans
    for name in ("reserved", "since", "served", "look", "happened"):
        assert getattr(after.knobs, name).tolist() == list(getattr(before.knobs, name)), name
    assert same(trials[0][1], execute(setting.known, Cluster(4), find_policy("online"), "online"))
    (known, denser), arrival = (workload for workload, _ in trials[:2]), setting.known.arrival("online")
    assert known.arrival("online").tolist() == arrival.tolist()
    assert denser.arrival("online").tolist() == pytest.approx(0.8 * arrival)

    fresh = after._replace(knobs=after.knobs._replace(**fresh_memory(4, 3)))
    again = replace(policy, prepare=lambda _setting: fresh, review=None)
    trials += [(workload, setting.trial(again, workload)) for workload in (known, denser)]
    late = np.array([figures(rows, workload, "online")[2] for workload, rows in trials]).reshape(-1, 2)
    scores = (late / late[0]).mean(axis=1)
    assert scores[-1] == min(scores) < scores[0]


def fresh_memory(gpus: int, models: int) -> dict[str, object]:
    never = -np.inf
    counts = {"reserved": np.zeros(3, np.int64), "look": np.zeros(2 * models, np.int64), "happened": np.zeros(1, int)}
    return counts | {"since": np.full(gpus, never), "served": np.full(models, never)}


def test_a_budget_is_for_all_reviews(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FIRST_REVIEW", 8)
    clock = count()
    monkeypatch.setattr(search, "monotonic", lambda: float(next(clock)))
    seen: list[int] = []
    policy = watched(search.build(budget=20.0), lambda _setting, workload, _rows: seen.append(workload.request_count))
    execute(stream(70), Cluster(4), policy, "online", compile=False)
    # Each trial takes 1 s and runs twice; half of what is left is 10, then 5, 2.5 and 1; a first trial may compile.
    assert [seen.count(requests) for requests in (8, 16, 32, 64)] == [20, 10, 6, 2]


def test_a_budget_that_is_spent_ends_the_reviews(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FIRST_REVIEW", 8)
    clock = count(step=100)
    monkeypatch.setattr(search, "monotonic", lambda: float(next(clock)))
    seen: list[int] = []
    policy = watched(search.build(budget=20.0), lambda _setting, workload, _rows: seen.append(workload.request_count))
    execute(stream(40), Cluster(4), policy, "online", compile=False)
    assert seen == [8, 8]


def test_figures() -> None:
    workload = replace(tiny({"a": 1}, "aa", count=2), timestamp=np.array([0, 4_000_000_000]))
    rows = execute(workload, Cluster(1), find_policy("baseline"), "online")
    # a loads until 5; in the order in which they got ready: r0's first, r1's first (at 4), r0's second, r1's second
    assert (rows.time + rows.switch + 1).tolist() == [6.0, 7.0, 8.0, 9.0]
    assert figures(rows, workload, "online").tolist() == pytest.approx([9.0, (8 + 5) / 2, 5 + 0.99 * 3])
    assert figures(rows, workload, "offline").tolist() == pytest.approx([9.0, (8 + 9) / 2, 8 + 0.99])


# Annealing


def test_annealing_comes_down() -> None:
    random = np.random.default_rng(0)
    one = space().start(None, 1.0, tuning.NEVER)

    def height(candidate: tuning.Candidate) -> float:
        return float(np.abs(np.log(candidate.threshold) - 3).sum())

    def change(candidate: tuning.Candidate) -> tuning.Candidate:
        changed = candidate.copy()
        changed.threshold[random.integers(3)] *= np.exp(random.normal())
        return changed

    trials = count(1)
    best = tuning.anneal(height, [one], change, lambda: next(trials) / 500, random)
    assert height(best) < 0.3 < height(one)


def test_of_equal_candidates_the_first_is_returned() -> None:
    starts = [*space().starts()]
    trials = count(1)
    random = np.random.default_rng(0)
    best = tuning.anneal(lambda _: 1.0, starts, tuning.Candidate.copy, lambda: next(trials) / 200, random)
    assert best is starts[0]


def test_starts_are_many_but_begin_with_baseline() -> None:
    starts = [*space().starts()]
    first = starts[0]
    assert first.plain[0] == 1
    assert not first.mix.any()
    assert {(int(start.plain[0]), start.mix.tobytes()) for start in starts} == {
        (plain, mix.tobytes()) for plain in (0, 1) for mix in (np.zeros(5), *np.eye(5))
    }
    assert len({start.threshold[0] for start in starts}) == 3
    assert [int(start.plain[0]) for start in space(ranked=False).starts()] == [0]


def test_noise_counts_where_there_are_few_nodes() -> None:
    start = space().start(0, 1.0, tuning.NEVER)
    quiet = space().knobs(start).rank
    start.noise[5] = 0.25
    assert np.flatnonzero(space().knobs(start).rank - quiet).tolist() == [5]


def test_changes_change_and_leave_the_original_alone() -> None:
    for ranked in (True, False):
        places = space(ranked)
        original = next(iter(places.starts()))
        before = original.copy()
        random = np.random.default_rng(3)
        changed = [places.change(original, random) for _ in range(300)]
        assert all((mine == theirs).all() for mine, theirs in zip(original, before, strict=True))
        assert {int(other.plain[0]) for other in changed} == ({0, 1} if ranked else {0})
        for name in ("threshold", "weight", "reserve", "limit", "stride", "value"):
            assert any((getattr(other, name) != getattr(original, name)).any() for other in changed), name
        limits = np.array([other.limit for other in changed])
        assert limits.min() >= 1
        assert (limits <= [4, 4, 4]).all()
