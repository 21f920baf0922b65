"""What the scheduler decides: whom it admits, who goes first and with whom, who is dropped and who is stopped.

Events go in, each with the time at which it happened; instructions come out. The engine knows no clock, no thread and
no network, so the server runs it in real time and the twin in virtual time. The order of requests and the choice of
what to start are a policy of the simulator on the simulator's core; around them, the engine forms batches, refuses what
cannot be done in time and stops less important work where a more important request would otherwise be late.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

import numpy as np

from gsched.live.scheduler.estimates import ServiceTimes
from gsched.live.scheduler.slots import Slots
from gsched.policies import Policy


class Outcome(StrEnum):
    """How a request ends; each ends once."""

    DONE = "done"
    EXPIRED = "expired"  # it can no longer be done by its deadline
    REJECTED = "rejected"  # it never had a chance, or had to make room
    FAILED = "failed"  # the backend could not compute it
    CANCELLED = "cancelled"  # the client no longer waits


@dataclass(eq=False, slots=True)
class Request:
    """A request, and where it is.

    Args:
        model: its position among the served models.
        tier: 1 is the most important.
        due: when it should be done, in seconds on the engine's time line; infinity where it has no deadline.
        arrival: when it arrived.
        payload: whatever the caller wants to find again.
    """

    model: int
    tier: int
    due: float
    arrival: float
    payload: Any = None
    slot: int = -1  # where it is queued
    latest: float = math.inf  # time after which starting it is too late
    started: float = math.nan  # when its latest batch started
    stops: int = 0  # how often its batch was stopped
    batch: int = 0  # size of its latest batch
    ended: bool = False


@dataclass(slots=True)
class Batch:
    """What runs on a device."""

    model: int
    requests: list[Request]
    started: float
    expected_end: float
    stopping: bool = False
    profile: float = 0.0  # seconds that it takes as far as was known beforehand

    @property
    def tier(self) -> int:
        """The most important tier among its requests that somebody still waits for."""
        return min((request.tier for request in self.requests if not request.ended), default=1_000_000)


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell a request's client how it ended."""

    request: Request
    outcome: Outcome
    message: str


