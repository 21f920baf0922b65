"""No plan: gangs go on with the model they hold, and change to another when enough of its work is waiting.

The remaining work of a model is what its unstarted nodes of arrived requests are expected to execute. A model's share
of the cluster is balanced when its gangs would need as long for its remaining work as those of the other models, so
the model that would still need the longest with one gang more takes one from the model that needs the shortest. It
does so only if the nodes that are ready repay the change, and only where gangs run dry without being asked to. A gang
that is still busy is claimed: its GPUs are given nothing else until all of them are idle.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from gsched.core import (
    WAIT,
    backlog,
    head_key,
    head_node,
    held_gangs,
    idle_gang,
    switch_seconds,
    warm_gang,
    work,
)
from gsched.jit import kernel, lowest_bit
from gsched.policies import Policy, Setting
from gsched.policies.levels import disjoint_gangs
from gsched.residency import all_idle
from gsched.state import IDLE, NONE, SHARED, STARTED, WORD, WORDS, Core, gpu_mask


class Balance(NamedTuple):
    """What the policy keeps in mind."""

    option: Any  # WORTH, SHARE, PATIENCE, 1 where the mode is OFFLINE
    announces: Any  # (templates) 1 at the node of each workflow with which its request is noticed
    total: Any  # (models) seconds of all nodes of arrived requests
    remaining: Any  # (models) seconds of unstarted nodes of arrived requests
    since: Any  # (models) when a node last started, or the first of its ready nodes became so
    claim: Any  # (models) first GPU of the gang claimed, or NONE
    claimed: Any  # (words) claimed GPUs
    gangs: Any  # (models x words) first GPUs of the disjoint gangs that the model may be loaded onto
    count: Any  # CLAIMS made and not yet served; nodes STARTED before the next SEARCH for a gang to claim


WORTH, SHARE, PATIENCE, OFFLINE = 0, 1, 2, 3
CLAIMS, SEARCH = 0, 1
PER_START = 16  # GPUs that a search for a gang may look at for each node started
REPAYS = 20.0  # times the seconds of a switch that ready nodes must be worth at the least


@kernel
def order(core: Core, balance: Balance, node: int) -> float:
    """Order nodes by their request: the one that arrived first, offline the one that the workload has first."""
    template = core.graph.template[node]
    request = core.requests.of[node]
    if balance.announces[template] == 1:
        for other in range(core.graph.first_node[request], core.graph.first_node[request + 1]):
            needed = core.graph.model[core.graph.template[other]]
            balance.remaining[needed] += core.estimate[other]
            balance.total[needed] += core.estimate[other]
    model = core.graph.model[template]
    if backlog(core, model) == 0:
        balance.since[model] = core.now[0]
    if balance.option[OFFLINE] == 1:
        return float(request)
    arrival: float = core.requests.arrival[request]
    return arrival


@kernel
def choose(core: Core, balance: Balance) -> tuple[int, int]:
    """Serve claims that are free, claim where it is worth it, go on with warm gangs, then use those that ran dry."""
    if core.gpus.count[IDLE] == 0:
        return WAIT
    model, gang = _free_claim(core, balance)
    if model == NONE:
        model, gang = _new_claim(core, balance)
    if model == NONE:
        model, gang = _warm_start(core, balance)
    if model == NONE:
        model, gang = _dry_start(core, balance)
    if model != NONE:
        if gang == balance.claim[model]:
            _release(core, balance, model)
        balance.since[model] = core.now[0]
        balance.remaining[model] -= core.estimate[head_node(core, model)]
    return model, gang


@kernel
def _free_claim(core: Core, balance: Balance) -> tuple[int, int]:
    """Return a model that still has work for the gang it claimed, which is idle by now; drop claims without work."""
    if balance.count[CLAIMS] == 0:
        return WAIT
    for model in range(len(core.models.gpus)):
        gang = balance.claim[model]
        if gang != NONE:
            if backlog(core, model) == 0:
                _release(core, balance, model)
            elif all_idle(core.gpus, gang, core.models.gpus[model]):
                return model, gang
    return WAIT


@kernel
def _new_claim(core: Core, balance: Balance) -> tuple[int, int]:
    """Let a model claim a gang: one that nobody has served for too long, else the one with the greatest need.

    Return it if the gang is idle already.
    """
    if core.count[STARTED] < balance.count[SEARCH]:
        return WAIT
    model = _overdue(core, balance)
    limit = math.inf
    if model == NONE:
        model = _neediest(core, balance)
        if model == NONE:
            return WAIT
        limit = _need(core, balance, model, 1)
        if limit <= _least_need(core, balance):
            return WAIT
    balance.count[SEARCH] = core.count[STARTED] + len(core.gpus.label_model) // PER_START
    gang = _least_needed_gang(core, balance, model, limit, False)
    if gang == NONE:
        return WAIT
    if all_idle(core.gpus, gang, core.models.gpus[model]):
        return model, gang
    balance.claim[model] = gang
    _mark(core, balance, model, True)
    return WAIT


@kernel
def _release(core: Core, balance: Balance, model: int) -> None:
    """Give up a model's claim."""
    _mark(core, balance, model, False)
    balance.claim[model] = NONE


