"""An event loop in virtual time: where nothing else is left to do, the clock jumps to the next timer."""

import asyncio
import math
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_CREEP = 1e-11  # time never stands still: a timer that is early by a rounding error does not come for ever
_MOST_TURNS = 200_000


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Instead of waiting, moves the clock on."""

    time = 0.0
    turns = 0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        self.turns += 1
        if self.turns > _MOST_TURNS:
            raise RuntimeError(f"the loop spins: {_MOST_TURNS:,} turns in {self.time:g} s")
        if not ready and timeout is None:
            raise RuntimeError("the loop would wait for ever")
        if not ready and timeout is not None:
            self.time = max(self.time + timeout + _CREEP, math.nextafter(self.time, math.inf))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9  # timers are due when they are this close: sums of floats are rounded

    def time(self) -> float:
        return self._jumping.time


def in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
