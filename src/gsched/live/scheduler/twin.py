"""The scheduler in virtual time: the same engine on the same requests, with measured service times."""

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from itertools import count

from gsched.live.scheduler.engine import Abort, Answer, Batch, Engine, Instruction, Request, Start

Seconds = Callable[[Batch], float]
"""How long a batch takes."""


def replay(engine: Engine, requests: Iterable[Request], seconds: Seconds) -> Iterator[tuple[float, Answer]]:
    """Serve requests in virtual time; yield each answer with the time at which it is given.

    Args:
        engine: a new one.
        requests: in the order of their arrival.
        seconds: draws how long a batch takes.
    """
    clock = _Clock(engine, seconds)
    for request in requests:
        yield from clock.until(request.arrival)
        yield from clock.apply(engine.submit(request, request.arrival))
    yield from clock.until(float("inf"))


class _Clock:
    """What virtual time knows: when the running batches end."""

    def __init__(self, engine: Engine, seconds: Seconds) -> None:
        self._engine, self._seconds = engine, seconds
        self._ends: list[tuple[float, int, int, Batch]] = []
        self._sequence = count()
        self._now = 0.0

    def until(self, end: float) -> Iterator[tuple[float, Answer]]:
        """Let everything happen that happens before a time."""
        while (now := min(self._next_end, self._engine.next_wake)) < end:
            self._now = max(now, self._now)
            if self._next_end <= now:
                _, _, device, _ = heappop(self._ends)
                yield from self.apply(self._engine.completed(device, self._now))
            else:
                yield from self.apply(self._engine.wake(self._now))
        self._now = max(self._now, end)

    @property
    def _next_end(self) -> float:
        """When the next batch ends that has not been stopped before."""
        while self._ends and self._engine.running[self._ends[0][2]] is not self._ends[0][3]:
            heappop(self._ends)
        return self._ends[0][0] if self._ends else float("inf")

    def apply(self, instructions: list[Instruction]) -> Iterator[tuple[float, Answer]]:
        """Do what the engine says; yield the answers."""
        for instruction in instructions:
            match instruction:
                case Answer():
                    yield self._now, instruction
                case Start(device, batch):
                    heappush(self._ends, (self._now + self._seconds(batch), next(self._sequence), device, batch))
                case Abort(device):
                    yield from self.apply(self._engine.aborted(device, self._now))
