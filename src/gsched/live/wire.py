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
_TENSOR_TAG = b"\x22"  # field 4, length-delimited

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
    content = np.ascontiguousarray(tensor, LITTLE_ENDIAN)
    head = RawInferRequest(tier=tier, deadline_ns=deadline_ns, model_name=model).SerializeToString()
    tail = RawInferRequest(input_shape=shape).SerializeToString()
    # The field is written by hand, as a message would copy it twice
    field = b"".join((_TENSOR_TAG, _varint(content.nbytes))) if content.size else b""
    return b"".join((head, field, content.data.cast("B") if content.size else b"", tail))


def _varint(number: int) -> bytes:
    """Return a length as protobuf writes it."""
    low = []
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*low, number])


def decode(data: bytes) -> Call:
    """Return what an `InferRequest` says.

    Raises:
        ValueError: the bytes are none.
    """
    try:
        raw = RawInferRequest.FromString(data)
        raw.DiscardUnknownFields()
        if raw.ByteSize() == len(data) and len(raw.input_tensor) % 4 == 0:
            tensor = np.frombuffer(raw.input_tensor, LITTLE_ENDIAN)
        else:  # legal but unusual, such as floats one by one, or packed in several pieces of which `raw` has the last
            tensor = np.array(InferRequest.FromString(data).input_tensor, np.float32)
    except DecodeError:
        raise ValueError("the bytes are no InferRequest") from None
    return Call(raw.tier, raw.deadline_ns, raw.model_name, tuple(raw.input_shape), tensor)
