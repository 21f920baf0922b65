"""The scheduler's gRPC server: who may ask, and whether the question makes sense."""

import asyncio
import hmac
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import numpy as np
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gsched.errors import InputError
from gsched.live import wire
from gsched.live.loadgen.generated.scheduler_pb2 import DESCRIPTOR, InferResponse
from gsched.live.loadgen.workload_config import TIERS
from gsched.live.scheduler.engine import Outcome
from gsched.live.scheduler.service import Service

LARGEST_FRAME = (1 << 24) - 1  # of HTTP/2
CLOSING = "the scheduler is shutting down"
MOST_AXES = 32
QUIET = 0.05  # seconds without a call after which the server may end
MOST_REFUSED = 100_000  # calls after which it ends though more come
LAST_WAIT = 1.0  # seconds for the last answers to leave


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server listens, and what it accepts.

    Args:
        host: name or address; loopback unless others are to reach it.
        port: 0 for any.
        max_message: bytes of a request at most.
        max_calls: calls that may be open at once.
        token: what clients must send as `authorization: Bearer …`; empty for no check.
        certificate: PEM of the server's certificate and its private key, for TLS; None for none.
        finite: whether inputs with NaN or infinity are refused.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    max_message: int = 16 << 20
    max_calls: int = 4096
    token: str = ""
    certificate: tuple[bytes, bytes] | None = None
    finite: bool = True

    def address(self, port: int) -> str:
        """Return where a port of this host is found."""
        host = self.host.strip("[]")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _InvalidCallError(Exception):
    """The call makes no sense; `code` is the gRPC status that says so."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Server:
    """Serves a `Service` over gRPC."""

    def __init__(self, service: Service, shapes: Mapping[str, tuple[int, ...] | None], access: Access) -> None:
        """Make it.

        Args:
            service: does the work.
            shapes: of each model's input without the batch axis; None where any will do.
            access: who may ask.
        """
        self._service, self._access = service, access
        self._position = {model: i for i, model in enumerate(service.engine.models)}
        self._shapes = shapes
        self._log = structlog.get_logger().bind()
        self._closing, self._refused = False, 0
        self._health = health.aio.HealthServicer()
        self._server = self._new_server()
        self.port = self._listen()

    async def start(self) -> None:
        """Accept calls."""
        await self._server.start()
        for name in ("", wire.SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, answer those that are there, within so many seconds, and end."""
        self._closing = True
        try:
            await self._health.enter_graceful_shutdown()
            await self._service.drain(grace, CLOSING)
            await self._settle()
        finally:  # a gRPC server that is left to itself can keep the process from ending
            await self._server.stop(LAST_WAIT)

    async def _settle(self) -> None:
        """Refuse calls until none has come for a moment, as gRPC cancels those that are still on their way in."""
        before = -1
        while before != self._refused < MOST_REFUSED:
            before = self._refused
            await asyncio.sleep(QUIET)

    def _new_server(self) -> grpc.aio.Server:
        access = self._access
        interceptors = [_TokenCheck(access.token)] if access.token else []
        options = [
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
            ("grpc.max_receive_message_length", access.max_message),
            ("grpc.http2.max_frame_size", LARGEST_FRAME),  # a request in one frame instead of forty
        ]
        server = grpc.aio.server(interceptors=interceptors, options=options, maximum_concurrent_rpcs=access.max_calls)
        infer: Any = grpc.unary_unary_rpc_method_handler(
            self._infer, response_serializer=InferResponse.SerializeToString
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, {"Infer": infer}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [wire.SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME]
        assert DESCRIPTOR.services_by_name["SchedulerService"].full_name == wire.SERVICE
        reflection.enable_server_reflection(names, server)
        return server

    def _listen(self) -> int:
        access = self._access
        address = access.address(access.port)
        try:
            if access.certificate:
                certificate, key = access.certificate
                credentials = grpc.ssl_server_credentials([(key, certificate)])
                return self._server.add_secure_port(address, credentials)
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            hint = "choose another --port or --host, or end what uses it"
            raise InputError.one(address, "", "cannot be listened on", hint) from error

    async def _infer(self, data: bytes, context: Any) -> InferResponse:
        """Answer one call."""
        if self._closing:
            self._refused += 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, CLOSING)
        try:
            call = self._checked(data)
        except _InvalidCallError as error:
            self._log.debug("refused", code=error.code.name, reason=str(error))
            await context.abort(error.code, str(error))
        due = math.inf
        if call.deadline_ns > 0:
            due = self._service.now() + (call.deadline_ns - time.time_ns()) / 1e9
        answer = await self._service.serve(self._position[call.model], call.tier, due, self._input(call))
        if answer.outcome is Outcome.FAILED:
            await context.abort(grpc.StatusCode.INTERNAL, f"{answer.outcome}: {answer.message}")
        success = answer.outcome is Outcome.DONE
        message = f"{answer.outcome}: {answer.message}"
        return InferResponse(deadline_ns=call.deadline_ns, success=success, message=message)

    def _checked(self, data: bytes) -> wire.Call:
        """Return a call that makes sense."""
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        try:
            call = wire.decode(data)
        except ValueError as error:
            raise _InvalidCallError(invalid, str(error)) from None
        if call.tier not in TIERS:
            raise _InvalidCallError(invalid, f"tier must be {TIERS[0]} to {TIERS[-1]}, not {call.tier}")
        if call.deadline_ns < 0:
            raise _InvalidCallError(invalid, "deadline_ns must not be negative")
        if call.model not in self._position:
            known = ", ".join(self._position)
            raise _InvalidCallError(grpc.StatusCode.NOT_FOUND, f"no model {call.model[:100]!r}; there is {known}")
        if problem := self._misfit(call):
            raise _InvalidCallError(invalid, problem)
        return call

    def _misfit(self, call: wire.Call) -> str | None:
        """Return why an input does not fit its model."""
        wanted = self._shapes[call.model]
        fits = len(call.shape) <= MOST_AXES and min(call.shape, default=1) >= 1
        if not fits or math.prod(call.shape) != call.tensor.size:
            return f"input_shape {list(call.shape)[:8]} does not describe {call.tensor.size} floats"
        if wanted is not None and call.shape not in ((1, *wanted), wanted):
            return f"model {call.model} takes input_shape {[1, *wanted]}, not {list(call.shape)[:8]}"
        if self._access.finite and not np.isfinite(call.tensor).all():
            return "input_tensor holds NaN or infinity"
        return None

    def _input(self, call: wire.Call) -> wire.Tensor:
        wanted = self._shapes[call.model]
        return call.tensor if wanted is None else call.tensor.reshape(wanted)


class _TokenCheck(grpc.aio.ServerInterceptor):
    """Lets calls to the scheduler through that bring the token; health and reflection are for everybody."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        given = dict(details.invocation_metadata or ()).get("authorization", "")
        sent = given if isinstance(given, bytes) else str(given).encode()
        if details.method != wire.METHOD or hmac.compare_digest(sent, self._wanted):
            return await continuation(details)
        return grpc.unary_unary_rpc_method_handler(_refuse)


async def _refuse(_request: object, context: Any) -> NoReturn:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "send the token as metadata authorization: Bearer TOKEN")
    raise AssertionError("abort does not return")
