"""A static plan: all nodes by dependency level, then by model in contiguous blocks, spread over the GPUs; then obeyed.

The greedy algorithm of batch schedulers that collect everything first (see `gsched.policies.levels`). Each GPU works
off its blocks in the order of the plan and never takes another's. This cannot deadlock: take the first block of the
plan with nodes left. All blocks before it have none left, so its turn has come, and all nodes of lower levels have
started. When they have ended, its nodes are ready and at the head of their model's queue, and its gang becomes idle.
"""

from gsched.core import WAIT, backlog
from gsched.jit import kernel
from gsched.policies import Policy, Setting
from gsched.policies.levels import Plan, count_start, level_order, new_plan, planned_gang
from gsched.state import IDLE, NONE, Core


@kernel
def choose(core: Core, plan: Plan) -> tuple[int, int]:
    """Start a node on the lowest idle gang whose block's turn has come and whose model's next node is of its level."""
    if core.gpus.count[IDLE] == 0:
        return WAIT
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0:
            gang = planned_gang(core, plan, model, False)
            if gang != NONE:
                count_start(core, plan, plan.queue[plan.queue_at[gang]])
                return model, gang
    return WAIT


def prepare(setting: Setting) -> Plan:
    """Plan all requests."""
    return new_plan(setting.known, setting.cluster)


def build() -> Policy:
    """Return the policy."""
    return Policy("offline", choose, level_order, prepare, compilable=True, modes=("offline",))
