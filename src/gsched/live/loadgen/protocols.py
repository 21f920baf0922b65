"""What requests and answers look like on the wire: those of the scheduler, or of the Open Inference Protocol."""

from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError

from gsched.live import wire
from gsched.live.loadgen.generated.oip_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from gsched.live.loadgen.generated.scheduler_pb2 import InferResponse
from gsched.live.loadgen.workload_config import INPUT_SHAPE

Ending = tuple[str, str]
"""Outcome of a request, and why where it was not done."""

_UNAVAILABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked: `slo_ns` is the time from sending to `deadline_ns`, which counts from 1970."""

    tier: int
    deadline_ns: int
    slo_ns: int
    model: str
    tensor: wire.Tensor


class WireProtocol(Protocol):
    """How requests are written and answers are read."""

    @property
    def method(self) -> str:
        """Full name of the gRPC method."""

    def encode(self, ask: Ask) -> bytes:
        """Return the bytes of a request."""

    def read(self, data: bytes, ask: Ask) -> Ending:
        """Return what an answer says."""

    def read_status(self, code: grpc.StatusCode, details: str) -> Ending:
        """Return what the status of a call that failed says."""


@dataclass(frozen=True, slots=True)
class SchedulerProtocol:
    """The contract of `scheduler.proto`."""

    @property
    def method(self) -> str:
        """Full name of the gRPC method."""
        return wire.METHOD

    def encode(self, ask: Ask) -> bytes:
        """Return the bytes of an `InferRequest`."""
        return wire.encode(ask.tier, ask.deadline_ns, ask.model, ask.tensor, INPUT_SHAPE)

    def read(self, data: bytes, ask: Ask) -> Ending:
        """Return what an `InferResponse` says."""
        try:
            answer = InferResponse.FromString(data)
        except DecodeError as failure:
            return "garbage", f"the answer is no InferResponse ({failure})"
        if answer.deadline_ns != ask.deadline_ns:
            return "garbage", f"the answer is for deadline {answer.deadline_ns}, not {ask.deadline_ns}"
        if answer.success:
            return "done", ""
        word, _, reason = answer.message.partition(": ")
        return (word, reason) if word in ("expired", "rejected") else ("failed", answer.message)

    def read_status(self, code: grpc.StatusCode, details: str) -> Ending:
        """Return what a status says."""
        return "unavailable" if code in _UNAVAILABLE else "failed", f"{code.name}: {details}"


@dataclass(frozen=True, slots=True)
class OpenInferenceProtocol:
    """The Open Inference Protocol, version 2, as NVIDIA Triton and KServe speak it.

    Tiers become Triton's priorities, 1 being the first, and SLOs its timeouts in the queue; KServe ignores both.
    """

    input_name: str = "input"

    @property
    def method(self) -> str:
        """Full name of the gRPC method."""
        return "/inference.GRPCInferenceService/ModelInfer"

    def encode(self, ask: Ask) -> bytes:
        """Return the bytes of a `ModelInferRequest`."""
        tensor = ModelInferRequest.InferInputTensor(name=self.input_name, datatype="FP32", shape=INPUT_SHAPE)
        request = ModelInferRequest(
            model_name=ask.model,
            parameters={
                "priority": InferParameter(uint64_param=ask.tier),
                "timeout": InferParameter(int64_param=ask.slo_ns // 1000),
            },
            inputs=[tensor],
            raw_input_contents=[ask.tensor.astype(wire.LITTLE_ENDIAN, copy=False).tobytes()],
        )
        return request.SerializeToString()

    def read(self, data: bytes, ask: Ask) -> Ending:
        """Return what a `ModelInferResponse` says."""
        try:
            answer = ModelInferResponse.FromString(data)
        except DecodeError as failure:
            return "garbage", f"the answer is no ModelInferResponse ({failure})"
        if answer.model_name != ask.model:
            return "garbage", f"the answer is of model {answer.model_name!r}, not {ask.model}"
        return "done", ""

    def read_status(self, code: grpc.StatusCode, details: str) -> Ending:
        """Return what a status says; Triton has no code of its own for requests that waited too long or too many."""
        told = f"{code.name}: {details}"
        if "timeout expired" in details.lower():
            return "expired", told
        if "queue" in details.lower() and ("exceed" in details.lower() or "full" in details.lower()):
            return "rejected", told
        return "unavailable" if code in _UNAVAILABLE else "failed", told
