"""The twin's service times: those measured at about that moment; the scheduler's expectations are the run's own."""

import pytest

from gsched.live.scheduler import comparison
from gsched.live.scheduler.comparison import _ServiceTimes
from gsched.live.scheduler.engine import Batch, Outcome, Request, Rules
from gsched.live.scheduler.estimates import ServiceTimes
from gsched.live.scheduler.record import Served
from gsched.policies import find_policy


def served(number: int, size: int, seconds: float, profile: float) -> Served:
    at = float(number)
    return Served(at, 1, 9.0, "a", Outcome.DONE, 0.0, number, size, seconds, profile)


def batch(at: float, size: int) -> Batch:
    return Batch(0, [Request(0, 1, 9.0, at) for _ in range(size)], at, at)


def test_profiles_are_those_of_the_run_and_times_those_measured() -> None:
    entries = [served(i, size, 0.01 + 0.02 * size, 0.002 + 0.003 * size) for i, size in enumerate([1, 2, 4, 8] * 5)]
    times = _ServiceTimes(entries, ["a"], seed=1)
    assert times.profiles[0] == pytest.approx((0.002, 0.003))
    for size in (1, 3, 8):
        assert times.draw(batch(5.0, size)) == pytest.approx(0.01 + 0.02 * size)


def test_times_follow_a_machine_that_becomes_slower() -> None:
    entries = [served(i, 1 + i % 2, (1 + i % 2) * (0.01 if i < 50 else 0.03), 0.001) for i in range(100)]
    times = _ServiceTimes(entries, ["a"], seed=1)
    for _ in range(10):
        assert times.draw(batch(20.0, 1)) * 3 == pytest.approx(times.draw(batch(80.0, 1)))


def test_batches_of_one_size_give_times_in_proportion() -> None:
    times = _ServiceTimes([served(i, 4, 0.04, 0.02) for i in range(5)], ["a"], seed=1)
    assert times.profiles[0] == pytest.approx((0.0, 0.005))
    assert times.draw(batch(2.0, 8)) == pytest.approx(0.08)


def test_the_engine_of_the_twin_expects_what_the_scheduler_did(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    class Spy(ServiceTimes):
        def __init__(self, lines: list[tuple[float, float]]) -> None:
            told.extend(lines)
            super().__init__(lines)

    monkeypatch.setattr(comparison, "ServiceTimes", Spy)
    entries = [served(i, 1 + i % 4, 0.5, 0.002 + 0.003 * (1 + i % 4)) for i in range(8)]
    (row,) = comparison.compare(entries, find_policy("edf"), 1, Rules(), seed=1)
    assert told == [pytest.approx((0.002, 0.003))]
    assert row.requests == 8
