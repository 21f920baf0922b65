"""Ray Serve with the small ResNet-50 behind the scheduler's own contract, batches of up to 8; needs ray[serve].

Usage: python ray_server.py MODEL.onnx GRPC_PORT
"""

import sys
from threading import Event
from typing import Any

import numpy as np
import onnxruntime
import ray
from ray import serve
from ray.serve.config import gRPCOptions

ADD = "gsched.live.loadgen.generated.scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server"


@serve.deployment(max_ongoing_requests=512, max_queued_requests=512, ray_actor_options={"num_cpus": 0})
class Scheduler:
    """Computes in the order of arrival; Ray Serve knows neither tiers nor deadlines."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    async def Infer(self, request: Any) -> Any:  # noqa: N802 (named by the contract)
        """Answer one call."""
        from gsched.live.loadgen.generated.scheduler_pb2 import InferResponse  # Ray cannot ship generated classes

        await self.compute(np.array(request.input_tensor, np.float32).reshape(3, 224, 224))
        return InferResponse(deadline_ns=request.deadline_ns, success=True, message="done: ")

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0)
    async def compute(self, tensors: list[np.ndarray]) -> list[bool]:
        """Compute a batch."""
        self.session.run(["output"], {"input": np.stack(tensors)})
        return [True] * len(tensors)


def main() -> None:
    """Serve until interrupted."""
    path, port = sys.argv[1], int(sys.argv[2])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"location": "HeadOnly", "host": "127.0.0.1", "port": port + 1},
        grpc_options=gRPCOptions(port=port, grpc_servicer_functions=[ADD]),
    )
    serve.run(Scheduler.bind(path), name="scheduler")
    print("ready", flush=True)
    Event().wait()


if __name__ == "__main__":
    main()
