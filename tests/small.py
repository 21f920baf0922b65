"""Small problems for examples computed by hand, and a policy for placements drawn at random."""

from typing import Any

import numpy as np

from gsched.core import WAIT, backlog, head_sequence, warm_gang
from gsched.jit import kernel
from gsched.policies import Placement, Policy
from gsched.state import NONE, READY, Core
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


def staying(placement: Placement, name: str = "staying", **options: object) -> Policy:
    """The oldest ready node for which a gang that holds its model is idle starts on the lowest such gang."""
    return Policy(name, choose_warm, place=lambda setting: placement, compilable=True, options=options)


@kernel
def choose_warm(core: Core, _table: Any) -> tuple[int, int]:
    best = WAIT
    first = core.count[READY]
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0 and warm_gang(core, model) != NONE and head_sequence(core, model) < first:
            best = (model, warm_gang(core, model))
            first = head_sequence(core, model)
    return best
