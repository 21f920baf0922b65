"""What sending a request costs the client: the SUT of gsched against the recipe of the document, in one run.

Both send requests of 150,528 floats to a null scheduler, which reads a request and answers at once, in a process of its
own. The recipe is what the document describes: a thread for each query, a new array from `numpy.random.rand`, a list of
floats in a generated message, a blocking stub. CPU time is that of the sending process alone. A third line has the
highest rate at which every request is sent on time and answered.
"""

import argparse
import json
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np

from gsched.live import wire
from gsched.live.loadgen.generated.scheduler_pb2 import InferRequest, InferResponse
from gsched.live.loadgen.generated.scheduler_pb2_grpc import SchedulerServiceStub
from gsched.live.loadgen.sut import SchedulerSUT
from gsched.live.loadgen.workload_config import INPUT_SHAPE, MODEL_FOR_SLO, SLO_LATENCY_NS
from gsched.live.memory import keep_large_blocks

TIER, SLO = 1, "relaxed"
RATE = 100.0  # requests/s at which both are compared; the recipe cannot do much more


def serve_null(pipe: Pipe) -> None:
    """Answer every request at once."""

    def infer(data: bytes, _context: Any) -> InferResponse:
        return InferResponse(deadline_ns=wire.decode(data).deadline_ns, success=True)

    keep_large_blocks()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(infer, response_serializer=InferResponse.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, {"Infer": handler}),))
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    pipe.recv()
    server.stop(0)


class RecipeSUT:
    """The document's recipe, without LoadGen."""

    def __init__(self, url: str) -> None:
        self.records: list[tuple[bool, float]] = []
        self.lock = threading.Lock()
        self._channel = grpc.insecure_channel(url)
        self._stub = SchedulerServiceStub(self._channel)
        self._threads: list[threading.Thread] = []

    def issue_query(self, samples: Sequence[Any]) -> None:
        """Send the samples from a thread."""
        thread = threading.Thread(target=self._run, args=(samples, time.perf_counter()))
        thread.start()
        self._threads.append(thread)

    def _run(self, samples: Sequence[Any], issued: float) -> None:
        for _ in samples:
            names, weights = zip(*MODEL_FOR_SLO[SLO], strict=True)
            (model,) = random.choices(names, weights)
            tensor = np.random.rand(*INPUT_SHAPE).astype(np.float32)  # noqa: NPY002 (as the document says)
            request = InferRequest(
                tier=TIER,
                deadline_ns=time.time_ns() + SLO_LATENCY_NS[SLO],
                model_name=model,
                input_tensor=tensor.flatten().tolist(),
                input_shape=INPUT_SHAPE,
            )
            try:
                done = self._stub.Infer(request, timeout=5.0).success
            except grpc.RpcError:
                done = False
            with self.lock:
                self.records.append((done, time.perf_counter() - issued))

    def drain(self, _seconds: float) -> None:
        """Wait for all threads."""
        for thread in self._threads:
            thread.join()


@dataclass
class Result:
    """What a client did: rate, share done, milliseconds of CPU a request, p99 latency in ms."""

    client: str
    rate: float
    done: float
    cpu_ms: float
    p99_ms: float


def drive(client: str, url: str, rate: float, seconds: float, pipe: Pipe) -> None:
    """Send at a rate and tell what came of it; runs in a process of its own."""
    ours = client == "gsched"
    if ours:
        keep_large_blocks()
    sut: Any = SchedulerSUT(url, TIER, SLO, seed=1, complete=lambda _ids: None) if ours else RecipeSUT(url)
    issue: Callable[[Sequence[Any]], None] = sut.issue_query
    issue([SimpleNamespace(id=-1)])  # connects
    while not sut.records:
        time.sleep(0.01)
    sut.records.clear()
    gaps = np.random.default_rng(1).exponential(1 / rate, int(rate * seconds))
    began, used = time.perf_counter(), time.process_time()
    for i, at in enumerate(np.cumsum(gaps).tolist()):
        if (ahead := at - (time.perf_counter() - began)) > 0:
            time.sleep(ahead)
        issue([SimpleNamespace(id=i)])
    sut.drain(10.0)
    used, wall = time.process_time() - used, time.perf_counter() - began
    if ours:
        pairs = [(record["outcome"] == "done", record["latency_ns"] / 1e9) for record in sut.records]
    else:
        pairs = sut.records
    count = len(pairs)
    p99 = float(np.percentile([latency for _, latency in pairs], 99))
    pipe.send(Result(client, count / wall, sum(done for done, _ in pairs) / len(gaps), 1e3 * used / count, 1e3 * p99))


def measure(client: str, url: str, rate: float, seconds: float) -> Result:
    """Run a client in a new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=drive, args=(client, url, rate, seconds, theirs))
    process.start()
    result: Result = ours.recv()
    process.join()
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few requests: does everything work?")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds = 0.5 if arguments.quick else 8.0
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve_null, args=(theirs,))
    server.start()
    url = f"127.0.0.1:{ours.recv()}"
    rates = [("recipe", RATE), ("gsched", RATE)]
    rates += [("gsched", rate) for rate in ((200.0,) if arguments.quick else (400.0, 800.0, 1200.0, 1400.0))]
    results = [measure(client, url, rate, seconds) for client, rate in rates]
    ours.send(None)
    server.join()
    if arguments.json:
        print(json.dumps([vars(result) for result in results], indent=2))
        return
    print("client    requests/s    done  CPU ms/request  p99 ms")
    for result in results:
        print(f"{result.client:8} {result.rate:11,.1f} {result.done:7.1%} {result.cpu_ms:15.3f} {result.p99_ms:7.1f}")
    print(f"\nthe recipe's CPU time is {results[0].cpu_ms / results[1].cpu_ms:.1f} times as long at the same rate")


if __name__ == "__main__":
    main()
