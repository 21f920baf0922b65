"""NVIDIA Triton with the small ResNet-50, three priority levels and dynamic batching; needs nvidia-pytriton.

Usage: python triton_server.py MODEL.onnx GRPC_PORT
"""

import sys
from collections.abc import Mapping

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, QueuePolicy, Tensor, TimeoutAction
from pytriton.triton import Triton, TritonConfig


def main() -> None:
    """Serve until interrupted."""
    path, port = sys.argv[1], int(sys.argv[2])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @batch
    def infer(**inputs: np.ndarray) -> Mapping[str, np.ndarray]:
        (output,) = session.run(["output"], {"input": inputs["input"]})
        return {"output": output}

    policy = QueuePolicy(timeout_action=TimeoutAction.REJECT, allow_timeout_override=True, max_queue_size=512)
    batcher = DynamicBatcher(
        priority_levels=3, default_priority_level=2, priority_queue_policy=dict.fromkeys((1, 2, 3), policy)
    )
    config = TritonConfig(
        grpc_address="127.0.0.1", grpc_port=port, http_port=port + 1, metrics_port=port + 2, log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="resnet50",
            infer_func=infer,
            inputs=[Tensor(name="input", dtype=np.float32, shape=(3, 224, 224))],
            outputs=[Tensor(name="output", dtype=np.float32, shape=(1000,))],
            config=ModelConfig(max_batch_size=8, batcher=batcher),
            strict=True,
        )
        triton.serve()


if __name__ == "__main__":
    main()
