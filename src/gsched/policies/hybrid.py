"""The plan of `offline`, executed with stealing: a gang that cannot go on with its own blocks works for another's.

A gang that holds a model with ready nodes goes on with it although its own blocks are done or blocked. A gang with
nothing to do changes to the model whose ready nodes would take the longest on the gangs that hold it, if that is many
times longer than the change; the gang that has worked the least goes first. What is stolen is counted against the block
of its group with the most work left, so that the plan stays true. It cannot deadlock: when nothing runs, the first open
block of the plan can go on as in `offline`, or a gang that holds its model is idle and steals from it.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from gsched.core import WAIT, backlog, head_node, held_gangs, idle_from, idle_gang, switch_seconds, work
from gsched.jit import kernel, lowest_bit
from gsched.policies import Policy, Setting
from gsched.policies.levels import Plan, count_start, disjoint_gangs, level_order, new_plan, planned_gang
from gsched.residency import all_idle
from gsched.state import IDLE, NONE, WORD, WORDS, Core, gpu_mask


class Batches(NamedTuple):
    """The plan and what stealing needs besides."""

    plan: Plan
    used: Any  # (GPUs) seconds that the nodes started there execute
    gangs: Any  # (models x words) first GPUs of the disjoint gangs that a model may be loaded onto
    worth: Any  # (1) how many times the seconds of a switch ready nodes must be worth


@kernel
def order(core: Core, batches: Batches, node: int) -> float:
    """Order nodes as planned."""
    return level_order(core, batches.plan, node)


@kernel
def choose(core: Core, batches: Batches) -> tuple[int, int]:
    """Do what is planned, on warm gangs first, then where it is worth a change; then steal, in the same order."""
    if core.gpus.count[IDLE] == 0:
        return WAIT
    model, gang = _planned(core, batches, True)
    if model == NONE:
        model, gang = _planned(core, batches, False)
    planned = model != NONE
    if model == NONE:
        model, gang = _warm_steal(core, batches)
    if model == NONE:
        model, gang = _switch_steal(core, batches)
    if model != NONE:
        _note(core, batches, model, gang, planned)
    return model, gang


@kernel
def _note(core: Core, batches: Batches, model: int, gang: int, planned: bool) -> None:
    """Count a start against the gang's own block, or the one that it is stolen from."""
    plan = batches.plan
    block = plan.queue[plan.queue_at[gang]] if planned else _most_loaded(core, plan, model)
    seconds = core.estimate[head_node(core, model)]
    for gpu in range(gang, gang + core.models.gpus[model]):
        batches.used[gpu] += seconds
    count_start(core, plan, block)


@kernel
def _most_loaded(core: Core, plan: Plan, model: int) -> int:
    """Return the block with the most work left of those that the next node of a model may belong to."""
    group = plan.template_group[core.graph.template[head_node(core, model)]]
    best = NONE
    most = -math.inf
    for block in range(plan.group_first[group], plan.group_first[group + 1]):
        if plan.open[block] == 1 and plan.left[block] > most:
            best = block
            most = plan.left[block]
    return best


@kernel
def _planned(core: Core, batches: Batches, warm: bool) -> tuple[int, int]:
    """Return a model and a gang whose turn it is, holding the model or worth a change."""
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0 and (warm or _repays(core, model, batches.worth[0], 1)):
            gang = planned_gang(core, batches.plan, model, warm)
            if gang != NONE:
                return model, gang
    return WAIT


@kernel
def _repays(core: Core, model: int, worth: float, more: int) -> bool:
    """Tell whether the ready nodes of a model, shared by its gangs and so many `more`, are worth loading it."""
    held = held_gangs(core, model)
    return held == 0 or work(core, model) >= worth * (held + more) * switch_seconds(core, model, model)


@kernel
def _warm_steal(core: Core, batches: Batches) -> tuple[int, int]:
    """Return a model with an idle gang that holds it, the one that has worked the least."""
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0:
            gang = _least_used(core, batches, model, True)
            if gang != NONE:
                return model, gang
    return WAIT


@kernel
def _switch_steal(core: Core, batches: Batches) -> tuple[int, int]:
    """Return the model whose ready nodes would take its gangs the longest, and an idle gang to help them."""
    best = NONE
    best_gang = NONE
    longest = 0.0
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0 and _repays(core, model, batches.worth[0], 0):
            held = held_gangs(core, model)
            load = work(core, model) / held if held > 0 else math.inf
            if load > longest and idle_gang(core, model) != NONE:
                gang = _least_used(core, batches, model, False)
                if gang != NONE:
                    best = model
                    best_gang = gang
                    longest = load
    return best, best_gang


@kernel
def _least_used(core: Core, batches: Batches, model: int, warm: bool) -> int:
    """Return the idle gang that may help a model and has worked the least, or NONE; where `warm`, one that holds it."""
    best = NONE
    least = math.inf
    size = core.models.gpus[model]
    words = core.gpus.count[WORDS]
    seconds = core.estimate[head_node(core, model)]
    if not warm:
        seconds += switch_seconds(core, model, model)
    for w in range(words):
        at = model * words + w
        mask = core.gpus.warm[at] if warm else batches.gangs[at] & core.gpus.idle[w]
        while mask != 0:
            gang = w * WORD + lowest_bit(mask)
            mask &= mask - 1
            used = 0.0
            for gpu in range(gang, gang + size):
                used += batches.used[gpu]
            if used < least and all_idle(core.gpus, gang, size) and _may_help(core, batches.plan, gang, size, seconds):
                best = gang
                least = used
    return best


@kernel
def _may_help(core: Core, plan: Plan, gang: int, size: int, seconds: float) -> bool:
    """Tell whether no GPU of a gang is waited for by others that could start its block before so many seconds."""
    until = core.now[0] + seconds
    for gpu in range(gang, gang + size):
        if plan.queue_at[gpu] < plan.queue_end[gpu]:
            latest = _others_end(core, plan, plan.queue[plan.queue_at[gpu]])
            if latest < until:
                return False
    return True


@kernel
def _others_end(core: Core, plan: Plan, block: int) -> float:
    """Return when the busy GPUs of a block's gang become idle; infinity if the block could not start even then."""
    model = plan.model[block]
    gang = plan.gang[block]
    turn = (plan.turn[model * core.gpus.count[WORDS] + gang // WORD] >> (gang % WORD)) & 1 == 1
    if not turn or backlog(core, model) == 0:
        return math.inf
    if plan.template_group[core.graph.template[head_node(core, model)]] != plan.group[block]:
        return math.inf
    if all_idle(core.gpus, gang, core.models.gpus[model]):
        return math.inf  # it waits for more work
    return idle_from(core, gang, gang + core.models.gpus[model])


def build(*, worth: float = 3.0) -> Policy:
    """Return the policy.

    Args:
        worth: how many times the seconds of a switch the ready nodes must be worth for a gang to change its model while
            another has work.
    """
    if not 0 <= worth < math.inf:
        raise ValueError(f"worth must be a finite number from 0 on, not {worth}")

    def prepare(setting: Setting) -> Batches:
        return _new_batches(setting, worth)

    options = {"worth": worth}
    return Policy("hybrid", choose, order, prepare, compilable=True, modes=("offline",), options=options)


def _new_batches(setting: Setting, worth: float) -> Batches:
    cluster = setting.cluster
    words = -(-cluster.gpus // WORD)
    gangs = [gpu_mask(disjoint_gangs(cluster, model.gpus_required), words) for model in setting.known.models]
    plan = new_plan(setting.known, cluster)
    return Batches(plan, np.zeros(cluster.gpus), np.concatenate(gangs), np.array([worth]))
