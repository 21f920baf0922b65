"""The backend for servers of the Open Inference Protocol, against one in this process."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from test_backends import asked, stopped_while_running, text_of, values

from gsched.errors import InputError
from gsched.live.loadgen.generated import oip_pb2, oip_pb2_grpc
from gsched.live.scheduler.backends import AbortedError, BackendError, Stop, oip


class Server(oip_pb2_grpc.GRPCInferenceServiceServicer):
    """What a test changes of a server that works."""

    def __init__(self) -> None:
        self.unready = 0  # times that it says so before it is ready
        self.models = {"own": [("x", "FP32", [-1, 2, 3])]}
        self.requests: list[oip_pb2.ModelInferRequest] = []
        self.left = 0.0  # seconds until the deadline of the last request
        self.trouble = ""
        self.hangs = False

    def ServerReady(self, request: Any, context: Any) -> oip_pb2.ServerReadyResponse:  # noqa: N802
        self.unready -= 1
        return oip_pb2.ServerReadyResponse(ready=self.unready < 0)

    def ModelReady(self, request: Any, context: Any) -> oip_pb2.ModelReadyResponse:  # noqa: N802
        return oip_pb2.ModelReadyResponse(ready=request.name in self.models)

    def ModelMetadata(self, request: Any, context: Any) -> oip_pb2.ModelMetadataResponse:  # noqa: N802
        kind = oip_pb2.ModelMetadataResponse.TensorMetadata
        inputs = [kind(name=name, datatype=type, shape=shape) for name, type, shape in self.models[request.name]]
        return oip_pb2.ModelMetadataResponse(name=request.name, inputs=inputs)

    def ModelInfer(self, request: Any, context: Any) -> oip_pb2.ModelInferResponse:  # noqa: N802
        self.requests.append(request)
        self.left = context.time_remaining()
        if self.trouble:
            context.abort(grpc.StatusCode.INTERNAL, self.trouble)
        if self.hangs:
            ended = threading.Event()
            if context.add_callback(ended.set):
                ended.wait(30)
        return oip_pb2.ModelInferResponse(model_name=request.model_name)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(oip, "START", 5.0)
    monkeypatch.setattr(oip, "POLL", 0.01)
    servicer = Server()
    running = grpc.server(ThreadPoolExecutor(2))
    oip_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, running)
    servicer.url = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    yield servicer
    running.stop(None).wait()


def test_a_batch_is_one_request(server: Server) -> None:
    server.unready = 2
    backend = oip.build(server.url, ["own"], timeout=60)
    assert backend.models == {"own": (2, 3)}
    inputs = values(2, 3, count=4)
    backend.run(0, "own", inputs, Stop())
    backend.close()
    [request] = server.requests
    [tensor] = request.inputs
    assert 30 < server.left < 61
    assert (request.model_name, tensor.name, tensor.datatype, list(tensor.shape)) == ("own", "x", "FP32", [4, 2, 3])
    assert request.raw_input_contents == [np.stack(inputs).tobytes()]


def test_a_request_that_the_server_fails(server: Server) -> None:
    server.trouble = "out of\nmemory"
    backend = oip.build(server.url, ["own"])
    with pytest.raises(BackendError) as raised:
        backend.run(0, "own", values(2, 3), Stop())
    assert str(raised.value) == r"the server failed with own: INTERNAL: out of\nmemory"
    backend.close()


def test_a_request_that_takes_too_long(server: Server) -> None:
    server.hangs = True
    backend = oip.build(server.url, ["own"], timeout=0.05)
    with pytest.raises(BackendError, match="DEADLINE_EXCEEDED"):
        backend.run(0, "own", values(2, 3), Stop())
    backend.close()


def test_a_running_request_is_cancelled(server: Server) -> None:
    server.hangs = True
    backend = oip.build(server.url, ["own"])
    stopped_while_running(backend, "own", values(2, 3))
    with pytest.raises(AbortedError):
        backend.run(0, "own", values(2, 3), asked())
    server.hangs = False
    backend.run(0, "own", values(2, 3), Stop())
    backend.close()


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([("x", "FP32", [-1, 2]), ("z", "FP32", [-1, 2])], "takes 2 inputs (x, z); "),
        ([("x", "INT8", [-1, 2])], "input x is of type INT8; "),
        ([("x", "FP32", [-1, -1])], "input x has unknown dimensions [-1, -1]; "),
        ([("x", "FP32", [1, 2])], "takes one request at a time; "),
    ],
)
def test_served_models_that_are_refused(server: Server, inputs: list[Any], text: str) -> None:
    server.models = {"own": inputs}
    assert text_of(lambda: oip.build(server.url, ["own"])).startswith(f"{server.url}: model own: {text}")


def test_what_is_not_ready(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oip, "START", 1.0)
    text = text_of(lambda: oip.build(server.url, ["own", "other"]))
    hint = "check the server and its address"
    assert text == f"{server.url}: model other: is not ready after 1 s (it says so); {hint}"
    server.unready = sys.maxsize
    text = text_of(lambda: oip.build(server.url, ["own"]))
    assert text == f"{server.url}: is not ready after 1 s (it says so); {hint}"
    text = text_of(lambda: oip.build("127.0.0.1:1", ["own"]))
    assert text.startswith("127.0.0.1:1: is not ready after 1 s (")
    assert text.endswith(f"); {hint}")


def test_what_a_server_said_counts_more_than_a_question_that_was_cut_off() -> None:
    said = [SimpleNamespace(ready=False)]

    def call(_request: object, **_: object) -> SimpleNamespace:
        if said:
            return said.pop()
        raise grpc.RpcError("cut off")

    with pytest.raises(InputError, match="it says so"):
        oip._await_ready("x:1", "", call, None, monotonic() + 0.2)
    with pytest.raises(InputError, match="cut off"):
        oip._await_ready("x:1", "", call, None, monotonic() + 0.1)


def test_a_server_of_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oip, "START", 1.0)
    running = grpc.server(ThreadPoolExecutor(1))
    url = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    assert "UNIMPLEMENTED: Method not found!" in text_of(lambda: oip.build(url, ["own"]))
    running.stop(None).wait()
