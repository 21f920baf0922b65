"""A server that speaks the Open Inference Protocol, version 2, over gRPC: NVIDIA Triton, KServe and others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import grpc
import numpy as np

from gsched.errors import InputError, one_line
from gsched.live.loadgen.generated import oip_pb2
from gsched.live.loadgen.generated.oip_pb2_grpc import GRPCInferenceServiceStub
from gsched.live.scheduler.backends import AbortedError, BackendError, Inputs, Stop
from gsched.live.scheduler.graphs import Input, only_input

START = 10.0  # seconds that a server and its models have to get ready
POLL = 0.1  # seconds between questions whether they are

_NO_LIMIT = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True)
class OpenInference:
    """Sends each batch to the server as one request."""

    channel: grpc.Channel
    infer: Any
    takes: Mapping[str, Input]
    timeout: float

    @property
    def models(self) -> dict[str, tuple[int, ...] | None]:
        """Each model's input shape."""
        return {name: takes.shape for name, takes in self.takes.items()}

    def run(self, device: int, model: str, inputs: Inputs, stop: Stop) -> None:  # noqa: ARG002 (the server chooses)
        """Send the batch and wait for the answer, which is not kept."""
        request = _request(model, self.takes[model], inputs)
        call = self.infer.future(request, timeout=self.timeout)
        stop.on_ask(call.cancel)
        try:
            call.result()
        except grpc.FutureCancelledError:
            raise AbortedError from None
        except grpc.RpcError as error:
            raise BackendError(f"the server failed with {model}: {_reason(error)}") from error
        finally:
            stop.on_ask(None)

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()


def build(url: str, models: Sequence[str], timeout: float = 30) -> OpenInference:
    """Return the backend, once the server and the models are ready.

    Args:
        url: host and port.
        models: names that the server knows.
        timeout: seconds for a batch.

    Raises:
        InputError: the server or a model is not ready in time, or a model does not take one float32 tensor.
    """
    channel = grpc.insecure_channel(url, options=_NO_LIMIT)
    stub = GRPCInferenceServiceStub(channel)
    try:
        takes = _takes(stub, url, models)
    except InputError:
        channel.close()
        raise
    return OpenInference(channel, stub.ModelInfer, takes, timeout)


def _takes(stub: GRPCInferenceServiceStub, url: str, models: Sequence[str]) -> dict[str, Input]:
    end = monotonic() + START
    _await_ready(url, "", stub.ServerReady, oip_pb2.ServerReadyRequest(), end)
    for model in models:
        _await_ready(url, f"model {model}", stub.ModelReady, oip_pb2.ModelReadyRequest(name=model), end)
    return {model: _input(stub, url, model) for model in models}


def _await_ready(url: str, place: str, call: Callable[..., Any], request: object, end: float) -> None:
    reason = ""
    while (left := end - monotonic()) > 0:
        try:
            if call(request, timeout=left, wait_for_ready=True).ready:
                return
            reason = "it says so"
        except grpc.RpcError as error:
            reason = reason or _reason(error)  # what it said counts more than that the last question was cut off
        sleep(min(POLL, left))
    raise InputError.one(
        url, place, f"is not ready after {START:g} s ({reason or 'never asked'})", "check the server and its address"
    )


def _input(stub: GRPCInferenceServiceStub, url: str, model: str) -> Input:
    place = f"model {model}"
    try:
        found = stub.ModelMetadata(oip_pb2.ModelMetadataRequest(name=model), timeout=START).inputs
    except grpc.RpcError as error:
        raise InputError.one(url, place, f"tells no metadata ({_reason(error)})", "check the server") from error
    takes = only_input(url, place, [(tensor.name, tensor.datatype, tensor.shape) for tensor in found])
    if not takes.batches:
        hint = "let the server batch it (in Triton, max_batch_size)"
        raise InputError.one(url, place, "takes one request at a time", hint)
    return takes


def _request(model: str, takes: Input, inputs: Inputs) -> oip_pb2.ModelInferRequest:
    tensor = oip_pb2.ModelInferRequest.InferInputTensor(
        name=takes.name, datatype="FP32", shape=(len(inputs), *takes.shape)
    )
    numbers = np.asarray(inputs, "<f4").tobytes()
    return oip_pb2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[numbers])


def _reason(error: grpc.RpcError) -> str:
    return one_line(f"{error.code().name}: {error.details()}") if isinstance(error, grpc.Call) else one_line(str(error))
