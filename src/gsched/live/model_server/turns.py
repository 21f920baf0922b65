"""Turns on devices: one holder at a time on each, first come, first served."""

import asyncio
from collections import deque
from collections.abc import Hashable, Iterable, Sequence


class Turn:
    """A place in the queues of some devices; `ready` is done once it is the first in all of them."""

    __slots__ = ("_behind", "devices", "ready")

    def __init__(self, devices: tuple[Hashable, ...], ready: asyncio.Future[None]) -> None:
        self.devices, self.ready = devices, ready
        self._behind = 0  # queues in which another is first

    def _advance(self, queues: int) -> bool:
        """Note that it has become the first in so many more queues; tell whether that made it ready."""
        self._behind -= queues
        if self._behind or self.ready.done():
            return False
        self.ready.set_result(None)
        return True


class Turns:
    """The queues of all devices.

    A turn enters the queues of all of its devices at once, so any two turns stand in the same order wherever they meet.
    Hence the earliest turn of all can always go on: nobody waits for ever, however many devices he needs.
    """

    def __init__(self, devices: Iterable[Hashable]) -> None:
        self._queues: dict[Hashable, deque[Turn]] = {device: deque() for device in devices}
        self._turns: set[Turn] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.waiting = 0
        """Turns that are not ready."""

    def join(self, devices: Sequence[Hashable]) -> Turn:
        """Queue for devices, each named once; every turn must be left."""
        turn = Turn(tuple(devices), asyncio.get_running_loop().create_future())
        self._turns.add(turn)
        self._empty.clear()
        self.waiting += 1
        turn._behind = len(turn.devices)
        for device in turn.devices:
            self._queues[device].append(turn)
        self._note(turn, sum(self._queues[device][0] is turn for device in turn.devices))
        return turn

    def leave(self, turn: Turn) -> None:
        """Give the devices to the next ones, or the place in the queues up."""
        self._turns.remove(turn)
        if not turn.ready.done() or turn.ready.cancelled() or turn.ready.exception():
            self.waiting -= 1
        for device in turn.devices:
            queue = self._queues[device]
            first = queue[0] is turn
            queue.remove(turn)
            if first and queue:
                self._note(queue[0], 1)
        if not self._turns:
            self._empty.set()

    def _note(self, turn: Turn, queues: int) -> None:
        self.waiting -= turn._advance(queues)

    def busy(self, device: Hashable) -> bool:
        """Tell whether a device has been given to a turn, or is kept for one that lacks others."""
        return bool(self._queues[device])

    def refuse(self, error: Exception) -> None:
        """Fail the turns that are not ready."""
        for turn in self._turns:
            if not turn.ready.done():
                turn.ready.set_exception(error)

    async def empty(self) -> None:
        """Wait until there is no turn."""
        await self._empty.wait()
