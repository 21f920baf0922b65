"""FIFO with affinity: the oldest ready node that fits anywhere goes to a gang that already holds its model, if idle."""

from typing import Any

from gsched.core import WAIT, backlog, head_sequence, idle_gang, warm_gang
from gsched.jit import kernel
from gsched.policies import Policy
from gsched.state import IDLE, NONE, READY, Core


@kernel
def choose(core: Core, _table: Any) -> tuple[int, int]:
    """Start the oldest node that can be placed, on a warm gang where there is one, else on the lowest idle gang."""
    if core.gpus.count[IDLE] == 0:
        return WAIT
    oldest = NONE
    oldest_sequence = core.count[READY]
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0:
            sequence = head_sequence(core, model)
            if sequence < oldest_sequence and idle_gang(core, model) != NONE:
                oldest = model
                oldest_sequence = sequence
    if oldest == NONE:
        return WAIT
    gang = warm_gang(core, oldest)
    if gang == NONE:
        gang = idle_gang(core, oldest)
    return oldest, gang


def build() -> Policy:
    """Return the policy."""
    return Policy("baseline", choose, compilable=True)
