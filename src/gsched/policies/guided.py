"""Switch-averse dispatch with reservations for gangs, guided by knobs: what `online` sets by hand and `search` tunes.

A gang that holds a model serves it for as long as nodes of it are ready. GPUs change their model only where the ready
work that each gang would have to do is worth the switch. Where a model that needs several GPUs is worth one but no run
of GPUs is idle, a run is reserved: what would end too late does not start there any more (backfilling, as in EASY:
Lifka, "The ANL/IBM SP scheduling system", 1995).
"""

from typing import Any, NamedTuple

import numpy as np

from gsched.core import (
    WAIT,
    backlog,
    head_key,
    head_node,
    held_gangs,
    idle_gang,
    is_idle,
    may_begin,
    switch_seconds,
    wake_at,
    warm_gang,
    warm_gang_outside,
    work,
)
from gsched.jit import kernel
from gsched.state import IDLE, NONE, Core

# Positions in Knobs.value
ARRIVAL, WORK, WAITING, MAX_WAIT, RESIDENCY, RESERVE, DRAIN = range(7)
# Positions in Knobs.reserved
FIRST, END, MODEL = 0, 1, 2


class Knobs(NamedTuple):
    """What guides the decisions, and the little that they remember."""

    rank: Any  # (nodes) key of each node; empty where it follows from ARRIVAL and WORK
    threshold: Any  # (models) a switch is worth it from so many times its cost on
    weight: Any  # (models) preference among those that are worth a switch
    limit: Any  # (models) most gangs that may hold it
    stride: Any  # (models) its gangs begin at multiples of so many GPUs
    value: Any  # ARRIVAL and WORK: weights of a request's arrival and of its GPU seconds in the key of its nodes
    #             WAITING: weight of the oldest node's wait against the ready work; MAX_WAIT: seconds after which a
    #             switch is always worth it; RESIDENCY: seconds for which GPUs keep a model at least
    #             RESERVE: GPUs are reserved from so many times the threshold on; DRAIN: weight of waiting for them
    reserved: Any  # FIRST GPU and END of the reserved run, and the MODEL that it is for; an empty run if there is none
    since: Any  # (GPUs) when it was loaded


@kernel
def order(core: Core, knobs: Knobs, node: int) -> float:
    """Return the rank of a node, or else the weighted arrival and size of its request."""
    if len(knobs.rank) > 0:
        rank: float = knobs.rank[node]
        return rank
    request = core.requests.of[node]
    key: float = knobs.value[ARRIVAL] * core.requests.arrival[request]
    if knobs.value[WORK] != 0.0:
        key += knobs.value[WORK] * request_work(core, request)
    return key


@kernel
def request_work(core: Core, request: int) -> float:
    """Return the GPU seconds that all nodes of a request are expected to take."""
    graph = core.graph
    seconds = 0.0
    for node in range(graph.first_node[request], graph.first_node[request + 1]):
        seconds += core.estimate[node] * core.models.gpus[graph.model[graph.template[node]]]
    return seconds


@kernel
def choose(core: Core, knobs: Knobs) -> tuple[int, int]:
    """Start what needs no switch; else what is worth one; else reserve GPUs, and wait."""
    if core.gpus.count[IDLE] == 0:
        return WAIT
    _review_reservation(core, knobs)
    if knobs.reserved[END] > 0 and run_is_idle(core, knobs.reserved[FIRST], knobs.reserved[END]):
        model = knobs.reserved[MODEL]
        gang = knobs.reserved[FIRST]
        _release(knobs)
        return _loaded(core, knobs, model, gang)
    model, gang = _warm_start(core, knobs)
    if model != NONE:
        return model, gang
    model, gang = _cold_start(core, knobs)
    if model == NONE and core.gpus.count[IDLE] == len(core.gpus.label_model):
        model, gang = _any_start(core)  # nothing is worth it, but waiting is worth less
    if model == NONE:
        return WAIT
    return _loaded(core, knobs, model, gang)


@kernel
def _loaded(core: Core, knobs: Knobs, model: int, gang: int) -> tuple[int, int]:
    """Note when a gang was loaded."""
    for gpu in range(gang, gang + core.models.gpus[model]):
        knobs.since[gpu] = core.now[0]
    return model, gang


@kernel
def _release(knobs: Knobs) -> None:
    knobs.reserved[FIRST] = 0
    knobs.reserved[END] = 0


@kernel
def _review_reservation(core: Core, knobs: Knobs) -> None:
    """Give up a reservation whose model no longer needs it."""
    if knobs.reserved[END] > 0 and backlog(core, knobs.reserved[MODEL]) == 0:
        _release(knobs)


@kernel
def run_is_idle(core: Core, first: int, end: int) -> bool:
    """Tell whether all GPUs of a range are idle."""
    for gpu in range(first, end):  # noqa: SIM110 (there are no generators in compiled code)
        if not is_idle(core, gpu):
            return False
    return True


@kernel
def _reserved_until(core: Core, knobs: Knobs) -> float:
    """Return when the reserved GPUs are expected to be idle."""
    until: float = core.now[0]
    for gpu in range(knobs.reserved[FIRST], knobs.reserved[END]):
        if not is_idle(core, gpu):
            until = max(until, core.gpus.free_at[gpu])
    return until


