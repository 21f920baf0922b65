"""Small problems for examples computed by hand."""

import numpy as np

from gsched.workload import Config, Model, Node, Workflow, Workload


def tiny(sizes: dict[str, int], flow: str, count: int = 1, duration: float = 1.0) -> Workload:
    """`count` requests for a chain of nodes, one for each letter of `flow`, each letter a model."""
    models = {id: Model(id, 16.0, size, 5.0) for id, size in sizes.items()}
    nodes = tuple(Node(f"n{i}", id) for i, id in enumerate(flow))
    edges = tuple((i, i + 1) for i in range(len(flow) - 1))
    config = Config(models, {"w": Workflow("w", nodes, edges)})
    zeros = np.zeros(count, np.int64)
    ids = [f"r{i}" for i in range(count)]
    return Workload(config, ids, zeros.astype(np.int32), zeros, np.full(count * len(flow), duration))
