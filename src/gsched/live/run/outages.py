"""GPUs that are away: those of a failed attempt until they are clean again, and those of a server that is lost."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from gsched.live.run.attempts import Attempt, Limits
from gsched.live.run.executors import ExecutorError, LostError, owner
from gsched.live.run.fleet import Fleet, Place, pauses
from gsched.live.run.record import Interruption, Record
from gsched.preload import Placement
from gsched.residency import restore, withdraw
from gsched.state import STARTED, Core


class Beside(NamedTuple):
    """What goes on beside the run loop, as the loop knows it.

    Args:
        under_way: the attempts under way, by the first GPU of their gang.
        spawn: lets something go on.
        tell: lets something happen now: notes the time, and has it applied in its turn.
    """

    under_way: Mapping[int, tuple[Attempt, "asyncio.Task[None]"]]
    spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
    tell: Callable[[Callable[[], None]], None]


_LONGEST_PAUSE = 1.0  # wall-clock seconds between two looks at a server that is lost
_FAR = 1e9  # seconds until a GPU that is away comes back, as far as policies know


class Outages:
    """Takes GPUs away from the core, and brings them back once they can be used again."""

    def __init__(
        self,
        core: Core,
        fleet: Fleet,
        placement: Placement,
        limits: Limits,
        record: Record,
        beside: Beside,
    ) -> None:
        """Begin with all GPUs there.

        Args:
            core: of the run.
            fleet: its instances.
            placement: what a static deployment holds, which is restored before its GPUs come back.
            limits: how often servers are looked at.
            record: is told what was away when.
            beside: what goes on beside the run loop.
        """
        self._core, self._fleet, self._placement = core, fleet, placement
        self._limits, self._record = limits, record
        self._under_way, self._spawn, self._tell = beside
        self._servers = fleet.executor.servers
        self._cleaning: dict[range, tuple[asyncio.Task[None], Interruption]] = {}
        self._lost: dict[int, tuple[asyncio.Task[None], Interruption]] = {}
        self.away: set[int] = set()
        """The GPUs that are away."""

    @property
    def lost(self) -> list[str]:
        """Why servers are lost, one sentence each."""
        return [interruption.reason for _, interruption in self._lost.values()]

    def server_of(self, gpus: range) -> int:
        """Return the server that owns a gang."""
        return owner(self._servers, gpus)

    # Attempts

    def settle(self, attempt: Attempt) -> None:
        """Take the GPUs of an attempt that has succeeded away where their server is lost by now."""
        server = self.server_of(attempt.gpus)
        if server in self._lost:
            _, interruption = self._lost[server]
            interruption.start = max(interruption.start, attempt.ended)
            self._withdraw(attempt.gpus)

    def follow(self, attempt: Attempt) -> None:
        """Take the GPUs of an attempt that has failed away until they are clean."""
        server = self.server_of(attempt.gpus)
        if attempt.lost:
            self.lose(server, attempt.error)
        interruption = self._interrupt(attempt)
        self._withdraw(attempt.gpus)
        if server in self._lost:
            interruption.end = self._now
        else:
            self._cleaning[attempt.gpus] = self._spawn(self._clean(attempt)), interruption

    def cut_off(self, attempt: Attempt) -> None:
        """Note an attempt that was given up since the run ends."""
        attempt.error = "given up, as the run was stopped"
        self._interrupt(attempt).end = attempt.ended

    def _interrupt(self, attempt: Attempt) -> Interruption:
        return self._record.interrupt(attempt.gpus, attempt.began, attempt.error, attempt.number, attempt.node)

    async def _clean(self, attempt: Attempt) -> None:
        """Unload what an attempt may have left, and for a static deployment load it anew."""
        for place in [attempt.place] if self._placement else self._fleet.on(attempt.gpus):
            self._fleet.dismiss(place)
        try:
            await self._fleet.cleared(attempt.gpus)
            if self._placement:
                await self._load_again(attempt.place)
        except LostError as error:
            server, reason = self.server_of(attempt.gpus), str(error)
            self._tell(lambda: self.lose(server, reason))
        else:
            self._tell(lambda: self._cleaned(attempt.gpus))

    async def _load_again(self, place: Place) -> None:
        """Load an instance of a static deployment, however often that takes.

        Raises:
            LostError: its server does not answer.
        """
        for pause in pauses():
            try:
                await self._fleet.load(place)
                return
            except LostError:
                raise
            except ExecutorError:
                await asyncio.sleep(pause)

    def _cleaned(self, gpus: range) -> None:
        if gpus in self._cleaning:
            _, interruption = self._cleaning.pop(gpus)
            interruption.end = self._now
            self._restore(gpus)

    # Servers

    def lose(self, server: int, reason: str) -> None:
        """Take a server's GPUs away until it is back; what is under way there is given up, and follows."""
        if server in self._lost:
            return
        owned = self._servers[server]
        for gpus in [gpus for gpus in self._cleaning if gpus.start in owned]:
            task, interruption = self._cleaning.pop(gpus)
            task.cancel()
            interruption.end = self._now
        there = [(attempt, task) for gpu, (attempt, task) in self._under_way.items() if gpu in owned]
        for _, task in there:
            task.cancel()
        self._fleet.forget(owned)
        busy = {gpu for attempt, _ in there for gpu in attempt.gpus}
        self._withdraw(gpu for gpu in owned if gpu not in busy)
        interruption = self._record.interrupt(
            owned, self._now, f"server {server} is lost: {reason}", self._core.count[STARTED]
        )
        self._lost[server] = self._spawn(self._await_return(server, [task for _, task in there])), interruption

    async def _await_return(self, server: int, there: Iterable["asyncio.Task[None]"]) -> None:
        """Wait until a server answers, and has been emptied and, for a static deployment, filled again."""
        await asyncio.gather(*there, return_exceptions=True)
        executor = self._fleet.executor
        for pause in pauses(_LONGEST_PAUSE):
            await asyncio.sleep(pause)
            try:
                if await executor.healthy(server):
                    await executor.reset(server)
                    for place in self._placement:
                        if place[1] in self._servers[server]:
                            await self._fleet.load(place)
                    break
            except ExecutorError:
                self._fleet.forget(self._servers[server])
        self._tell(lambda: self._came_back(server))

    def _came_back(self, server: int) -> None:
        _, interruption = self._lost.pop(server)
        interruption.end = self._now
        self._restore(self._servers[server])

    async def watch(self) -> None:
        """Look at the servers at work now and then, for ever: one that does not answer is lost."""
        missed = dict.fromkeys(range(len(self._servers)), 0)
        while True:
            await asyncio.sleep(self._limits.health_interval)
            at_work = {self.server_of(attempt.gpus) for attempt, _ in self._under_way.values()} - self._lost.keys()
            answers = await asyncio.gather(*map(self._fleet.executor.healthy, at_work))
            for server, healthy in zip(at_work, answers, strict=True):
                missed[server] = 0 if healthy else missed[server] + 1
                if missed[server] >= self._limits.misses:
                    missed[server] = 0
                    self._tell(lambda server=server: self.lose(server, "it does not answer"))  # type: ignore[misc]

    # The core

    @property
    def _now(self) -> float:
        return float(self._core.now[0])

    def _withdraw(self, gpus: Iterable[int]) -> None:
        for gpu in gpus:
            if gpu not in self.away:
                withdraw(self._core, gpu, gpu + 1, self._now + _FAR)
                self.away.add(gpu)

    def _restore(self, gpus: range) -> None:
        restore(self._core, gpus.start, gpus.stop)
        self.away.difference_update(gpus)

    def tasks(self) -> Iterator["asyncio.Task[None]"]:
        """Yield what goes on beside the run loop."""
        for task, _ in (*self._cleaning.values(), *self._lost.values()):
            yield task
