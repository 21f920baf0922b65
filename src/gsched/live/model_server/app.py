"""The model server's HTTP interface."""

import hmac
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gsched import __version__
from gsched.errors import one_line
from gsched.live.model_server import messages as wire
from gsched.live.model_server.devices import joined
from gsched.live.model_server.instances import now
from gsched.live.model_server.messages import Success
from gsched.live.model_server.refusals import GoneError, RefusedError
from gsched.live.model_server.service import Service
from gsched.live.model_server.status import instance_state, model_state, status_of

MAX_BODY = 1 << 20  # bytes of a request
CLIENT_GONE = 499  # nobody reads it

_CLOSE = {"Connection": "close"}

_FAILURES: dict[int | str, dict[str, Any]] = {
    404: {"model": wire.Failure, "description": "There is no such instance or model"},
    409: {"model": wire.Failure, "description": "It is being loaded or unloaded"},
    413: {"model": wire.Failure, "description": "The request is too long"},
    422: {"model": wire.Failure, "description": "The request makes no sense"},
    500: {"model": wire.Failure, "description": "The model failed"},
    503: {"model": wire.Failure, "description": "Too many calls wait, or the server is shutting down"},
    507: {"model": wire.Failure, "description": "The memory of a device does not suffice"},
}

routes = APIRouter()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Its = Annotated[Service, Depends(_service)]


def build_app(service: Service, token: str = "", max_body: int = MAX_BODY) -> ASGIApp:
    """Return the application.

    Args:
        service: does the work.
        token: what clients must send as `Authorization: Bearer …`; empty for no check.
        max_body: bytes of a request at most.
    """
    app = FastAPI(
        title="gsched model server", version=__version__, summary="Models loaded, served and called over HTTP."
    )
    app.state.service = service
    app.include_router(routes)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(GoneError, _gone)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    return _Gate(app, token, max_body)


@routes.get("/", include_in_schema=False)
async def _root() -> RedirectResponse:
    return RedirectResponse("/docs")


@routes.get("/health", responses={503: _FAILURES[503]})
async def health(service: Its) -> wire.Health:
    """Tell that the server answers."""
    service.require_open()
    return wire.Health(backend=service.backend.name, version=__version__)


@routes.get("/standalone/status")
async def status(service: Its, request: Request) -> Success[wire.Status]:
    """Tell what is where, and what it does."""
    return Success(message="status", data=status_of(service, *_address(request)))


@routes.post("/standalone/download", responses=_FAILURES)
async def download(service: Its, body: wire.DownloadRequest) -> Success[wire.ModelState]:
    """Bring a model's files to this machine."""
    entry = await service.download(body.model_name)
    return Success(message=f"{body.model_name} is on disk", data=model_state(service, entry))


@routes.post("/standalone/load", responses=_FAILURES)
async def load(
    service: Its, body: wire.LoadRequest, request: Request
) -> Success[wire.ModelState] | Success[wire.InstanceState]:
    """Load a model into the CPU's memory, or onto GPUs for a later serve."""
    if body.target == "dram":
        entry = await service.load_to_dram(body.model_name)
        return Success[wire.ModelState](message=f"{body.model_name} is in memory", data=model_state(service, entry))
    devices = service.devices.parse(body.device or [])
    instance = await service.load(body.model_name, devices, serve=False)
    return Success[wire.InstanceState](
        message=f"{body.model_name} is on {joined(devices)}", data=instance_state(instance, *_address(request))
    )


@routes.post("/standalone/serve", responses=_FAILURES)
async def serve(service: Its, body: wire.ServeRequest, request: Request) -> Success[wire.InstanceState]:
    """Make an instance of a model on devices; whatever is missing is done first."""
    instance = await service.load(body.model_name, service.devices.parse(body.device), serve=True)
    return Success(
        message=f"{body.model_name} is served as {instance.id}", data=instance_state(instance, *_address(request))
    )