@dataclass(frozen=True, slots=True)
class Start:
    """Let a device compute a batch."""

    device: int
    batch: Batch


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop what a device computes; `aborted` or `completed` follows, whichever comes first."""

    device: int


Instruction = Answer | Start | Abort


@dataclass(frozen=True, slots=True)
class Rules:
    """What the scheduler may do.

    Args:
        max_batch: requests that run together at most.
        max_queue: requests that wait at most.
        admission: whether a request is refused at once where the work before it leaves no time.
        drop: whether a waiting request is given up once it can no longer be done in time.
        preempt: whether less important work gives way: waiting where the queue is full, running where a more important
            request would otherwise be late.
        max_stops: how often one request's batch may be stopped.
        margin: seconds before its deadline at which an answer should leave, for the way to the client.
    """

    max_batch: int = 8
    max_queue: int = 512
    admission: bool = True
    drop: bool = True
    preempt: bool = True
    max_stops: int = 1
    margin: float = 0.0


@dataclass(slots=True)
class _Waiting:
    """Keys and expected seconds of the queued requests, by slot; a slot in which nobody waits counts 0 seconds."""

    key: Any
    seconds: Any


@dataclass
class Engine:
    """Takes events and returns instructions.

    Args:
        models: names of the served models.
        devices: batches that run at once.
        policy: orders requests and chooses what starts; any policy that needs no plan.
        times: how long batches take; it learns.
        rules: what the engine may do besides.
    """

    models: Sequence[str]
    devices: int
    policy: Policy
    times: ServiceTimes
    rules: Rules = Rules()
    running: list[Batch | None] = field(init=False)

    def __post_init__(self) -> None:
        self.running = [None] * self.devices
        self._slots: Slots[Request] = Slots(self.models, self.devices, self.policy, self._room)
        size = len(self.models) * self._slots.size
        self._waiting = _Waiting(np.zeros(size), np.zeros(size))
        self._queued: dict[Request, None] = {}
        self._last_starts: list[tuple[float, int, Request]] = []
        self._sequence = count()
        self._out: list[Instruction] = []

    @property
    def _room(self) -> int:
        """How many may wait when all that run are stopped."""
        return self.rules.max_queue + self.devices * self.rules.max_batch

    # Events

    def submit(self, request: Request, now: float) -> list[Instruction]:
        """Take a request that has arrived."""
        refusal = self._refusal(request, now)
        if refusal:
            self._end(request, *refusal)
        elif len(self._queued) < self.rules.max_queue or self._make_room(request):
            self._enqueue(request, now)
            self._dispatch(now)
        else:
            self._end(request, Outcome.REJECTED, f"the queue is full ({self.rules.max_queue} requests)")
        return self._instructions()

    def cancel(self, request: Request, now: float) -> list[Instruction]:
        """Forget a request for which nobody waits any more; what runs is left to run."""
        if not request.ended:
            self._unqueue(request)
            self._end(request, Outcome.CANCELLED, "the client no longer waits")
            self._dispatch(now)
        return self._instructions()

    def completed(self, device: int, now: float) -> list[Instruction]:
        """Note that a device has computed its batch."""
        batch = self._vacate(device)
        seconds = now - batch.started
        self.times.observe(batch.model, len(batch.requests), seconds)
        for request in batch.requests:
            waited = f"{1e3 * (batch.started - request.arrival):.1f} ms queued"
            self._end(request, Outcome.DONE, f"{waited}, {1e3 * seconds:.1f} ms in a batch of {len(batch.requests)}")
        self._dispatch(now)
        return self._instructions()

    def failed(self, device: int, reason: str, now: float) -> list[Instruction]:
        """Note that a device could not compute its batch."""
        for request in self._vacate(device).requests:
            self._end(request, Outcome.FAILED, reason)
        self._dispatch(now)
        return self._instructions()

    def aborted(self, device: int, now: float) -> list[Instruction]:
        """Note that a device has stopped; its requests wait again."""
        for request in self._vacate(device).requests:
            if not request.ended:
                request.stops += 1
                self._enqueue(request, now)
        self._dispatch(now)
        return self._instructions()

    def wake(self, now: float) -> list[Instruction]:
        """Look at the time: drop whom it has run out for."""
        self._drop_late(now)
        self._dispatch(now)
        return self._instructions()

    def close(self, reason: str) -> list[Instruction]:
        """End all that waits or runs."""
        running = [request for batch in self.running if batch for request in batch.requests]
        for request in [*self._queued, *running]:
            self._unqueue(request)
            self._end(request, Outcome.REJECTED, reason)
        return self._instructions()

    # State

    @property
    def next_wake(self) -> float:
        """When `wake` should be called unless something else happens before; infinity for never."""
        while self._last_starts and self._last_starts[0][2].slot < 0:
            heappop(self._last_starts)
        first = self._last_starts[0][0] if self._last_starts else math.inf
        return min(first, self._slots.alarm) if self._queued else math.inf

    @property
    def queue_length(self) -> int:
        """How many requests wait."""
        return len(self._queued)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._queued and not any(self.running)

    # Admission

    def _refusal(self, request: Request, now: float) -> tuple[Outcome, str] | None:
        """Return how a request ends that need not be queued."""
        if not self.rules.drop or request.due == math.inf:
            return None
        needs = self.times.careful(request.model, 1)
        if now + needs > self._limit(request):
            return Outcome.EXPIRED, self._too_late(request, needs, now)
        if self.rules.admission:
            done = now + self._wait(request, now) + needs
            if done > self._limit(request):
                late = 1e3 * (done - self._limit(request))
                return Outcome.REJECTED, f"would be done {late:.1f} ms after its deadline, behind what waits"
        return None

    def _wait(self, request: Request, now: float) -> float:
        """Return the seconds until the work that goes before a request would be done."""
        key = self._slots.key(request.model, arrival=request.arrival, due=request.due, tier=request.tier)
        ahead = float(self._waiting.seconds[self._waiting.key <= key].sum())
        ends = [batch.expected_end - now for batch in self.running if batch and not self._gives_way(batch, request)]
        return (ahead + sum(end for end in ends if end > 0)) / self.devices

    def _make_room(self, request: Request) -> bool:
        """Reject the waiting request that would go last, if it is of a lower tier; tell whether it was."""
        if not self.rules.preempt:
            return False
        last = max(self._queued, key=lambda other: (other.tier, self._waiting.key[other.slot]))
        if last.tier <= request.tier:
            return False
        self._unqueue(last)
        self._end(last, Outcome.REJECTED, f"gave way to a request of tier {request.tier}, as the queue is full")
        return True

    # The queue

    def _enqueue(self, request: Request, now: float) -> None:
        batch = self.rules.max_batch
        seconds = self.times.expected(request.model, batch) / batch
        request.slot, key = self._slots.put(
            request,
            request.model,
            now,
            arrival=request.arrival,
            due=request.due,
            tier=request.tier,
            seconds=seconds,
        )
        self._waiting.key[request.slot], self._waiting.seconds[request.slot] = key, seconds
        self._queued[request] = None
        if self.rules.drop and request.due < math.inf:
            request.latest = self._limit(request) - self.times.careful(request.model, 1)
            heappush(self._last_starts, (request.latest, next(self._sequence), request))
            if len(self._last_starts) > 2 * self._room:  # those who have left, with deadlines far away
                self._last_starts = [entry for entry in self._last_starts if entry[2].slot >= 0]
                heapify(self._last_starts)

    def _unqueue(self, request: Request) -> None:
        """Take a request out of the queue, if it waits."""
        if request in self._queued:
            self._slots.remove(request.slot)
            self._left(request)

    def _left(self, request: Request) -> None:
        self._waiting.seconds[request.slot] = 0.0
        request.slot = -1
        del self._queued[request]

    def _drop_late(self, now: float) -> None:
        """End the waiting requests for which it is too late."""
        while self._last_starts and (self._last_starts[0][0] <= now or self._last_starts[0][2].slot < 0):
            _, _, request = heappop(self._last_starts)
            if request.slot < 0 or request.latest > now:
                continue
            needs = self.times.careful(request.model, 1)
            request.latest = self._limit(request) - needs
            if request.latest > now:  # batches have become faster since
                heappush(self._last_starts, (request.latest, next(self._sequence), request))
                continue
            self._unqueue(request)
            self._end(request, Outcome.EXPIRED, self._too_late(request, needs, now))

    def _end(self, request: Request, outcome: Outcome, message: str) -> None:
        if not request.ended:
            request.ended = True
            self._out.append(Answer(request, outcome, message))

    def _limit(self, request: Request) -> float:
        """Return by when a request must be done."""
        return request.due - self.rules.margin

    def _too_late(self, request: Request, needs: float, now: float) -> str:
        left = 1e3 * max(0.0, self._limit(request) - now)
        return f"can no longer be done by its deadline ({left:.1f} ms left, {1e3 * needs:.1f} ms needed)"

    # Dispatch

    def _dispatch(self, now: float) -> None:
        """Start what the policy wants to start, as long as it does."""
        while self._drop_heads(now):
            decision = self._slots.choose(now)
            if decision is None:
                break
            self._start(*decision, now)
        if self.rules.preempt and self._queued:
            self._preempt()

    def _drop_heads(self, now: float) -> bool:
        """End the requests that would start next but are too late; tell whether any is left."""
        self._drop_late(now)
        heads = [self._slots.head(model) for model in range(len(self.models))]  # asks all, as `choose` needs
        return any(head is not None for head in heads)

    def _start(self, model: int, device: int, now: float) -> None:
        request = self._slots.start(model, device)
        batch = Batch(model, [request], now, now)
        self._left(request)
        for request in self._joining(batch, now):
            self._slots.join(model)
            self._left(request)
            batch.requests.append(request)
        size = len(batch.requests)
        for request in batch.requests:
            request.started, request.batch = now, size
        batch.expected_end = now + self.times.expected(model, size)
        batch.profile = self.times.profile(model, size)
        self.running[device] = batch
        self._out.append(Start(device, batch))

    def _joining(self, batch: Batch, now: float) -> Iterator[Request]:
        """Yield the requests that come next in a batch as long as nobody in it becomes late by that."""
        limit = self._limit(batch.requests[0])
        while len(batch.requests) < self.rules.max_batch:
            request = self._slots.head(batch.model)
            if request is None:
                return
            limit = min(limit, self._limit(request))
            if now + self.times.careful(batch.model, len(batch.requests) + 1) > limit:
                return
            yield request

    def _preempt(self) -> None:
        """Stop a batch where the request that goes first could then be in time and would otherwise be late."""
        if any(batch is None or batch.stopping for batch in self.running):
            return
        _, request = min(self._slots.heads(), key=lambda head: head[0])
        batches = [batch for batch in self.running if batch]
        if min(batch.expected_end for batch in batches) <= request.latest:
            return
        victims = [batch for batch in batches if self._gives_way(batch, request)]
        if victims:
            victim = max(victims, key=lambda batch: (batch.tier, batch.expected_end))
            victim.stopping = True
            self._out.append(Abort(self.running.index(victim)))

    def _gives_way(self, batch: Batch, request: Request) -> bool:
        """Tell whether a batch may be stopped for a request."""
        spent = any(other.stops >= self.rules.max_stops for other in batch.requests)
        return self.rules.preempt and batch.tier > request.tier and not spent

    def _vacate(self, device: int) -> Batch:
        batch = self.running[device]
        if batch is None:
            raise ValueError(f"device {device} runs nothing")
        self.running[device] = None
        self._slots.finish(batch.model, device)
        return batch

    def _instructions(self) -> list[Instruction]:
        out, self._out = self._out, []
        return out

    def validate(self) -> None:
        """Raise an `AssertionError` where the state contradicts itself; for tests."""
        assert len(self._queued) <= self._room
        assert len(self._last_starts) <= 2 * self._room
        assert all(request.slot >= 0 and not request.ended for request in self._queued)
        assert math.isclose(
            self._waiting.seconds.sum(), sum(self._waiting.seconds[request.slot] for request in self._queued)
        )
        assert not self._queued or all(self.running) or self._slots.alarm < math.inf
        for batch in self.running:
            assert batch is None or all(request.slot < 0 for request in batch.requests)
