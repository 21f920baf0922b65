"""The instances of a run: which exist, which are on their way out, and how a gang gets the one that it needs."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from gsched.live.run.executors import Executor, ExecutorError, LostError
from gsched.workload import Model

Place = tuple[int, int]
"""An instance: the position of its model, and the first GPU of its gang."""


def pauses(longest: float = 30.0) -> Iterator[float]:
    """Yield the wall-clock seconds to wait before trying again: twice as long each time, up to the longest."""
    pause = 0.1
    while True:
        yield min(pause, longest)
        pause *= 2


class Fleet:
    """Loads and unloads; whoever needs GPUs waits until what has to leave them is gone."""

    def __init__(self, executor: Executor, models: tuple[Model, ...], gpus: int) -> None:
        self.executor = executor
        self._models = models
        self._instances: dict[Place, Any] = {}
        self._leaving: dict[Place, asyncio.Task[None]] = {}
        self._on_gpu: list[set[Place]] = [set() for _ in range(gpus)]

    def gang(self, place: Place) -> range:
        """Return the GPUs of an instance."""
        model, first = place
        return range(first, first + self._models[model].gpus_required)

    def on(self, gpus: Iterable[int]) -> set[Place]:
        """Return the instances that have one of these GPUs, those on their way out included."""
        return {place for gpu in gpus for place in self._on_gpu[gpu]}

    def dismiss(self, place: Place) -> None:
        """Begin to unload an instance, unless that has begun."""
        if place not in self._leaving and place in self._instances:
            task = asyncio.create_task(self._unload(place))
            task.add_done_callback(_take_note)
            self._leaving[place] = task

    async def _unload(self, place: Place) -> None:
        """Unload an instance, however often that takes.

        Raises:
            LostError: its server does not answer.
        """
        for pause in pauses():
            try:
                await self.executor.unload(self._instances[place])
                self._drop(place)
                return
            except LostError:
                raise
            except ExecutorError:
                await asyncio.sleep(pause)

    async def cleared(self, gpus: range) -> None:
        """Wait until whatever is on its way out has left these GPUs.

        Raises:
            LostError: a server does not answer.
        """
        leaving = [self._leaving[place] for place in self.on(gpus) if place in self._leaving]
        for task in leaving:
            await asyncio.shield(task)

    async def load(self, place: Place) -> Any:
        """Return an instance, loaded if it is not there, once what is on its way out has left its GPUs.

        Raises:
            ExecutorError: it cannot be loaded.
        """
        gang = self.gang(place)
        await self.cleared(gang)
        if place not in self._instances:
            self._instances[place] = await self.executor.load(self._models[place[0]], gang)
            for gpu in gang:
                self._on_gpu[gpu].add(place)
        return self._instances[place]

    def forget(self, gpus: Iterable[int]) -> None:
        """Take everything on these GPUs to be gone."""
        for place in self.on(gpus):
            if task := self._leaving.get(place):
                task.cancel()
            self._drop(place)

    def _drop(self, place: Place) -> None:
        self._leaving.pop(place, None)
        self._instances.pop(place, None)
        for gpu in self.gang(place):
            self._on_gpu[gpu].discard(place)

    async def close(self) -> None:
        """Stop unloading, and let go of everything."""
        for task in self._leaving.values():
            task.cancel()
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        await self.executor.close()


def _take_note(task: "asyncio.Task[None]") -> None:
    """Let a failure that nobody waits for pass: whoever needs the GPUs next will meet it."""
    if not task.cancelled():
        task.exception()