@routes.post("/standalone/call/{instance_id}", responses=_FAILURES, response_model_exclude_none=True)
async def call(service: Its, instance_id: str, body: wire.CallRequest, request: Request) -> Success[wire.CallAnswer]:
    """Call an instance; the answer comes after the calls that were there before on its devices."""
    _require_same(instance_id, body)
    answer = await service.call(instance_id, body.data.plain(), lambda: _disconnected(request))
    data = wire.CallAnswer(
        response=answer.output.response,
        image_path=answer.output.image_path,
        model_type=answer.instance.model.type,
        instance_id=instance_id,
        port=_address(request)[1],
        device_used=joined(answer.instance.devices),
        execution_seconds=answer.execution_seconds,
        queue_seconds=answer.queue_seconds,
    )
    return Success(message="answered", data=data)


@routes.post("/standalone/estimate", responses=_FAILURES)
async def estimate(service: Its, body: wire.EstimateRequest) -> Success[wire.Estimate]:
    """Tell how long a call to a model should take, in seconds of the workload."""
    devices = service.devices.parse(body.device)
    return _estimate(service, body.model_name, devices, body.data)


@routes.post("/standalone/estimate/{instance_id}", responses=_FAILURES)
async def estimate_instance(service: Its, instance_id: str, body: wire.CallRequest) -> Success[wire.Estimate]:
    """Tell how long a call to an instance should take, in seconds of the workload, without waiting."""
    _require_same(instance_id, body)
    instance = service.find(instance_id)
    return _estimate(service, instance.model.id, instance.devices, body.data)


@routes.post("/standalone/offload", responses=_FAILURES)
async def offload(service: Its, body: wire.OffloadRequest) -> Success[wire.ModelState]:
    """Unload all instances of a model once their calls are answered."""
    entry = await service.offload(body.model_name, keep_in_dram=body.target == "dram")
    return Success(message=f"{body.model_name} is offloaded", data=model_state(service, entry))


@routes.delete("/standalone/instance/{instance_id}", responses=_FAILURES)
async def unload(service: Its, instance_id: str, request: Request) -> Success[wire.InstanceState]:
    """Unload an instance once its calls are answered."""
    instance = await service.unload(instance_id)
    return Success(message=f"{instance_id} is unloaded", data=instance_state(instance, *_address(request)))


def _estimate(service: Service, name: str, devices: Sequence[str], asked: wire.CallData) -> Success[wire.Estimate]:
    model, data = service.profiles.find(name), asked.plain()
    found = wire.Estimate(
        estimated_execution_time=service.estimates.seconds(model, data),
        model_type=model.type,
        device=joined(devices),
        data_features=service.estimates.features(model, data),
        timestamp=now(),
    )
    return Success(message="estimated", data=found)


def _require_same(instance_id: str, body: wire.CallRequest) -> None:
    if body.instance_id not in (None, instance_id):
        raise RefusedError(422, "instance_id of the body is not that of the path")


def _address(request: Request) -> tuple[str, int]:
    """Return where the client has reached the server."""
    host, port = request.scope["server"]
    return host, port


async def _disconnected(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return _failure(error.status, str(error))


async def _gone(_request: Request, _error: Exception) -> JSONResponse:
    return _failure(CLIENT_GONE, "the client has left")


async def _failed(_request: Request, _error: Exception) -> JSONResponse:
    return _failure(500, "the server failed; its log says more", _CLOSE)  # uvicorn closes then


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()]
    return _failure(422, one_line("; ".join(found[:5])))


def _failure(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


class _Gate:
    """Lets requests through that bring the token and are not too long."""

    def __init__(self, app: ASGIApp, token: str, max_body: int) -> None:
        self._app, self._max_body = app, max_body
        self._wanted = f"Bearer {token}".encode() if token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._wanted and scope["path"].startswith("/standalone"):
            given = headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, self._wanted):
                hint = {"WWW-Authenticate": "Bearer"}
                await _failure(401, "send the token as Authorization: Bearer TOKEN", hint)(scope, receive, send)
                return
        await self._app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        """Count what comes, as not every request says how long it is."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body:
                raise HTTPException(413, f"a request has {self._max_body:,} bytes at most")
            return message

        return counted
