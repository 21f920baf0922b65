"""Requests as bytes: those of `scheduler.proto`, read and written without an object for each float.

A packed `repeated float` and a `bytes` field have the same encoding, so a second message with `bytes` in that place
(`wire.proto`) reads and writes the same bytes at the speed of copying.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from gsched.live.loadgen.generated.scheduler_pb2 import InferRequest
from gsched.live.loadgen.generated.wire_pb2 import RawInferRequest

SERVICE = "scheduler.SchedulerService"
METHOD = f"/{SERVICE}/Infer"
LITTLE_ENDIAN = np.dtype("<f4")

Tensor = npt.NDArray[np.float32]


class Call(NamedTuple):
    """A request as it came; the tensor is flat and read-only."""

    tier: int
    deadline_ns: int
    model: str
    shape: tuple[int, ...]
    tensor: Tensor


def encode(tier: int, deadline_ns: int, model: str, tensor: Tensor, shape: Sequence[int]) -> bytes:
    """Return the bytes of an `InferRequest`; the tensor may have any shape."""
    content = tensor.astype(LITTLE_ENDIAN, copy=False).tobytes()
    raw = RawInferRequest(tier=tier, deadline_ns=deadline_ns, model_name=model, input_tensor=content, input_shape=shape)
    return raw.SerializeToString()


def decode(data: bytes) -> Call:
    """Return what an `InferRequest` says.

    Raises:
        ValueError: the bytes are none.
    """
    try:
        raw = RawInferRequest.FromString(data)
        tensor = np.frombuffer(raw.input_tensor, LITTLE_ENDIAN) if len(raw.input_tensor) % 4 == 0 else None
        shape = tuple(raw.input_shape)
        if tensor is None or tensor.size != np.prod(shape, dtype=np.int64):
            # Legal but unusual: floats one by one, or packed in several pieces
            tensor = np.array(InferRequest.FromString(data).input_tensor, np.float32)
    except DecodeError as error:
        raise ValueError(f"the bytes are no InferRequest ({error})") from None
    return Call(raw.tier, raw.deadline_ns, raw.model_name, shape, tensor)
