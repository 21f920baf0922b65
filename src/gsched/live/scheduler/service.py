"""The engine in real time: its instructions carried out on devices, its answers given to those who wait."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

import structlog

from gsched.live.scheduler.backends import AbortedError, Backend, BackendError, Inputs, Stop
from gsched.live.scheduler.engine import Abort, Answer, Batch, Engine, Instruction, Outcome, Request, Start

LAST_WAIT = 1.0  # seconds in which a device should stop at the end


class Observer(Protocol):
    """Is told what happens and must not raise; times are those of the event loop, in seconds."""

    def computed(self, device: int, batch: Batch, seconds: float) -> None:
        """Note that a batch was computed."""

    def stopped(self, batch: Batch) -> None:
        """Note that a batch was stopped for a more important request."""

    def answered(self, answer: Answer, now: float) -> None:
        """Note that a request has ended; one that was done, right after its batch was computed."""


Done = Callable[[int, Exception | None], None]


class _Device(threading.Thread):
    """Computes one batch after another; says so from its own thread."""

    def __init__(self, number: int, backend: Backend, done: Done) -> None:
        super().__init__(name=f"device-{number}", daemon=True)
        self._number, self._backend, self._done = number, backend, done
        self._batches: SimpleQueue[tuple[str, Inputs, Stop] | None] = SimpleQueue()
        self._asked = Stop()  # of the latest batch

    def compute(self, model: str, inputs: Inputs) -> None:
        """Begin a batch; `done` is called when it ends, in one way or the other."""
        self._asked = Stop()
        self._batches.put((model, inputs, self._asked))

    def abort(self) -> None:
        """Ask the running batch to end early."""
        self._asked.ask()

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
            structlog.get_logger().exception("backend failed", model=model, device=self._number)
            return BackendError(f"{type(error).__name__} in the backend")
        return None


def _ended_within(seconds: float, threads: Sequence[threading.Thread]) -> bool:
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


@dataclass(slots=True)
class _Waiter:
    """What a request carries while it is served."""

    tensor: object
    answer: "asyncio.Future[Answer]"


class Service:
    """Serves requests on a backend's devices; to be made and used in one event loop."""

    def __init__(self, engine: Engine, backend: Backend, on_failure: Callable[[], None] = lambda: None) -> None:
        """Make it.

        Args:
            engine: decides.
            backend: computes.
            on_failure: called when the engine has failed; requests that are there or come are then answered so.
        """
        self.engine = engine
        self.failure: Exception | None = None
        self._on_failure = on_failure
        self._observers: list[Observer] = []
        self._log = structlog.get_logger().bind()
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._open: dict[Request, None] = {}
        self._all_answered = asyncio.Event()
        self._devices = [_Device(number, backend, self._report) for number in range(engine.devices)]
        for device in self._devices:
            device.start()

    def observe(self, observer: Observer) -> None:
        """Tell an observer what happens from now on."""
        self._observers.append(observer)

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
        self._open[request] = None
        self._tell_engine(lambda: self.engine.submit(request, now))
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            self._tell_engine(lambda: self.engine.cancel(request, self.now()))
            raise

    async def drain(self, seconds: float, reason: str) -> None:
        """Wait until all requests are answered; after so many seconds, answer what is left with a reason."""
        try:
            async with asyncio.timeout(seconds):
                while self._open:
                    self._all_answered.clear()
                    await self._all_answered.wait()
        except TimeoutError:
            self._tell_engine(lambda: self.engine.close(reason))

    async def end(self) -> bool:
        """Stop the devices; tell whether they have, which those of a backend that cannot be stopped may not."""
        if self._alarm:
            self._alarm.cancel()
        for device in self._devices:
            device.abort()
            device.end()
        return await asyncio.to_thread(_ended_within, LAST_WAIT, self._devices)

    def _report(self, device: int, error: Exception | None) -> None:
        """Carry the end of a batch from its device's thread into the event loop."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._ended, device, error)

    def _ended(self, device: int, error: Exception | None) -> None:
        now, batch = self.now(), self.engine.running[device]
        assert batch is not None
        if error is None:
            for observer in self._observers:
                observer.computed(device, batch, now - batch.started)
            self._tell_engine(lambda: self.engine.completed(device, now))
        elif isinstance(error, AbortedError) and batch.stopping:
            for observer in self._observers:
                observer.stopped(batch)
            self._tell_engine(lambda: self.engine.aborted(device, now))
        else:
            self._tell_engine(lambda: self.engine.failed(device, str(error) or "stopped by itself", now))

    def _wake(self) -> None:
        self._alarm = None
        self._tell_engine(lambda: self.engine.wake(self.now()))

    def _tell_engine(self, event: Callable[[], list[Instruction]]) -> None:
        """Do what the engine says to an event."""
        if self.failure is None:
            try:
                self._apply(event())
            except Exception as error:  # noqa: BLE001 (a policy may be others' code; everybody must be answered all the same)
                self.failure = error
                self._on_failure()
        if self.failure is not None:
            for request in list(self._open):
                self._answer(Answer(request, Outcome.FAILED, f"the scheduler failed ({self.failure})"))

    def _apply(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Start(device, batch):
                    inputs = [request.payload.tensor for request in batch.requests]
                    self._devices[device].compute(self.engine.models[batch.model], inputs)
                case Abort(device):
                    self._devices[device].abort()
                case Answer():
                    self._answer(instruction)
        self._set_alarm()

    def _answer(self, answer: Answer) -> None:
        now, request = self.now(), answer.request
        waiter, request.payload = request.payload, None
        if not waiter.answer.done():
            waiter.answer.set_result(answer)
        del self._open[request]
        if not self._open:
            self._all_answered.set()
        for observer in self._observers:
            observer.answered(answer, now)
        self._log.debug(
            "answered",
            tier=request.tier,
            model=self.engine.models[request.model],
            outcome=answer.outcome.value,
            reason=answer.message,
            seconds=round(now - request.arrival, 6),
        )

    def _set_alarm(self) -> None:
        wake = self.engine.next_wake
        if self._alarm and self._alarm.when() == wake:
            return
        if self._alarm:
            self._alarm.cancel()
        self._alarm = None if wake == math.inf else self._loop.call_at(wake, self._wake)
