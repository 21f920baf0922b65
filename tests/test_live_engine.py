"""The scheduler's engine: decides as the simulator does, answers everything once, keeps to its rules."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gsched.cluster import Cluster
from gsched.live.scheduler.engine import Abort, Answer, Batch, Engine, Outcome, Request, Rules, Start
from gsched.live.scheduler.estimates import ServiceTimes
from gsched.live.scheduler.twin import replay
from gsched.policies import find_policy
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Workflow, Workload

POLICIES = ("baseline", "edf", "tiered")
OBEDIENT = Rules(max_batch=1, max_queue=500, admission=False, drop=False, preempt=False)


@dataclass(frozen=True)
class Arrival:
    at: float
    model: int
    tier: int
    due: float
    seconds: float

    def request(self) -> Request:
        return Request(self.model, self.tier, self.due, self.at, payload=self)


_ticks = st.integers(0, 40).map(lambda n: n / 4)


@st.composite
def streams(draw: st.DrawFn, most: int = 25) -> list[Arrival]:
    """Requests with many ties, some without deadlines, some with hopeless ones."""
    arrivals = sorted(draw(st.lists(_ticks, min_size=1, max_size=most)))
    return [
        Arrival(
            at,
            draw(st.integers(0, 1)),
            draw(st.integers(1, 3)),
            at + draw(st.sampled_from([0.0, 0.5, 1.0, 4.0, 20.0, math.inf])),
            draw(st.sampled_from([0.25, 0.5, 1.0, 3.0])),
        )
        for at in arrivals
    ]


rules = st.builds(
    Rules,
    max_batch=st.integers(1, 4),
    max_queue=st.integers(1, 6) | st.just(100),
    admission=st.booleans(),
    drop=st.booleans(),
    preempt=st.booleans(),
    max_stops=st.integers(0, 2),
    margin=st.sampled_from([0.0, 0.1]),
)


def new_engine(policy: str, devices: int, rules: Rules, **options: object) -> Engine:
    times = ServiceTimes([(0.25, 0.5), (0.0, 1.0)])
    return Engine(["a", "b"], devices, find_policy(policy, options), times, rules)


def batch_seconds(batch: Batch) -> float:
    return max(request.payload.seconds for request in batch.requests)


@dataclass
class Spy(Engine):
    """An engine that checks itself after each event and remembers what it started."""

    starts: list[tuple[float, int, tuple[Request, ...]]] = field(default_factory=list)

    def _instructions(self) -> list:  # type: ignore[type-arg]
        out = super()._instructions()
        self.validate()
        for instruction in out:
            if isinstance(instruction, Start):
                batch = instruction.batch
                self.starts.append((batch.started, instruction.device, tuple(batch.requests)))
        return out


def spy(policy: str, devices: int, rules: Rules, **options: object) -> Spy:
    plain = new_engine(policy, devices, rules, **options)
    return Spy(plain.models, devices, plain.policy, plain.times, rules)


@st.composite
def streams_without_ties(draw: st.DrawFn) -> list[Arrival]:
    """In the simulator, all that happens at one moment comes before the decision; live, one thing comes at a time."""
    return [
        replace(arrival, at=arrival.at + i * 0.0137, due=arrival.due + i * 0.0137, seconds=arrival.seconds * 1.00731)
        for i, arrival in enumerate(draw(streams()))
    ]


@pytest.mark.parametrize("policy", POLICIES)
@given(stream=streams_without_ties(), devices=st.integers(1, 3))
def test_decides_as_the_simulator_does(policy: str, stream: list[Arrival], devices: int) -> None:
    """Without batches, drops and preemption, requests start when their nodes do in a simulation."""
    workload = Workload(
        Config(
            {name: Model(name, 0.0, load_time_seconds=0.0) for name in "ab"},
            {name: Workflow(name, (Node("run", name),)) for name in "ab"},
        ),
        [str(i) for i in range(len(stream))],
        np.array([arrival.model for arrival in stream], np.int32),
        np.array([round(arrival.at * 1e9) for arrival in stream], np.int64),
        np.array([arrival.seconds for arrival in stream]),
        deadline=np.array([arrival.due - arrival.at for arrival in stream]),
        tier=np.array([arrival.tier for arrival in stream], np.int32),
    )
    log = simulate(workload, Cluster(devices, switch_overhead=0.0, residency="shared"), policy, "online")
    simulated = dict(zip(log.request_id.codes.tolist(), log.start_time.tolist(), strict=True))
    requests = [arrival.request() for arrival in stream]
    list(replay(new_engine(policy, devices, OBEDIENT), requests, batch_seconds))
    live = {i: request.started - stream[0].at for i, request in enumerate(requests)}
    assert live == pytest.approx(simulated, abs=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
@given(stream=streams(), devices=st.integers(1, 3), rules=rules)
def test_every_request_has_one_answer(policy: str, stream: list[Arrival], devices: int, rules: Rules) -> None:
    engine = spy(policy, devices, rules)
    requests = [arrival.request() for arrival in stream]
    answers = list(replay(engine, requests, batch_seconds))
    assert Counter(id(answer.request) for _, answer in answers) == Counter(map(id, requests))
    assert engine.idle
    assert [now for now, _ in answers] == sorted(now for now, _ in answers)
    assert all(now >= answer.request.arrival for now, answer in answers)
    for at, _, batch in engine.starts:
        assert len(batch) <= rules.max_batch
        assert len({request.model for request in batch}) == 1
        assert all(request.arrival <= at for request in batch)
    computed = Counter(id(request) for _, _, batch in engine.starts for request in batch)
    for _, answer in answers:
        request = answer.request
        assert request.stops <= (rules.max_stops if rules.preempt else 0)
        if answer.outcome is Outcome.DONE:
            assert computed[id(request)] == request.stops + 1
        if not rules.drop:
            assert answer.outcome in (Outcome.DONE, Outcome.REJECTED)


@given(stream=streams(), rules=rules, devices=st.integers(1, 2))
def test_nobody_is_dropped_while_there_is_time(stream: list[Arrival], rules: Rules, devices: int) -> None:
    engine = spy("tiered", devices, rules)
    for now, answer in replay(engine, [arrival.request() for arrival in stream], batch_seconds):
        if answer.outcome is Outcome.EXPIRED:
            needs = engine.times.careful(answer.request.model, 1)
            assert answer.request.due < math.inf
            # what it needs may have been thought to be more than it is known to be now
            assert now + max(needs, 1.0) * 20 + rules.margin >= answer.request.due


def sequential(engine: Engine, requests: list[Request]) -> list[Request]:
    """The order in which requests end when all are there before the first device is free."""
    blocker = Request(0, 1, math.inf, 0.0, payload=Arrival(0.0, 0, 1, math.inf, 1.0))
    order = [answer.request for _, answer in replay(engine, [blocker, *requests], batch_seconds)]
    assert order[0] is blocker
    return order[1:]


def waiting(tier: int, due: float, model: int = 0, at: float = 0.0) -> Request:
    return Request(model, tier, due, at, payload=Arrival(at, model, tier, due, 1.0))


def test_fifo_goes_by_arrival() -> None:
    requests = [waiting(3, 90.0), waiting(1, 50.0, 1), waiting(2, 70.0)]
    assert sequential(new_engine("baseline", 1, OBEDIENT), requests) == requests


def test_edf_goes_by_deadline() -> None:
    a, b, c = waiting(3, 90.0), waiting(1, 50.0, 1), waiting(2, 70.0)
    assert sequential(new_engine("edf", 1, OBEDIENT), [a, b, c]) == [b, c, a]


def test_tiered_goes_by_tier_then_by_deadline() -> None:
    a, b, c, d = waiting(3, 10.0), waiting(1, 90.0, 1), waiting(1, 70.0), waiting(2, 5.0)
    assert sequential(new_engine("tiered", 1, OBEDIENT), [a, b, c, d]) == [c, b, d, a]


def test_aging_lets_a_lower_tier_pass() -> None:
    for aging, first in ((10.0, 3), (11.0, 1)):
        engine = new_engine("tiered", 1, OBEDIENT, aging=aging)
        assert sequential(engine, [waiting(1, 31.0), waiting(3, 10.0)])[0].tier == first


def test_aging_bounds_the_wait_of_the_lowest_tier() -> None:
    """With an overload of tier 1 without end, a request of tier 3 starts as soon as aging says."""
    late = waiting(3, 2.0)
    stream = [Request(0, 1, i + 1.0, float(i), payload=Arrival(0.0, 0, 1, 0.0, 1.5)) for i in range(60)]
    engine = new_engine("tiered", 1, OBEDIENT, aging=5.0)
    for _ in replay(engine, [stream[0], late, *stream[1:]], batch_seconds):
        pass
    assert 11.0 <= late.started <= 11.0 * 1.5 + 3.0
    strict = new_engine("tiered", 1, OBEDIENT)
    last = waiting(3, 2.0)
    fresh = [Request(0, 1, i + 1.0, float(i), payload=Arrival(0.0, 0, 1, 0.0, 1.5)) for i in range(60)]
    for _ in replay(strict, [fresh[0], last, *fresh[1:]], batch_seconds):
        pass
    assert last.started > max(request.started for request in fresh)


def only(kind: type, instructions: list[object]) -> list:  # type: ignore[type-arg]
    return [instruction for instruction in instructions if isinstance(instruction, kind)]


def answers_of(instructions: list[object]) -> list[tuple[Request, Outcome]]:
    return [(answer.request, answer.outcome) for answer in only(Answer, instructions)]


def test_batches_take_what_waits_up_to_the_limit() -> None:
    engine = new_engine("baseline", 1, Rules(max_batch=3))
    engine.submit(waiting(1, math.inf), 0.0)
    requests = [waiting(1, math.inf, at=0.1) for _ in range(5)]
    for request in requests:
        engine.submit(request, 0.1)
    (start,) = only(Start, engine.completed(0, 1.0))
    assert start.batch.requests == requests[:3]


def test_a_batch_does_not_grow_beyond_a_deadline_in_it() -> None:
    """A batch of n takes 0.25 + n/2 s: with 1.3 s left, two fit."""
    engine = new_engine("baseline", 1, Rules(max_batch=8, admission=False))
    engine.submit(waiting(1, math.inf), 0.0)
    for _ in range(4):
        engine.submit(waiting(1, 2.05, at=0.1), 0.1)
    (start,) = only(Start, engine.completed(0, 0.75))
    assert len(start.batch.requests) == 2


def test_models_are_not_mixed_in_a_batch() -> None:
    engine = new_engine("baseline", 1, Rules(max_batch=8))
    engine.submit(waiting(1, math.inf), 0.0)
    for model in (0, 1, 0):
        engine.submit(waiting(1, math.inf, model, at=0.1), 0.1)
    (start,) = only(Start, engine.completed(0, 1.0))
    assert [request.model for request in start.batch.requests] == [0, 0]


def test_hopeless_requests_expire_on_arrival() -> None:
    engine = new_engine("edf", 1, Rules())
    request = waiting(1, 0.7)
    (answer,) = engine.submit(request, 0.0)
    assert isinstance(answer, Answer)
    assert (answer.request, answer.outcome) == (request, Outcome.EXPIRED)
    assert "700.0 ms left, 750.0 ms needed" in answer.message
    assert only(Start, engine.submit(waiting(1, 0.76), 0.0))


def test_admission_counts_the_work_that_goes_before() -> None:
    """One batch of 0.75 s runs and one waits with 0.5625 s (an eighth of a full batch); the third needs 0.75 s."""
    engine = new_engine("edf", 1, Rules())
    engine.submit(waiting(1, math.inf), 0.0)
    engine.submit(waiting(1, 9.0), 0.0)
    assert answers_of(engine.submit(waiting(1, 1.51), 0.0)) == []  # goes before the one due at 9
    each = (0.25 + 8 * 0.5) / 8
    late, in_time = waiting(1, 0.75 + each + 0.74), waiting(1, 0.75 + each + 0.76)
    assert answers_of(engine.submit(late, 0.0)) == [(late, Outcome.REJECTED)]
    assert answers_of(engine.submit(in_time, 0.0)) == []


def test_waiting_requests_expire_when_it_is_too_late_to_start() -> None:
    engine = new_engine("edf", 1, Rules(admission=False))
    engine.submit(waiting(1, math.inf), 0.0)
    request = waiting(1, 3.0)
    assert engine.submit(request, 0.0) == []
    assert engine.next_wake == 2.25
    assert engine.wake(2.2) == []
    assert answers_of(engine.wake(2.25)) == [(request, Outcome.EXPIRED)]
    assert engine.next_wake == math.inf


def test_requests_that_have_left_are_forgotten_though_one_waits_long() -> None:
    engine = spy("tiered", 1, Rules(max_queue=3, max_batch=1, admission=False))
    engine.submit(waiting(1, 1e6), 0.0)
    patient = waiting(3, 1e5)
    engine.submit(patient, 0.0)
    for i in range(50):
        engine.submit(waiting(1, 1e6 + i, at=float(i)), float(i))
        engine.completed(0, i + 0.5)
    assert engine.next_wake == pytest.approx(1e5, rel=0.01)
    assert answers_of(engine.wake(1e5)) == [(patient, Outcome.EXPIRED)]


def test_margin_is_kept_before_deadlines() -> None:
    engine = new_engine("edf", 1, Rules(admission=False, margin=0.5))
    engine.submit(waiting(1, math.inf), 0.0)
    engine.submit(waiting(1, 3.0), 0.0)
    assert engine.next_wake == 1.75


def test_full_queue_rejects_and_lower_tiers_make_room() -> None:
    engine = new_engine("tiered", 1, Rules(max_queue=2, admission=False))
    engine.submit(waiting(1, math.inf), 0.0)
    third, second = waiting(3, 50.0), waiting(2, 50.0)
    engine.submit(third, 0.0)
    engine.submit(second, 0.0)
    other = waiting(3, 40.0)
    assert answers_of(engine.submit(other, 0.0)) == [(other, Outcome.REJECTED)]
    assert answers_of(engine.submit(waiting(2, 60.0), 0.0)) == [(third, Outcome.REJECTED)]
    assert answers_of(engine.submit(waiting(1, 60.0), 0.0))[0][1] is Outcome.REJECTED
    assert engine.queue_length == 2


def preemptible(**changed: object) -> tuple[Engine, Request]:
    """An engine whose device runs a request of tier 3 for 0.75 s."""
    engine = new_engine("tiered", 1, Rules(admission=False, **changed))  # type: ignore[arg-type]
    request = waiting(3, 100.0)
    engine.submit(request, 0.0)
    return engine, request


def test_running_work_gives_way_where_a_higher_tier_would_be_late() -> None:
    engine, victim = preemptible()
    urgent = waiting(1, 1.0)
    assert engine.submit(urgent, 0.0) == [Abort(0)]
    assert engine.wake(0.1) == []  # it is asked to stop only once
    (start,) = only(Start, engine.aborted(0, 0.1))
    assert start.batch.requests == [urgent]
    (start,) = only(Start, engine.completed(0, 0.9))
    assert start.batch.requests == [victim]
    assert victim.stops == 1
    assert engine.submit(waiting(1, 2.0, at=0.9), 0.9) == []  # nobody is stopped twice
    assert answers_of(engine.completed(0, 1.65))[0] == (victim, Outcome.DONE)


@pytest.mark.parametrize(
    ("request_", "changed"),
    [
        (waiting(1, 1.6), {}),  # it can wait for the end
        (waiting(1, 0.7), {}),  # it would be late all the same
        (waiting(3, 1.0), {}),  # it is no more important
        (waiting(1, 1.0), {"preempt": False}),
        (waiting(1, 1.0), {"max_stops": 0}),
    ],
)
def test_running_work_is_left_alone_otherwise(request_: Request, changed: dict[str, object]) -> None:
    engine, _ = preemptible(**changed)
    fresh = Request(request_.model, request_.tier, request_.due, 0.0, payload=request_.payload)
    assert only(Abort, engine.submit(fresh, 0.0)) == []


def test_a_batch_that_ends_before_it_is_stopped_is_done() -> None:
    engine, victim = preemptible()
    engine.submit(waiting(1, 1.0), 0.0)
    assert answers_of(engine.completed(0, 0.05))[0] == (victim, Outcome.DONE)


def test_cancelled_requests_leave_the_queue_without_being_computed() -> None:
    engine = new_engine("baseline", 1, Rules(max_batch=1))
    running, gone, next_ = (waiting(1, math.inf) for _ in range(3))
    for request in (running, gone, next_):
        engine.submit(request, 0.0)
    assert answers_of(engine.cancel(gone, 0.1)) == [(gone, Outcome.CANCELLED)]
    assert engine.cancel(gone, 0.1) == []
    (start,) = only(Start, engine.completed(0, 1.0))
    assert start.batch.requests == [next_]
    assert answers_of(engine.cancel(next_, 1.1)) == [(next_, Outcome.CANCELLED)]
    assert answers_of(engine.completed(0, 2.0)) == []
    assert engine.idle


def test_failures_answer_the_whole_batch_and_the_next_starts() -> None:
    engine = new_engine("baseline", 1, Rules(max_batch=1))
    first, second = waiting(1, math.inf), waiting(1, math.inf)
    engine.submit(first, 0.0)
    engine.submit(second, 0.0)
    out = engine.failed(0, "broken", 0.5)
    assert answers_of(out) == [(first, Outcome.FAILED)]
    assert only(Start, out)[0].batch.requests == [second]


def test_closing_answers_what_waits_and_what_runs() -> None:
    engine = new_engine("baseline", 1, Rules(max_batch=1))
    requests = [waiting(1, math.inf) for _ in range(3)]
    for request in requests:
        engine.submit(request, 0.0)
    assert sorted(id(request) for request, _ in answers_of(engine.close("over"))) == sorted(map(id, requests))
    assert engine.completed(0, 1.0) == []
    assert engine.idle


def test_admission_divides_the_work_among_devices() -> None:
    """Two batches of 0.75 s run; behind them a request would be done after 1.5 s on average, and not before."""
    engine = new_engine("edf", 2, Rules())
    for _ in range(2):
        engine.submit(waiting(1, math.inf), 0.0)
    late, in_time = waiting(1, 1.49), waiting(1, 1.51)
    assert answers_of(engine.submit(late, 0.0)) == [(late, Outcome.REJECTED)]
    assert answers_of(engine.submit(in_time, 0.0)) == []


def test_admission_counts_those_with_an_equal_key() -> None:
    engine = new_engine("baseline", 1, Rules())
    engine.submit(waiting(1, math.inf), 0.0)
    engine.submit(waiting(1, math.inf), 0.0)
    late = waiting(1, 0.75 + 0.75)  # enough without the one that waits
    assert answers_of(engine.submit(late, 0.0)) == [(late, Outcome.REJECTED)]


def test_admission_expects_overdue_batches_to_end_now() -> None:
    engine = new_engine("baseline", 1, Rules())
    engine.submit(waiting(1, math.inf), 0.0)
    late = waiting(1, 10.0 + 0.74, at=10.0)
    assert answers_of(engine.submit(late, 10.0)) == [(late, Outcome.EXPIRED)]
    waits = waiting(1, 10.0 + 1.0, at=10.0)
    assert answers_of(engine.submit(waits, 10.0)) == []
    behind = waiting(1, 10.0 + 1.2, at=10.0)
    assert answers_of(engine.submit(behind, 10.0)) == [(behind, Outcome.REJECTED)]


def test_admission_does_not_wait_for_what_gives_way() -> None:
    engine = new_engine("tiered", 1, Rules())
    engine.submit(waiting(3, 100.0), 0.0)
    assert only(Abort, engine.submit(waiting(1, 1.0), 0.0)) == [Abort(0)]


def test_the_last_of_the_lowest_tier_makes_room() -> None:
    engine = new_engine("tiered", 1, Rules(max_queue=3, admission=False))
    engine.submit(waiting(1, math.inf), 0.0)
    soon, last, second = waiting(3, 40.0), waiting(3, 60.0), waiting(2, 99.0)
    for request in (soon, last, second):
        engine.submit(request, 0.0)
    assert answers_of(engine.submit(waiting(1, 50.0), 0.0)) == [(last, Outcome.REJECTED)]


def test_a_cancelled_request_of_a_stopped_batch_does_not_come_back() -> None:
    engine, victim = preemptible()
    urgent = waiting(1, 1.0)
    engine.submit(urgent, 0.0)
    engine.cancel(victim, 0.05)
    engine.aborted(0, 0.1)
    assert answers_of(engine.completed(0, 0.9)) == [(urgent, Outcome.DONE)]
    assert engine.idle


def test_requests_get_more_time_when_batches_become_faster() -> None:
    engine = new_engine("edf", 2, Rules(admission=False, max_batch=1))
    for _ in range(2):
        engine.submit(waiting(1, math.inf), 0.0)
    request, keeper = waiting(1, 3.0), waiting(1, math.inf)
    engine.submit(request, 0.0)
    for _ in range(40):
        engine.times.observe(0, 1, 0.375)  # half of what was expected
    assert engine.next_wake == 2.25
    assert engine.wake(2.25) == []
    assert 2.25 < engine.next_wake < 3.0
    engine.submit(keeper, 2.3)
    assert answers_of(engine.wake(2.9)) == [(request, Outcome.EXPIRED)]


def test_anyone_in_a_batch_bounds_it() -> None:
    """The second of four is due soonest: a batch of three would take 1.75 s."""
    engine = new_engine("baseline", 1, Rules(admission=False))
    engine.submit(waiting(1, math.inf), 0.0)
    for due in (math.inf, 2.4, math.inf, math.inf):
        engine.submit(waiting(1, due, at=0.1), 0.1)
    (start,) = only(Start, engine.completed(0, 0.75))
    assert len(start.batch.requests) == 2


def two_running(first: int, second: int) -> Engine:
    """Two devices that run requests of these tiers, until 0.75 and until 1.0."""
    engine = new_engine("tiered", 2, Rules(admission=False))
    engine.submit(waiting(first, 100.0), 0.0)
    engine.submit(waiting(second, 100.0, 1), 0.0)
    return engine


def test_nobody_is_stopped_where_any_device_is_free_in_time() -> None:
    assert only(Abort, two_running(3, 3).submit(waiting(1, 0.75 + 0.8), 0.0)) == []
    assert only(Abort, two_running(3, 3).submit(waiting(1, 0.75 + 0.7), 0.0)) == [Abort(1)]


def test_the_lowest_tier_is_stopped_first_then_what_would_take_longest() -> None:
    assert only(Abort, two_running(3, 2).submit(waiting(1, 1.0), 0.0)) == [Abort(0)]
    assert only(Abort, two_running(2, 3).submit(waiting(1, 1.0), 0.0)) == [Abort(1)]
    assert only(Abort, two_running(1, 3).submit(waiting(2, 1.0), 0.0)) == [Abort(1)]
    assert only(Abort, two_running(1, 1).submit(waiting(2, 1.0), 0.0)) == []


def test_work_is_stopped_only_for_the_request_that_goes_first() -> None:
    """The other model's head would be late, but it is not its turn."""
    engine, _ = preemptible()
    engine.submit(waiting(1, 50.0), 0.0)
    assert only(Abort, engine.submit(waiting(2, 1.2, 1), 0.0)) == []


