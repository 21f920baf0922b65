"""The engine in real time: its instructions carried out on devices, its answers given to those who wait."""

import asyncio
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

import structlog

from gsched.live.scheduler.backends import AbortedError, Backend, BackendError, Inputs, Stop
from gsched.live.scheduler.engine import Abort, Answer, Batch, Engine, Instruction, Request, Start

_log = structlog.get_logger()


class Observer(Protocol):
    """Is told what happens; times are those of the event loop, in seconds."""

    def computed(self, device: int, batch: Batch, seconds: float) -> None:
        """Note that a batch was computed."""

    def stopped(self, batch: Batch) -> None:
        """Note that a batch was stopped for a more important request."""

    def answered(self, answer: Answer, now: float) -> None:
        """Note that a request has ended."""


Done = Callable[[int, Exception | None], None]


class _Device(threading.Thread):
    """Computes one batch after another; says so from its own thread."""

    def __init__(self, number: int, backend: Backend, done: Done) -> None:
        super().__init__(name=f"device-{number}", daemon=True)
        self._number, self._backend, self._done = number, backend, done
        self._batches: SimpleQueue[tuple[str, Inputs, Stop] | None] = SimpleQueue()
        self._stop = Stop()

    def compute(self, model: str, inputs: Inputs) -> None:
        """Begin a batch; `done` is called when it ends, in one way or the other."""
        self._stop = Stop()
        self._batches.put((model, inputs, self._stop))

    def abort(self) -> None:
        """Ask the running batch to end early."""
        self._stop.ask()

    def end(self) -> None:
        """Let the thread end after its batch."""
        self._batches.put(None)

    def run(self) -> None:
        """Compute until told to end."""
        while (work := self._batches.get()) is not None:
            self._done(self._number, self._attempt(*work))

    def _attempt(self, model: str, inputs: Inputs, stop: Stop) -> Exception | None:
        try:
            self._backend.run(self._number, model, inputs, stop)
        except (AbortedError, BackendError) as error:
            return error
        except Exception as error:  # noqa: BLE001 (a backend is others' code; its requests must be answered all the same)
            _log.exception("backend failed", model=model, device=self._number)
            return BackendError(f"{type(error).__name__} in the backend")
        return None


@dataclass(slots=True)
class _Waiter:
    """What a request carries while it is served."""

    tensor: object
    answer: "asyncio.Future[Answer]"


class Service:
    """Serves requests on a backend's devices; to be made and used in one event loop."""

    def __init__(self, engine: Engine, backend: Backend, observers: tuple[Observer, ...] = ()) -> None:
        self.engine = engine
        self._backend, self._observers = backend, observers
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._became_idle = asyncio.Event()
        self._devices = [_Device(number, backend, self._report) for number in range(engine.devices)]
        for device in self._devices:
            device.start()

    def now(self) -> float:
        """Return the time on the engine's time line, in seconds."""
        return self._loop.time()

    async def serve(self, model: int, tier: int, due: float, tensor: object) -> Answer:
        """Serve a request and return how it ended.

        Args:
            model: its position.
            tier: 1 is the most important.
            due: on the engine's time line, infinity for none.
            tensor: its input.
        """
        now = self.now()
        waiter = _Waiter(tensor, self._loop.create_future())
        request = Request(model, tier, due, now, waiter)
        self._apply(self.engine.submit(request, now))
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            self._apply(self.engine.cancel(request, self.now()))
            raise

    async def drain(self, seconds: float, reason: str) -> None:
        """Wait until all requests are answered; after so many seconds, answer what is left with a reason."""
        try:
            async with asyncio.timeout(seconds):
                while not self.engine.idle:
                    self._became_idle.clear()
                    await self._became_idle.wait()
        except TimeoutError:
            self._apply(self.engine.close(reason))
        for device in self._devices:
            device.abort()
            device.end()
        if self._alarm:
            self._alarm.cancel()

    def _report(self, device: int, error: Exception | None) -> None:
        """Carry the end of a batch from its device's thread into the event loop."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended, device, error)

    def _ended(self, device: int, error: Exception | None) -> None:
        now, batch = self.now(), self.engine.running[device]
        assert batch is not None
        if error is None:
            for observer in self._observers:
                observer.computed(device, batch, now - batch.started)
            self._apply(self.engine.completed(device, now))
        elif isinstance(error, AbortedError):
            for observer in self._observers:
                observer.stopped(batch)
            self._apply(self.engine.aborted(device, now))
        else:
            self._apply(self.engine.failed(device, str(error), now))

    def _wake(self) -> None:
        self._alarm = None
        self._apply(self.engine.wake(self.now()))

    def _apply(self, instructions: list[Instruction]) -> None:
        """Do what the engine says, and set the alarm that it wants."""
        for instruction in instructions:
            match instruction:
                case Start(device, batch):
                    inputs = [request.payload.tensor for request in batch.requests]
                    self._devices[device].compute(self.engine.models[batch.model], inputs)
                case Abort(device):
                    self._devices[device].abort()
                case Answer(request):
                    self._tell(request, instruction)
        self._set_alarm()
        if self.engine.idle:
            self._became_idle.set()

    def _tell(self, request: Request, answer: Answer) -> None:
        now = self.now()
        for observer in self._observers:
            observer.answered(answer, now)
        waiter, request.payload = request.payload, None
        if not waiter.answer.done():
            waiter.answer.set_result(answer)

    def _set_alarm(self) -> None:
        wake = self.engine.next_wake
        if self._alarm and self._alarm.when() == wake:
            return
        if self._alarm:
            self._alarm.cancel()
        self._alarm = None if wake == math.inf else self._loop.call_at(wake, self._wake)
