"""The system under test: sends each query to the scheduler and records what came of it, exactly once."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import grpc
import numpy as np

from gsched.live import wire
from gsched.live.loadgen.metrics import Record
from gsched.live.loadgen.protocols import Ask, Ending, SchedulerProtocol, WireProtocol
from gsched.live.loadgen.workload_config import INPUT_SHAPE, MODEL_FOR_SLO, SLO_LATENCY_NS

TIMEOUT = 5.0  # seconds until a call is given up
MAX_IN_FLIGHT = 1000

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a scheduler that comes back is found at once
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.write_buffer_size", 8 << 20),  # a request in one piece: a quarter less CPU time
)

_FLOATS = int(np.prod(INPUT_SHAPE))
_ONE = np.uint32(0x3F800000)  # the bits of 1.0; with random bits in its fraction, a number from 1 to 2


class Query(Protocol):
    """What LoadGen hands over."""

    @property
    def id(self) -> int:
        """LoadGen's name for it."""


class _Query(NamedTuple):
    number: int
    issued: int
    sample: int
    model: str


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the scheduler.

    Args:
        url: host and port.
        token: sent as `authorization: Bearer …`; empty for none.
        authority: PEM of the certificate authority to trust, for TLS; None for no TLS.
        timeout: seconds until a call is given up.
        max_in_flight: calls under way at most, per class; what comes on top is recorded as unsent.
        protocol: what requests and answers look like.
    """

    url: str
    token: str = ""
    authority: bytes | None = None
    timeout: float = TIMEOUT
    max_in_flight: int = MAX_IN_FLIGHT
    protocol: WireProtocol = field(default_factory=SchedulerProtocol)

    def channel(self) -> grpc.aio.Channel:
        """Return a new channel; the loop it is used in must be running."""
        if self.authority is None:
            return grpc.aio.insecure_channel(self.url, options=_CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self.url, grpc.ssl_channel_credentials(self.authority), _CHANNEL_OPTIONS)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


_OVERDUE = (
    0.5  # seconds after which we end a call ourselves: now and then gRPC forgets a deadline when a server freezes
)


class Tensors:
    """Makes inputs of uniform numbers from 0 to 1, a new one for each request, in a tenth of the time of drawing all.

    Two windows of random bits, at random places, are combined bit by bit: that is uniform again, and different for each
    pair of places.
    """

    def __init__(self, seed: np.random.SeedSequence) -> None:
        self._rng = np.random.default_rng(seed)
        self._fractions = self._rng.integers(0, 1 << 23, 4 * _FLOATS, np.uint32)
        self._ones = self._fractions[::-1] | _ONE

    def draw(self) -> wire.Tensor:
        """Return the next input, of shape INPUT_SHAPE."""
        a, b = self._rng.integers(0, 3 * _FLOATS, 2).tolist()
        bits = self._fractions[a : a + _FLOATS] ^ self._ones[b : b + _FLOATS]
        numbers: wire.Tensor = bits.view(np.float32).reshape(INPUT_SHAPE)
        numbers -= np.float32(1)
        return numbers


def _complete(ids: Sequence[int]) -> None:
    """Tell LoadGen that samples are done."""
    import mlperf_loadgen as lg

    lg.QuerySamplesComplete([lg.QuerySampleResponse(sample, 0, 0) for sample in ids])


class SchedulerSUT:
    """Sends a class's queries from one event loop in one background thread.

    Args:
        scheduler_url: host and port, or a `Connection`.
        tier: of all queries.
        slo: of all queries.
        seed: of models and inputs.
        models: of the queries one after another; by default drawn from the mix of the SLO.
        complete: called with the ids of queries that have ended; LoadGen's own by default.

    A query that failed is completed only when its SLO has passed: LoadGen knows no failures, and would otherwise count
    a quick refusal as a quick answer.
    """

    def __init__(
        self,
        scheduler_url: str | Connection,
        tier: int,
        slo: str,
        *,
        seed: int | None = None,
        models: Sequence[str] | None = None,
        complete: Callable[[Sequence[int]], None] = _complete,
    ) -> None:
        self.records: list[Record] = []
        self.lock = threading.Lock()
        self.issued = 0
        self._connection = Connection(scheduler_url) if isinstance(scheduler_url, str) else scheduler_url
        self._protocol = self._connection.protocol
        self._tier, self._slo = tier, slo
        self._complete = complete
        model_seed, input_seed = np.random.SeedSequence(seed).spawn(2)
        self._model_rng = np.random.default_rng(model_seed)
        self._tensors = Tensors(input_seed)
        self._names, weights = zip(*MODEL_FOR_SLO[slo], strict=True)
        self._limits = np.cumsum(weights) / sum(weights)
        self._models = models
        self._sut: Any = None
        self._in_flight: set[asyncio.Task[None]] = set()
        self._finished: list[int] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sut", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    async def _open(self) -> None:
        self._channel = self._connection.channel()
        self._call: Any = self._channel.unary_unary(self._protocol.method)

    def connect(self, seconds: float) -> None:
        """Connect beforehand, so that the first queries need not; give up quietly after so long."""
        asyncio.run_coroutine_threadsafe(self._connected(seconds), self._loop).result()

    async def _connected(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._channel.channel_ready(), seconds)

    def build_sut(self) -> Any:
        """Return the LoadGen `SystemUnderTest`."""
        import mlperf_loadgen as lg

        self._sut = lg.ConstructSUT(self.issue_query, self.flush_queries)
        return self._sut

    def issue_query(self, query_samples: Sequence[Query]) -> None:
        """Take queries; they are sent from the background thread."""
        now = time.time_ns()
        ids = [sample.id for sample in query_samples]
        self._loop.call_soon_threadsafe(self._begin, now, ids)

    def flush_queries(self) -> None:
        """Do nothing: queries are never held back."""

    def drain(self, seconds: float) -> int:
        """Wait until every query has its record; give up on the rest after so long, and return how many those were."""
        return asyncio.run_coroutine_threadsafe(self._drained(seconds), self._loop).result()

    def destroy(self) -> None:
        """Close the channel and end the thread; every query must have ended."""
        if self._sut is not None:
            import mlperf_loadgen as lg

            lg.DestroySUT(self._sut)
        asyncio.run_coroutine_threadsafe(self._channel.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # In the background thread

    def _begin(self, issued: int, ids: Sequence[int]) -> None:
        for sample in ids:
            number, self.issued = self.issued, self.issued + 1
            model = self._models[number] if self._models else ""
            query = _Query(number, issued, sample, model or self._draw_model())
            if len(self._in_flight) >= self._connection.max_in_flight:
                self._record(query, 0, "unsent", "too many calls are under way")
                continue
            task = self._loop.create_task(self._send(query))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    def _draw_model(self) -> str:
        name: str = self._names[int(np.searchsorted(self._limits, self._model_rng.random(), side="right"))]
        return name

    async def _send(self, query: _Query) -> None:
        sent, outcome, error = 0, "unsent", "the load generator failed"
        try:
            tensor, limit = self._tensors.draw(), SLO_LATENCY_NS[self._slo]
            now = time.time_ns()
            ask = Ask(self._tier, now + limit, limit, query.model, tensor)
            request = self._protocol.encode(ask)
            sent = now
            outcome, error = await self._answer(ask, request)
        except asyncio.CancelledError:
            outcome, error = "timeout", "given up when the run ended"
            raise
        finally:
            self._record(query, sent, outcome, error)

    async def _answer(self, ask: Ask, request: bytes) -> Ending:
        """Send a request and return how it ended."""
        seconds = self._connection.timeout
        late = "timeout", f"no answer within {seconds:g} s"
        try:
            async with asyncio.timeout(seconds + _OVERDUE):
                data = await self._call(request, timeout=seconds, metadata=self._connection.metadata)
        except TimeoutError:
            return late
        except grpc.aio.AioRpcError as failure:
            if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return late
            return self._protocol.read_status(failure.code(), failure.details() or "")
        return self._protocol.read(data, ask)

    def _record(self, query: _Query, sent: int, outcome: str, error: str) -> None:
        limit = SLO_LATENCY_NS[self._slo]
        latency = time.time_ns() - query.issued
        record = Record(
            number=query.number,
            timestamp_issued=query.issued,
            sample_id=query.sample,
            tier=self._tier,
            slo=self._slo,
            model_name=query.model,
            latency_ns=latency,
            slo_met=outcome == "done" and latency <= limit,
            timestamp_scheduled=0,
            timestamp_sent=sent,
            outcome=outcome,
            error=error,
        )
        with self.lock:
            self.records.append(record)
        if outcome == "done" or latency > limit:
            self._finish(query.sample)
        else:
            self._loop.call_later((limit - latency) / 1e9 + 0.001, self._finish, query.sample)

    def _finish(self, sample: int) -> None:
        """Complete a sample together with the others of this turn of the loop."""
        if not self._finished:
            self._loop.call_soon(self._flush)
        self._finished.append(sample)

    def _flush(self) -> None:
        finished, self._finished = self._finished, []
        self._complete(finished)

    async def _drained(self, seconds: float) -> int:
        if not self._in_flight:
            return 0
        _, late = await asyncio.wait(self._in_flight, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)
