"""A scheduler from start to end: backend, measured service times, engine, server, signals."""

import asyncio
import signal
import statistics
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import structlog

from gsched.errors import InputError
from gsched.live.memory import keep_large_blocks
from gsched.live.scheduler.backends import Backend, BackendError, Stop
from gsched.live.scheduler.engine import Engine, Rules
from gsched.live.scheduler.estimates import ServiceTimes
from gsched.live.scheduler.record import Recorder
from gsched.live.scheduler.server import Access, Server
from gsched.live.scheduler.service import Service
from gsched.live.scheduler.telemetry import Metrics
from gsched.policies import Policy

Line = tuple[float, float]
"""Seconds of any batch of a model, and those that each request adds."""

ENOUGH = 1.0  # seconds of measuring a batch size; three batches at most


@dataclass(frozen=True, slots=True)
class Plan:
    """What to serve and how.

    Args:
        backend: computes.
        devices: batches that run at once.
        lines: how long batches take, in the order of the backend's models.
        policy: orders requests.
        rules: of the engine.
        access: of the server.
        metrics_port: where Prometheus may read; None for nowhere, 0 for any.
        record: file for a line per request; None for none.
        grace: seconds for which requests may finish at the end.
    """

    backend: Backend
    devices: int
    lines: Sequence[Line]
    policy: Policy
    rules: Rules = field(default_factory=Rules)
    access: Access = field(default_factory=Access)
    metrics_port: int | None = None
    record: Path | None = None
    grace: float = 10.0


def measured_lines(backend: Backend, max_batch: int) -> list[Line]:
    """Return how long batches of each model take on the first device, from running the smallest and the largest.

    Raises:
        InputError: a batch fails.
    """
    lines = []
    for model, shape in backend.models.items():
        tensor = np.zeros(shape or (1,), np.float32)
        try:
            one, many = (
                _median_seconds(partial(backend.run, 0, model, [tensor] * batch, Stop())) for batch in (1, max_batch)
            )
        except BackendError as error:
            raise InputError.one("", f"model {model}", str(error), "check the model or its backend") from error
        per_request = max(0.0, (many - one) / (max_batch - 1)) if max_batch > 1 else one
        lines.append((max(0.0, one - per_request), per_request))
    return lines


def _median_seconds(run: Callable[[], None]) -> float:
    run()  # warms up
    times: list[float] = []
    while len(times) < 3 and sum(times) < ENOUGH:
        began = perf_counter()
        run()
        times.append(perf_counter() - began)
    return statistics.median(times)


async def serve(plan: Plan, ready: Callable[[Server, int | None], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain.

    Args:
        plan: what to serve.
        ready: called with the server and the port of the metrics once calls are accepted.
        stop: ends it.

    Raises:
        InputError: a port or a file cannot be had.
        PolicyError: the policy failed, and with it the scheduler.
    """
    engine = Engine(list(plan.backend.models), plan.devices, plan.policy, ServiceTimes(plan.lines), plan.rules)
    service = Service(engine, plan.backend, on_failure=stop.set)
    async with AsyncExitStack() as ending:  # in the order opposite to that of the lines below
        ending.push_async_callback(_release, service, plan.backend)
        server = Server(service, plan.backend.models, plan.access)
        metrics = Metrics(engine)
        service.observe(metrics)
        metrics_port = None
        if plan.metrics_port is not None:
            metrics_port = ending.enter_context(metrics.exposed(plan.access.host, plan.metrics_port))
        if plan.record:  # only now: a server that cannot listen must not empty the record of another
            recorder = Recorder(plan.record, engine.models, service.now())
            ending.callback(recorder.close)
            service.observe(recorder)
        await server.start()
        ending.push_async_callback(server.stop, plan.grace)
        ready(server, metrics_port)
        await stop.wait()
        structlog.get_logger().info("draining", waiting=engine.queue_length, grace_seconds=plan.grace)
    if service.failure:
        raise service.failure


async def _release(service: Service, backend: Backend) -> None:
    """End the devices and release what the backend holds, unless one of them still uses it."""
    if await service.end():
        backend.close()
    else:
        structlog.get_logger().warning("the backend does not stop")


def run(plan: Plan, ready: Callable[[Server, int | None], None]) -> None:
    """Serve until the process is asked to end."""
    keep_large_blocks()

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(plan, ready, stop)

    asyncio.run(main())