def test_what_is_measured_is_learnt() -> None:
    engine = new_engine("baseline", 1, Rules())
    engine.submit(waiting(1, math.inf), 0.0)
    engine.completed(0, 1.5)
    assert engine.times.expected(0, 1) == pytest.approx(0.75 * 1.1)


def test_first_measurements_in_figures() -> None:
    times = ServiceTimes([(0.0, 1.0)])
    times.observe(0, 2, 3.0)
    assert times.expected(0, 1) == pytest.approx(1.05)
    assert times.careful(0, 1) == pytest.approx(1.05 + 2 * 0.05)


class Patient:
    """A policy in plain Python that starts nothing before time 5."""

    def choose(self, view: object) -> tuple[int, int] | None:
        for model in view.waiting():  # type: ignore[attr-defined]
            if view.now < 5.0:  # type: ignore[attr-defined]
                view.wake_at(5.0)  # type: ignore[attr-defined]
                return None
            gang = view.idle_gang(model)  # type: ignore[attr-defined]
            if gang is not None:
                return model, gang
        return None


def test_a_policy_in_plain_python_is_woken_when_it_wants() -> None:
    engine = Engine(["a", "b"], 1, find_policy(Patient()), ServiceTimes([(0.0, 1.0)] * 2), OBEDIENT)
    requests = [waiting(1, math.inf), waiting(1, math.inf, 1, at=1.0)]
    ends = [now for now, _ in replay(engine, requests, batch_seconds)]
    assert ends == [6.0, 7.0]


