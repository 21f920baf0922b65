"""What the load generator says to servers of the Open Inference Protocol, and its inputs."""

import time
from collections.abc import Iterator
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from gsched.live.loadgen.generated import oip_pb2, oip_pb2_grpc
from gsched.live.loadgen.protocols import Ask, OpenInferenceProtocol
from gsched.live.loadgen.sut import Connection, SchedulerSUT, Tensors
from gsched.live.loadgen.workload_config import INPUT_SHAPE

OIP = OpenInferenceProtocol()
TENSOR = np.arange(np.prod(INPUT_SHAPE), dtype=np.float32).reshape(INPUT_SHAPE)
ASK = Ask(2, 123, 500_000_000, "vit", TENSOR)


def test_requests_carry_input_priority_and_timeout() -> None:
    request = oip_pb2.ModelInferRequest.FromString(OIP.encode(ASK))
    assert request.model_name == "vit"
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("input", "FP32", INPUT_SHAPE)
    assert np.array_equal(np.frombuffer(request.raw_input_contents[0], "<f4"), TENSOR.ravel())
    assert request.parameters["priority"].uint64_param == 2
    assert request.parameters["timeout"].int64_param == 500_000  # microseconds


def test_answers_are_done_unless_they_are_of_another_model() -> None:
    assert OIP.read(oip_pb2.ModelInferResponse(model_name="vit").SerializeToString(), ASK) == ("done", "")
    assert OIP.read(oip_pb2.ModelInferResponse(model_name="x").SerializeToString(), ASK)[0] == "garbage"
    assert OIP.read(b"\xff\xff", ASK)[0] == "garbage"


@pytest.mark.parametrize(
    ("code", "details", "outcome"),
    [
        ("UNAVAILABLE", "Request timeout expired", "expired"),
        ("UNAVAILABLE", "[request id: 1] Exceeds maximum queue size", "rejected"),
        ("UNAVAILABLE", "failed to connect to all addresses", "unavailable"),
        ("CANCELLED", "", "unavailable"),
        ("INTERNAL", "out of memory", "failed"),
    ],
)
def test_statuses(code: str, details: str, outcome: str) -> None:
    assert OIP.read_status(grpc.StatusCode[code], details) == (outcome, f"{code}: {details}")


class Server(oip_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers requests for resnet50, and says of others that they waited too long."""

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 (named by the protocol)
        if request.model_name != "resnet50":
            context.abort(grpc.StatusCode.UNAVAILABLE, "Request timeout expired")
        return oip_pb2.ModelInferResponse(model_name=request.model_name)


@pytest.fixture
def url() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    oip_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def test_a_sut_speaks_it(url: str) -> None:
    models = ["resnet50", "vit", "resnet50"]
    sut = SchedulerSUT(Connection(url, protocol=OIP), 1, "relaxed", seed=1, models=models, complete=lambda _ids: None)
    sut.issue_query([SimpleNamespace(id=number) for number in range(3)])
    assert sut.drain(30.0) == 0
    sut.destroy()
    outcomes = {record["number"]: record["outcome"] for record in sut.records}
    assert outcomes == {0: "done", 1: "expired", 2: "done"}


def test_inputs_are_uniform_new_and_of_the_seed() -> None:
    first, again, other = (Tensors(np.random.SeedSequence(seed)) for seed in (1, 1, 2))
    drawn = [first.draw() for _ in range(5)]
    assert all(np.array_equal(tensor, again.draw()) for tensor in drawn)
    assert not np.array_equal(drawn[0], other.draw())
    for tensor in drawn:
        assert (tensor.shape, tensor.dtype) == (tuple(INPUT_SHAPE), np.float32)
        assert 0 <= tensor.min() < 0.001 < 0.999 < tensor.max() < 1
        counts = np.histogram(tensor, 10, (0, 1))[0] / tensor.size
        assert np.abs(counts - 0.1).max() < 0.005
    together = np.corrcoef([tensor.ravel() for tensor in drawn])
    assert np.abs(together - np.eye(5)).max() < 0.02


def test_a_drawn_input_does_not_change_the_next() -> None:
    tensors, plain = (Tensors(np.random.SeedSequence(3)) for _ in range(2))
    for _ in range(50):
        tensor = tensors.draw()
        assert np.array_equal(tensor, plain.draw())
        tensor[:] = time.time()