@kernel
def _warm_start(core: Core, knobs: Knobs) -> tuple[int, int]:
    """Return the model, first by key, that has an idle gang, and that gang; off the reservation, or gone in time."""
    until = _reserved_until(core, knobs)
    first = knobs.reserved[FIRST]
    end = knobs.reserved[END]
    best = WAIT
    best_key = np.inf
    for model in range(len(core.models.gpus)):
        if backlog(core, model) == 0:
            continue
        gang = warm_gang(core, model)
        if gang == NONE:
            continue
        overlaps = gang < end and gang + core.models.gpus[model] > first
        if overlaps and core.now[0] + core.estimate[head_node(core, model)] > until:
            gang = warm_gang_outside(core, model, first, end)
        if gang != NONE and head_key(core, model) < best_key:
            best = (model, gang)
            best_key = head_key(core, model)
    return best


@kernel
def _cold_start(core: Core, knobs: Knobs) -> tuple[int, int]:
    """Return the model that is most worth a switch, and a gang for it; reserve GPUs where a gang must first drain."""
    best = WAIT
    best_score = 0.0
    for model in range(len(core.models.gpus)):
        if backlog(core, model) == 0 or held_gangs(core, model) >= knobs.limit[model]:
            continue
        worth = _worth(core, knobs, model)
        if worth < 1.0 or worth * knobs.weight[model] <= best_score:
            continue
        gang = NONE
        if idle_gang(core, model) != NONE:
            gang = _cheapest_gang(core, knobs, model, False)
        if gang != NONE:
            best = (model, gang)
            best_score = worth * knobs.weight[model]
        elif core.models.gpus[model] > 1 and knobs.reserved[END] == 0 and worth >= knobs.value[RESERVE]:
            _reserve(core, knobs, model)
            if best[0] != NONE and _is_reserved(core, knobs, best[0], best[1]):
                best = WAIT
                best_score = 0.0
    return best


@kernel
def _worth(core: Core, knobs: Knobs, model: int) -> float:
    """Return the ready work per gang, with one more, as a multiple of what makes a switch worth its cost."""
    waited = core.now[0] - core.ready_time[head_node(core, model)]
    if waited >= knobs.value[MAX_WAIT]:
        return np.inf
    wake_at(core, core.ready_time[head_node(core, model)] + knobs.value[MAX_WAIT])
    benefit = work(core, model) / (held_gangs(core, model) + 1) + knobs.value[WAITING] * waited
    cost = switch_seconds(core, model, model) * knobs.threshold[model]
    if cost == 0.0:
        return np.inf
    worth: float = benefit / cost
    return worth


@kernel
def _cheapest_gang(core: Core, knobs: Knobs, model: int, drain: bool) -> int:
    """Return the gang whose GPUs are missed least, or NONE: an idle one, or with `drain` any without wider models.

    Models of one GPU look from the last GPU down, all others from the first GPU up, so that they keep apart.
    """
    size = core.models.gpus[model]
    last = len(core.gpus.label_model) - size
    best = NONE
    best_loss = np.inf
    for i in range(last // knobs.stride[model] + 1):
        gang = i * knobs.stride[model] if size > 1 else last - i
        if (
            not may_begin(core, model, gang)
            or core.gpus.holder[gang] == model
            or _is_reserved(core, knobs, model, gang)
        ):
            continue
        loss = 0.0
        for gpu in range(gang, gang + size):
            loss += _loss(core, knobs, gpu, size, drain)
        if loss < best_loss:
            best = gang
            best_loss = loss
    return best


@kernel
def _is_reserved(core: Core, knobs: Knobs, model: int, gang: int) -> bool:
    overlaps: bool = gang < knobs.reserved[END] and gang + core.models.gpus[model] > knobs.reserved[FIRST]
    return overlaps


@kernel
def _loss(core: Core, knobs: Knobs, gpu: int, size: int, drain: bool) -> float:
    """Return what is lost with a GPU, in seconds of ready work and of waiting; infinity where it is out of reach."""
    gpus = core.gpus
    held = gpus.label_model[gpu]
    loss = 0.0
    if not is_idle(core, gpu):
        if not drain or core.models.gpus[held] >= size:
            return np.inf
        loss += knobs.value[DRAIN] * (gpus.free_at[gpu] - core.now[0])
    if held != NONE:
        if core.now[0] < knobs.since[gpu] + knobs.value[RESIDENCY]:
            wake_at(core, knobs.since[gpu] + knobs.value[RESIDENCY])
            return np.inf
        loss += 1.0 + work(core, held) / max(1, gpus.held[held])
    return loss


@kernel
def _reserve(core: Core, knobs: Knobs, model: int) -> None:
    """Reserve GPUs for a model where that is possible."""
    gang = _cheapest_gang(core, knobs, model, True)
    if gang != NONE:
        knobs.reserved[FIRST] = gang
        knobs.reserved[END] = gang + core.models.gpus[model]
        knobs.reserved[MODEL] = model


@kernel
def _any_start(core: Core) -> tuple[int, int]:
    """Return the model with the most ready work, and a gang for it; all GPUs are idle."""
    best = NONE
    best_work = -1.0
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0 and work(core, model) > best_work:
            best = model
            best_work = work(core, model)
    return best, idle_gang(core, best) if best != NONE else NONE