@kernel
def _mark(core: Core, balance: Balance, model: int, claimed: bool) -> None:
    gang = balance.claim[model]
    balance.count[CLAIMS] += 1 if claimed else -1
    for gpu in range(gang, gang + core.models.gpus[model]):
        if claimed:
            balance.claimed[gpu // WORD] |= 1 << (gpu % WORD)
        else:
            balance.claimed[gpu // WORD] &= ~(1 << (gpu % WORD))


@kernel
def _overdue(core: Core, balance: Balance) -> int:
    """Return the model without a gang that has had work but no start for the longest, if longer than the patience.

    Where models share GPUs, a model may have gangs and yet never find one idle, so that having one does not count.
    """
    overdue = NONE
    oldest = core.now[0] - balance.option[PATIENCE]
    shared = core.gpus.count[SHARED] == 1
    for model in range(len(core.models.gpus)):
        served = (
            backlog(core, model) == 0 or balance.claim[model] != NONE or (held_gangs(core, model) > 0 and not shared)
        )
        if not served and balance.since[model] < oldest:
            oldest = balance.since[model]
            overdue = model
    return overdue


@kernel
def _neediest(core: Core, balance: Balance) -> int:
    """Return the model with the greatest need for one gang more, of those whose ready nodes repay taking it."""
    neediest = NONE
    greatest = -1.0
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0 and balance.claim[model] == NONE:
            need = _need(core, balance, model, 1)
            if need > greatest and _repays(core, balance, model):
                greatest = need
                neediest = model
    return neediest


@kernel
def _repays(core: Core, balance: Balance, model: int) -> bool:
    """Tell whether the ready nodes of a model, shared with one gang more, are worth changing what a gang holds.

    They are if there are many, or a good share of all that the model has had to do: more are then unlikely to come.
    """
    ready = work(core, model)
    cost = (held_gangs(core, model) + 1) * switch_seconds(core, model, model)
    if ready >= balance.option[WORTH] * cost:
        return True
    return ready >= balance.option[SHARE] * balance.total[model] and ready >= REPAYS * cost


@kernel
def _need(core: Core, balance: Balance, model: int, more: int) -> float:
    """Return how long a model's remaining work would take its gangs and so many `more`."""
    need: float = balance.remaining[model] / (held_gangs(core, model) + more)
    return need


@kernel
def _least_need(core: Core, balance: Balance) -> float:
    """Return the least need of a model that has a gang."""
    least = math.inf
    for model in range(len(core.models.gpus)):
        if held_gangs(core, model) > 0:
            least = min(least, _need(core, balance, model, 0))
    return least


@kernel
def _least_needed_gang(core: Core, balance: Balance, model: int, limit: float, dry: bool) -> int:
    """Return the gang for a model whose present holders need it least and less than `limit`, or NONE.

    Of equals it is the one that is idle first, or has been for the longest. A `dry` one is idle now.
    """
    best = NONE
    least = limit
    earliest = math.inf
    size = core.models.gpus[model]
    words = core.gpus.count[WORDS]
    for w in range(words):
        mask = balance.gangs[model * words + w] & ~balance.claimed[w]
        if dry:
            mask &= core.gpus.idle[w]
        while mask != 0:
            gang = w * WORD + lowest_bit(mask)
            mask &= mask - 1
            if (dry and not all_idle(core.gpus, gang, size)) or not _is_free_for(core, balance, model, gang):
                continue
            need = _holders_need(core, balance, gang, size)
            idle_at = 0.0
            for gpu in range(gang, gang + size):
                idle_at = max(idle_at, core.gpus.free_at[gpu])
            if need < least or (need == least and best != NONE and idle_at < earliest):
                best = gang
                least = need
                earliest = idle_at
    return best


@kernel
def _is_free_for(core: Core, balance: Balance, model: int, gang: int) -> bool:
    """Tell whether no GPU of a gang is claimed, and the model does not hold it anyway."""
    if core.gpus.count[SHARED] == 0 and core.gpus.holder[gang] == model:
        return False
    return _is_unclaimed(core, balance, model, gang)


@kernel
def _is_unclaimed(core: Core, balance: Balance, model: int, gang: int) -> bool:
    for gpu in range(gang, gang + core.models.gpus[model]):
        if (balance.claimed[gpu // WORD] >> (gpu % WORD)) & 1 == 1:
            return False
    return True


@kernel
def _holders_need(core: Core, balance: Balance, gang: int, size: int) -> float:
    """Return the greatest need of the models whose gangs would be broken up."""
    greatest = 0.0
    gpus = core.gpus
    for gpu in range(gang, gang + size):
        held = gpus.label_model[gpu]
        if held != NONE and gpus.holder[gpus.label_gang[gpu]] == held:
            greatest = max(greatest, _need(core, balance, held, 0))
    return greatest


@kernel
def _warm_start(core: Core, balance: Balance) -> tuple[int, int]:
    """Return, of the models with an unclaimed warm gang, the one whose next node has the lowest key."""
    best = NONE
    best_gang = NONE
    lowest = math.inf
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0 and (best == NONE or head_key(core, model) < lowest):
            gang = _unclaimed_warm_gang(core, balance, model)
            if gang != NONE:
                best = model
                best_gang = gang
                lowest = head_key(core, model)
    return best, best_gang


@kernel
def _unclaimed_warm_gang(core: Core, balance: Balance, model: int) -> int:
    if balance.count[CLAIMS] == 0:
        return warm_gang(core, model)
    words = core.gpus.count[WORDS]
    for w in range(words):
        mask = core.gpus.warm[model * words + w] & ~balance.claimed[w]
        while mask != 0:
            gang = w * WORD + lowest_bit(mask)
            if _is_unclaimed(core, balance, model, gang):
                return gang
            mask &= mask - 1
    return NONE


@kernel
def _dry_start(core: Core, balance: Balance) -> tuple[int, int]:
    """Return the neediest model for a gang that is idle because the models that it holds have nothing to do.

    It is enough that the gangs which the model has would take longer than loading one more.
    """
    neediest = NONE
    best_gang = NONE
    greatest = -1.0
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0 and balance.claim[model] == NONE:
            need = _need(core, balance, model, 1)
            cost = held_gangs(core, model) * switch_seconds(core, model, model)
            if need > greatest and work(core, model) >= cost and idle_gang(core, model) != NONE:
                gang = _least_needed_gang(core, balance, model, math.inf, True)
                if gang != NONE:
                    greatest = need
                    neediest = model
                    best_gang = gang
    return neediest, best_gang


def build(*, worth: float = 300.0, share: float = 0.4, patience: float = 1200.0) -> Policy:
    """Return the policy.

    Args:
        worth: how many times the seconds of a switch the ready nodes must be worth for a model to claim a gang.
        share: share of the model's work so far that they may be instead.
        patience: seconds for which online a model with work and no gang waits before it claims one regardless.
    """
    if not 0 <= worth < math.inf:
        raise ValueError(f"worth must be a finite number from 0 on, not {worth}")
    if not 0 <= share < math.inf:
        raise ValueError(f"share must be a finite number from 0 on, not {share}")
    if not patience >= 0:
        raise ValueError(f"patience must be a number from 0 on, not {patience}")

    def prepare(setting: Setting) -> Balance:
        # Offline, everything waits for long, and all of it is done in the end.
        return _new_balance(setting, [worth, share, patience if setting.mode == "online" else math.inf])

    options = {"worth": worth, "share": share, "patience": patience}
    return Policy("improved", choose, order, prepare, compilable=True, options=options)


def _new_balance(setting: Setting, option: list[float]) -> Balance:
    flows, models = setting.known.workflows, setting.known.models
    announces = np.zeros(len(setting.known.template_model), np.int64)
    announces[[start + flow.order[0] for flow, start in zip(flows, setting.known.template_start, strict=False)]] = 1
    words = -(-setting.cluster.gpus // WORD)
    gangs = [gpu_mask(disjoint_gangs(setting.cluster, model.gpus_required), words) for model in models]
    return Balance(
        np.array([*option, float(setting.mode == "offline")]),
        announces,
        np.zeros(len(models)),
        np.zeros(len(models)),
        np.zeros(len(models)),
        np.full(len(models), NONE, np.int64),
        gpu_mask([], words),
        np.concatenate(gangs),
        np.zeros(2, np.int64),
    )
