"""Schedulers in the event loop of a test, on backends that run when the test says so, and a client for them."""

import asyncio
import logging
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import structlog
from prometheus_client.parser import text_string_to_metric_families

from gsched.live.loadgen.generated.scheduler_pb2 import InferRequest, InferResponse
from gsched.live.loadgen.generated.scheduler_pb2_grpc import SchedulerServiceStub
from gsched.live.scheduler.backends import AbortedError, Inputs, Stop
from gsched.live.scheduler.engine import Engine, Rules
from gsched.live.scheduler.launch import Plan, serve
from gsched.live.scheduler.server import Access, Server
from gsched.policies import find_policy

PATIENCE = 10.0
"""Seconds after which a test that waits for something has failed."""

MODELS = {"a": (2,), "b": None}


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a coroutine function."""

    @wraps(test)
    def run(*given: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*given, **named), 3 * PATIENCE))  # whatever else waits gives up before

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something has become true."""
    while not condition():
        await asyncio.sleep(0.001)


@dataclass
class Held:
    """A backend of which each batch waits until the test lets it go, or until it is stopped."""

    models: Mapping[str, tuple[int, ...] | None] = field(default_factory=lambda: MODELS)
    stops: bool = True
    ran: list[list[float]] = field(default_factory=list)
    """For each batch that began, the first number of each input."""
    closed: bool = False

    def __post_init__(self) -> None:
        self._began = threading.Semaphore(0)
        self._go = threading.Semaphore(0)

    def run(self, device: int, model: str, inputs: Inputs, stop: Stop) -> None:
        self.ran.append([float(tensor.flat[0]) for tensor in inputs])
        self._began.release()
        if self.stops:
            stop.on_ask(self._go.release)
        assert self._go.acquire(timeout=PATIENCE)
        stop.on_ask(None)
        if self.stops and stop.wait(0):
            raise AbortedError

    def close(self) -> None:
        self.closed = True

    async def begun(self) -> None:
        """Wait until one more batch has begun."""
        assert await asyncio.to_thread(self._began.acquire, timeout=PATIENCE)

    def release(self, batches: int = 1) -> None:
        self._go.release(batches)


@dataclass
class Instant:
    """A backend that needs no time, or fails."""

    error: BaseException | None = None
    models: Mapping[str, tuple[int, ...] | None] = field(default_factory=lambda: MODELS)

    def run(self, device: int, model: str, inputs: Inputs, stop: Stop) -> None:
        if self.error:
            raise self.error

    def close(self) -> None:
        pass


def plan(backend: Any, *, seconds: float = 0.0, policy: object = "tiered", **changes: Any) -> Plan:
    """Return a plan in which every batch is expected to take so many seconds, one request a batch."""
    given = {name: changes.pop(name) for name in list(changes) if name in Rules.__dataclass_fields__}
    rules = replace(Rules(max_batch=1), **given)
    changes = {"access": Access(port=0), "grace": 0.0} | changes
    return Plan(backend, 1, [(seconds, 0.0)] * len(backend.models), find_policy(policy), rules, **changes)


@dataclass
class Running:
    """A scheduler that serves, and a client."""

    server: Server
    metrics_port: int | None
    stop: asyncio.Event
    task: "asyncio.Task[None]"
    channel: grpc.aio.Channel

    @property
    def engine(self) -> Engine:
        return self.server._service.engine

    def ask(
        self, number: float = 0.0, tier: int = 1, within: float | None = None, model: str = "a", **named: Any
    ) -> "grpc.aio.UnaryUnaryCall[InferRequest, InferResponse]":
        """Send a request whose input begins with a number, due in so many seconds."""
        due = 0 if within is None else time.time_ns() + int(within * 1e9)
        request = InferRequest(
            tier=tier, deadline_ns=due, model_name=model, input_tensor=[number, 0], input_shape=[1, 2]
        )
        return SchedulerServiceStub(self.channel).Infer(request, **named)

    async def queued(self, *numbers: float, **named: Any) -> list[Any]:
        """Send requests, each once the one before has reached the queue."""
        calls = []
        for number in numbers:
            before = self.engine.queue_length
            calls.append(self.ask(number, **named))
            await until(lambda before=before: self.engine.queue_length == before + 1)
        return calls

    async def sample(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over everything that has these labels."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        page = (await asyncio.to_thread(lambda: urlopen(url).read())).decode()
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


async def outcome(call: Any) -> str:
    """Return how a call ended: the outcome in its answer, or the name of its status."""
    task = asyncio.current_task()
    assert task
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    except asyncio.CancelledError:
        if task.cancelling():  # it is the test that is to end
            raise
        return "CANCELLED"
    kind = answer.message.partition(":")[0]
    assert answer.success == (kind == "done")
    return kind


@asynccontextmanager
async def serving(
    given: Plan, channel: Callable[[str], grpc.aio.Channel] = grpc.aio.insecure_channel
) -> AsyncIterator[Running]:
    """Serve while the block runs; then end, unless that has happened in it."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(given, lambda *which: ready.set_result(which), stop))
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    server, metrics_port = await ready
    async with channel(f"localhost:{server.port}") as client:
        try:
            yield Running(server, metrics_port, stop, task, client)
        finally:
            stop.set()
            await asyncio.wait([task])
    task.result()


def packed(numbers: list[float]) -> bytes:
    """Return numbers as the content of a packed field."""
    return np.array(numbers, "<f4").tobytes()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for localhost, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *words.split(), *names], check=True, capture_output=True)
    return certificate, key


@contextmanager
def logs_kept() -> Iterator[None]:
    """Take back what the block has set for the logs of this process."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()