def test_the_twin_forgets_the_end_of_a_stopped_batch() -> None:
    engine = new_engine("tiered", 1, Rules(admission=False))
    victim = Request(0, 3, 100.0, 0.0, payload=Arrival(0.0, 0, 3, 100.0, 0.6))
    urgent = Request(0, 1, 1.0, 0.1, payload=Arrival(0.1, 0, 1, 1.0, 0.8))
    ends = {answer.request.tier: now for now, answer in replay(engine, [victim, urgent], batch_seconds)}
    assert ends == pytest.approx({1: 0.9, 3: 1.5})


@given(
    operations=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 3), _ticks), max_size=120),
    policy=st.sampled_from(POLICIES),
)
def test_any_sequence_of_events_leaves_a_sound_state(
    operations: list[tuple[int, int, int, float]], policy: str
) -> None:
    """Slots are used again many times over, whatever order requests leave in."""
    engine = spy(policy, 2, Rules(max_batch=2, max_queue=3))
    now, requests, answered = 0.0, [], Counter[int]()
    for kind, pick, tier, gap in operations:
        now += gap / 40
        out: list[object] = []
        if kind <= 2:
            request = waiting(tier, now + gap if pick else math.inf, pick % 2, at=now)
            requests.append(request)
            out = engine.submit(request, now)
        elif kind == 3 and requests:
            out = engine.cancel(requests[-1 - pick % len(requests)], now)
        elif running := [device for device, batch in enumerate(engine.running) if batch]:
            device = running[pick % len(running)]
            batch = engine.running[device]
            assert batch
            stop = kind == 5 and batch.stopping
            out = engine.aborted(device, now) if stop else engine.completed(device, now)
        out = [*out, *engine.wake(now)]
        answered.update(id(answer.request) for answer in only(Answer, out))
    answered.update(id(answer.request) for answer in only(Answer, engine.close("over")))
    assert answered == Counter(map(id, requests))


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=50))
def test_service_times_follow_what_is_measured(measured: list[float]) -> None:
    times = ServiceTimes([(0.5, 0.5)])
    for seconds in measured:
        times.observe(0, 3, seconds)
    drift = times.expected(0, 1)
    assert min([1.0, *(seconds / 2 for seconds in measured)]) - 1e-9 <= drift
    assert drift <= max([1.0, *(seconds / 2 for seconds in measured)]) + 1e-9
    assert times.careful(0, 1) >= times.expected(0, 1)
    assume(len(measured) > 1)
    for _ in range(200):
        times.observe(0, 3, 4.0)
    assert times.expected(0, 7) == pytest.approx(8.0, rel=1e-3)
    assert times.careful(0, 7) == pytest.approx(8.0, rel=0.05)


def test_models_that_take_no_time_stay_so() -> None:
    times = ServiceTimes([(0.0, 0.0)])
    times.observe(0, 1, 5.0)
    assert times.expected(0, 4) == times.careful(0, 4) == 0.0
