"""FIFO with affinity: the oldest ready node that fits anywhere goes to a gang that already holds its model, if idle.

Its `choose` serves the policies that differ from it in the order of the nodes alone.
"""

from typing import Any

import numpy as np

from gsched.core import WAIT, backlog, head_key, head_sequence, idle_gang, warm_gang
from gsched.jit import kernel
from gsched.policies import Policy
from gsched.state import IDLE, NONE, READY, Core


@kernel
def choose(core: Core, _table: Any) -> tuple[int, int]:
    """Start the first node, by key and then by sequence, that can be placed: on the lowest warm gang, else the lowest.

    Without an `order`, the first node is the oldest one.
    """
    if core.gpus.count[IDLE] == 0:
        return WAIT
    first = NONE
    first_key = np.inf
    first_sequence = core.count[READY]
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0:
            key = head_key(core, model)
            sequence = head_sequence(core, model)
            if (key, sequence) < (first_key, first_sequence) and idle_gang(core, model) != NONE:
                first = model
                first_key = key
                first_sequence = sequence
    if first == NONE:
        return WAIT
    gang = warm_gang(core, first)
    if gang == NONE:
        gang = idle_gang(core, first)
    return first, gang


def build() -> Policy:
    """Return the policy."""
    return Policy("baseline", choose, compilable=True)
