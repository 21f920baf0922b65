"""What operators watch: Prometheus metrics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from gsched.errors import InputError
from gsched.live.loadgen.workload_config import slo_of
from gsched.live.scheduler.engine import Answer, Batch, Engine

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Observes a service; `registry` holds what Prometheus may read."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self._models: Sequence[str] = engine.models
        own = self.registry
        queue = Gauge("gsched_queue_length", "Requests that wait", registry=own)
        queue.set_function(lambda: engine.queue_length)
        running = Gauge("gsched_running_batches", "Devices that compute", registry=own)
        running.set_function(lambda: sum(batch is not None for batch in engine.running))
        self._requests = Counter(
            "gsched_requests", "Requests that have ended", ["tier", "slo", "model", "outcome"], registry=own
        )
        self._latency = Histogram(
            "gsched_latency_seconds",
            "From the arrival of a request that was done to its answer",
            ["tier", "slo"],
            buckets=_SECONDS,
            registry=own,
        )
        self._in_time = Counter(
            "gsched_requests_in_time", "Requests done by their deadline", ["tier", "slo"], registry=own
        )
        self._batch = Histogram("gsched_batch_size", "Requests in a batch", ["model"], buckets=_SIZES, registry=own)
        self._model_time = Histogram(
            "gsched_model_seconds", "From the start of a batch to its end", ["model"], buckets=_SECONDS, registry=own
        )
        self._preemptions = Counter("gsched_preemptions", "Batches stopped for a more important request", registry=own)

    def computed(self, device: int, batch: Batch, seconds: float) -> None:  # noqa: ARG002 (devices are alike)
        """Note that a batch was computed."""
        model = self._models[batch.model]
        self._batch.labels(model).observe(len(batch.requests))
        self._model_time.labels(model).observe(seconds)

    def stopped(self, batch: Batch) -> None:  # noqa: ARG002 (all count alike)
        """Note that a batch was stopped."""
        self._preemptions.inc()

    def answered(self, answer: Answer, now: float) -> None:
        """Note that a request has ended."""
        request = answer.request
        tier, slo = str(request.tier), slo_of(request.due - request.arrival)
        self._requests.labels(tier, slo, self._models[request.model], answer.outcome.value).inc()
        if answer.outcome == "done":
            self._latency.labels(tier, slo).observe(now - request.arrival)
            if now <= request.due:
                self._in_time.labels(tier, slo).inc()

    @contextmanager
    def exposed(self, host: str, port: int) -> Iterator[int]:
        """Serve the metrics over HTTP, from a thread of its own, while the block runs; yield the port.

        Raises:
            InputError: the port cannot be had.
        """
        try:
            server, thread = start_http_server(port, host.strip("[]"), self.registry)
        except OSError as error:
            message = f"cannot be had ({error.strerror})"
            raise InputError.one(f"--metrics-port {port}", "", message, "choose another port") from error
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
