"""Switch-averse dispatch with reservations for gangs, guided by knobs: what `online` sets by hand and `search` tunes.

A gang that holds a model serves it for as long as nodes of it are ready. GPUs change their model where the seconds of
ready work that each gang of the new model would have are worth the seconds that the change costs: loading it, the ready
work of the models that give way, and loading those again. If the GPUs are still busy, they are reserved: what would end
there too late does not start any more (EASY backfilling: Lifka, "The ANL/IBM SP scheduling system", 1995).

No model starves. One with ready nodes that has started none for MAX_WAIT seconds may have any GPUs, the one that has
waited longest first. With M models, and P seconds for the longest node with its switch, it starts one within MAX_WAIT +
(M + 1) P: by then, one reservation made before and one of each other model have been served, each within P.
"""

from typing import Any, NamedTuple

import numpy as np

from gsched.cluster import Cluster
from gsched.core import (
    WAIT,
    backlog,
    head_key,
    head_node,
    held_gangs,
    holds,
    idle_from,
    idle_gang,
    is_idle,
    may_begin,
    request_work,
    switch_seconds,
    wake_at,
    warm_gang,
    warm_gang_outside,
    work,
)
from gsched.jit import kernel
from gsched.policies import Setting
from gsched.policies.levels import disjoint_gangs
from gsched.residency import all_idle
from gsched.state import FINISHED, IDLE, NONE, READY, SHARED, STARTED, Core, gang_starts

# Positions in Knobs.value
ARRIVAL, WORK, WAITING, MAX_WAIT, RESIDENCY, DRAIN, BALANCE, RELOAD, CALM = range(9)
VALUES = 9
# Positions in Knobs.reserved
FIRST, END, MODEL = 0, 1, 2

TINY = 1e-9  # seconds
PER_START = 16  # GPUs that a model's search for a gang may look at for each node started
AGAIN = 0.1  # seconds at least between two looks at a model while nothing happens


class Knobs(NamedTuple):
    """What guides the decisions, and the little that they remember.

    The values: ARRIVAL and WORK, weights of a request's arrival and of its GPU seconds in the key of its nodes. The
    weights of what is set against the loading time, all in seconds: how long the next node has been WAITING; the
    BALANCE, which is how long the ready work of the models that give way will keep each of their gangs; how long busy
    GPUs DRAIN; how long loading those models again, their RELOAD, takes. CALM, up to how many loading times of ready
    work per GPU a switch is the cheaper the less there is. MAX_WAIT, seconds after which a model starves; RESIDENCY,
    seconds for which exclusive GPUs keep a model at the least.
    """

    rank: Any  # (nodes) key of each node; empty where it follows from ARRIVAL and WORK
    threshold: Any  # (models) weight of the seconds that loading takes
    weight: Any  # (models) preference among those that are worth a switch
    reserve: Any  # (models) how many times as much a switch must be worth for a reservation
    limit: Any  # (models) most gangs that may hold it
    stride: Any  # (models) it is loaded onto gangs that begin at multiples of so many GPUs
    value: Any
    reserved: Any  # FIRST GPU and END of the reserved gang, and its MODEL; the end is 0 if there is none
    since: Any  # (GPUs) when a model was loaded
    served: Any  # (models) when a node of it last started, or the first of its ready nodes became so, if that was later
    look: Any  # (2 x models) number of STARTED nodes from which on to look for gangs for it: idle ones, any
    happened: Any  # (1) what had happened when it was last decided to wait


MEMORY = ("reserved", "since", "served", "look", "happened")
"""The fields of `Knobs` into which decisions write."""


def neutral_knobs(setting: Setting) -> Knobs:
    """Return knobs without preferences, all values 0."""
    cluster = setting.cluster
    sizes = [model.gpus_required for model in setting.known.models]
    return Knobs(
        rank=np.zeros(0),
        threshold=np.ones(len(sizes)),
        weight=np.ones(len(sizes)),
        reserve=np.zeros(len(sizes)),
        limit=np.full(len(sizes), cluster.gpus, np.int64),
        stride=np.array([_stride(cluster, size) for size in sizes], np.int64),
        value=np.zeros(VALUES),
        reserved=np.zeros(3, np.int64),
        since=np.full(cluster.gpus, -np.inf),
        served=np.full(len(sizes), -np.inf),
        look=np.zeros(2 * len(sizes), np.int64),
        happened=np.zeros(1, np.int64),
    )


def fresh(knobs: Knobs) -> Knobs:
    """Return the same knobs with a memory of their own; that of the others must not have been used yet."""
    return knobs._replace(**{name: getattr(knobs, name).copy() for name in MEMORY})


def _stride(cluster: Cluster, size: int) -> int:
    """Return the size, so that gangs do not overlap, unless fewer of them would fit in the servers than there could."""
    aligned = [gang for gang in gang_starts(cluster, size) if gang % size == 0]
    return size if len(aligned) == len(disjoint_gangs(cluster, size)) else 1


@kernel
def order(core: Core, knobs: Knobs, node: int) -> float:
    """Return the rank of a node, or else the weighted arrival and size of its request."""
    model = core.graph.model[core.graph.template[node]]
    if backlog(core, model) == 0:
        knobs.served[model] = core.now[0]
    if len(knobs.rank) > 0:
        rank: float = knobs.rank[node]
        return rank
    request = core.requests.of[node]
    key: float = knobs.value[ARRIVAL] * core.requests.arrival[request]
    if knobs.value[WORK] != 0.0:
        key += knobs.value[WORK] * request_work(core, request)
    return key


@kernel
def choose(core: Core, knobs: Knobs) -> tuple[int, int]:
    """Start what has its reserved GPUs, or make a reservation; then what needs no switch, then what is worth one."""
    if core.gpus.count[IDLE] == 0:
        return WAIT
    model, gang = _reserved_start(core, knobs)
    if model == NONE and knobs.reserved[END] == 0:
        model, gang = _claim(core, knobs)
        if model != NONE and not all_idle(core.gpus, gang, core.models.gpus[model]):
            knobs.reserved[FIRST] = gang
            knobs.reserved[END] = gang + core.models.gpus[model]
            knobs.reserved[MODEL] = model
            model = NONE
    if model == NONE:
        model, gang = _warm_start(core, knobs)
    if model == NONE:
        model, gang = _worth_a_switch(core, knobs, False)
    if model == NONE and core.gpus.count[IDLE] == len(core.gpus.label_model):
        model, gang = _any_start(core, knobs)  # nothing is worth it, but there is nothing to wait for
    if model != NONE:
        _note_start(core, knobs, model, gang)
    else:
        knobs.happened[0] = _happened(core)
    return model, gang


@kernel
def _note_start(core: Core, knobs: Knobs, model: int, gang: int) -> None:
    knobs.served[model] = core.now[0]
    if not holds(core, model, gang):
        for gpu in range(gang, gang + core.models.gpus[model]):
            knobs.since[gpu] = core.now[0]


@kernel
def _reserved_start(core: Core, knobs: Knobs) -> tuple[int, int]:
    """Return what GPUs are reserved for once all of them are idle; give up a reservation that nobody needs."""
    if knobs.reserved[END] == 0:
        return WAIT
    model = knobs.reserved[MODEL]
    gang = knobs.reserved[FIRST]
    needed = backlog(core, model) > 0
    if needed and not all_idle(core.gpus, gang, core.models.gpus[model]):
        return WAIT
    knobs.reserved[FIRST] = 0
    knobs.reserved[END] = 0
    return (model, gang) if needed else WAIT


@kernel
def _claim(core: Core, knobs: Knobs) -> tuple[int, int]:
    """Return the model that should get GPUs before others go on with theirs, and a gang, which may be busy yet."""
    model = _starved(core, knobs)
    if model == NONE:
        return _worth_a_switch(core, knobs, True)
    gang = warm_gang(core, model)
    if gang == NONE:
        gang, _cost = _cheapest_gang(core, knobs, model, 1.0, True, True)
    return model, gang


@kernel
def _starved(core: Core, knobs: Knobs) -> int:
    """Return the model that has waited longest of those that have waited for too long, or NONE."""
    starved = NONE
    first = np.inf
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0:
            until = knobs.served[model] + knobs.value[MAX_WAIT]
            wake_at(core, until)
            if until <= core.now[0] and until < first:
                starved = model
                first = until
    return starved


@kernel
def _warm_start(core: Core, knobs: Knobs) -> tuple[int, int]:
    """Return the model, first by key, that has an idle gang, and that gang; off the reservation, or gone in time."""
    first = knobs.reserved[FIRST]
    end = knobs.reserved[END]
    until = idle_from(core, first, end)
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
        if gang != NONE and (best[0] == NONE or head_key(core, model) < best_key):
            best = (model, gang)
            best_key = head_key(core, model)
    return best


@kernel
def _worth_a_switch(core: Core, knobs: Knobs, busy: bool) -> tuple[int, int]:
    """Return the model whose switch gains most for what it costs, and a gang; with `busy` one that may be busy yet."""
    best = WAIT
    best_worth = -1.0
    pressure = _pressure(core)
    quiet = _happened(core) == knobs.happened[0]
    for model in range(len(core.models.gpus)):
        if not _may_switch(core, knobs, model, busy):
            continue
        dear = _dearness(core, knobs, model, pressure, busy)
        benefit = _benefit(core, knobs, model)
        gang = NONE
        cost = dear * min(core.models.load_time[model], 0.5 * switch_seconds(core, model, model))  # at the least
        if benefit >= cost and _worth(knobs, model, benefit, cost) > best_worth:
            if not quiet and core.count[STARTED] < knobs.look[_look_at(core, model, busy)]:
                wake_at(core, core.now[0] + max(AGAIN, switch_seconds(core, model, model)))
                continue
            gang, cost = _cheapest_gang(core, knobs, model, dear, busy, False)
            if benefit < cost:
                _look_later(core, knobs, model, busy)
        if gang != NONE and benefit >= cost and _worth(knobs, model, benefit, cost) > best_worth:
            best = (model, gang)
            best_worth = _worth(knobs, model, benefit, cost)
        elif benefit < cost and knobs.value[WAITING] > 0.0:
            wake_at(core, core.now[0] + max(AGAIN, (cost - benefit) / knobs.value[WAITING]))
    return best


@kernel
def _happened(core: Core) -> int:
    """Return a number that grows with everything that happens."""
    happened: int = core.count[READY] + core.count[STARTED] + core.count[FINISHED]
    return happened


@kernel
def _look_at(core: Core, model: int, busy: bool) -> int:
    """Return the position of a model in `look`."""
    return model + len(core.models.gpus) if busy else model


@kernel
def _look_later(core: Core, knobs: Knobs, model: int, busy: bool) -> None:
    """Look for gangs of a model again when much has happened, or nothing for as long as a switch takes.

    Busy gangs are looked at more seldom: there always are some.
    """
    looks = len(core.gpus.label_model) * (len(core.models.gpus) if busy else 2)
    knobs.look[_look_at(core, model, busy)] = core.count[STARTED] + looks // PER_START


@kernel
def _pressure(core: Core) -> float:
    """Return for how many seconds all GPUs together have ready work."""
    seconds = 0.0
    for model in range(len(core.models.gpus)):
        seconds += work(core, model) * core.models.gpus[model]
    return max(0.0, seconds) / len(core.gpus.label_model)  # rounding may leave less than nothing


@kernel
def _may_switch(core: Core, knobs: Knobs, model: int, busy: bool) -> bool:
    """Tell, without a look at single GPUs, whether a model may get one more gang: a busy one, or one that is idle."""
    if backlog(core, model) == 0 or held_gangs(core, model) >= knobs.limit[model]:
        return False
    if busy:
        return warm_gang(core, model) == NONE
    return idle_gang(core, model) != NONE


@kernel
def _dearness(core: Core, knobs: Knobs, model: int, pressure: float, busy: bool) -> float:
    """Return how much a second of loading a model counts."""
    dear: float = knobs.threshold[model]
    if busy:
        dear *= knobs.reserve[model]
    calm = knobs.value[CALM] * switch_seconds(core, model, model)
    if pressure < calm:
        dear *= pressure / calm
    return dear


@kernel
def _benefit(core: Core, knobs: Knobs, model: int) -> float:
    """Return the ready work of each gang if there were one more, in seconds, and the weighted wait of the next node."""
    waited = core.now[0] - core.ready_time[head_node(core, model)]
    benefit: float = max(0.0, work(core, model)) / (held_gangs(core, model) + 1) + knobs.value[WAITING] * waited
    return benefit


@kernel
def _worth(knobs: Knobs, model: int, benefit: float, cost: float) -> float:
    worth: float = knobs.weight[model] * benefit / max(cost, TINY)
    return worth


@kernel
def _cheapest_gang(core: Core, knobs: Knobs, model: int, dear: float, busy: bool, starved: bool) -> tuple[int, float]:
    """Return the gang that costs least to load a model onto, off the reservation, and that cost in seconds, or NONE.

    Models of one GPU look from the last GPU down, all others from the first GPU up, so that they keep apart.
    """
    size = core.models.gpus[model]
    last = len(core.gpus.label_model) - size
    best = NONE
    best_cost = np.inf
    for i in range(last // knobs.stride[model] + 1):
        gang = i * knobs.stride[model] if size > 1 else last - i
        if not busy and not is_idle(core, gang):
            continue
        reserved = gang < knobs.reserved[END] and gang + size > knobs.reserved[FIRST]
        if reserved or not may_begin(core, model, gang) or (holds(core, model, gang) and not starved):
            continue
        cost = _cost(core, knobs, model, gang, dear, busy, starved)
        if cost < best_cost:
            best = gang
            best_cost = cost
    return best, best_cost


@kernel
def _cost(core: Core, knobs: Knobs, model: int, gang: int, dear: float, busy: bool, starved: bool) -> float:
    """Return what it costs to load a model onto a gang, in seconds; infinity where that cannot be now."""
    gpus = core.gpus
    now = core.now[0]
    size = core.models.gpus[model]
    loading = 0.0
    missed = 0.0
    until = now
    for gpu in range(gang, gang + size):
        if not is_idle(core, gpu):
            if not busy:
                return np.inf
            until = max(until, gpus.free_at[gpu])
        held = gpus.label_model[gpu]
        if held == NONE:
            loading = max(loading, core.models.load_time[model])
            continue
        kept_until = knobs.since[gpu] + knobs.value[RESIDENCY]
        if now < kept_until and gpus.count[SHARED] == 0:
            if not starved:
                wake_at(core, kept_until)
                return np.inf
            missed += kept_until - now
        loading = max(loading, switch_seconds(core, held, model))
        if gpus.holder[gpus.label_gang[gpu]] == held:
            missed += _missed(core, knobs, gpu, held)
    drain = max(1.0, knobs.value[DRAIN]) if starved else knobs.value[DRAIN]
    cost: float = dear * loading + missed / size + drain * (until - now)
    return cost


@kernel
def _missed(core: Core, knobs: Knobs, gpu: int, held: int) -> float:
    """Return what it costs that a model gives way: its ready work waits, and it will be loaded again.

    The longer the GPU has been idle, the less likely it is that the model will be needed again soon.
    """
    reload = knobs.value[RELOAD] * switch_seconds(core, held, held)
    if reload > 0.0 and is_idle(core, gpu):
        reload *= reload / (reload + max(0.0, core.now[0] - core.gpus.free_at[gpu]))
    missed: float = knobs.value[BALANCE] * work(core, held) / held_gangs(core, held) + reload
    return missed


@kernel
def _any_start(core: Core, knobs: Knobs) -> tuple[int, int]:
    """Return the model with the most ready work of those with a gang that need not keep another; all GPUs are idle."""
    best = WAIT
    best_work = -1.0
    for model in range(len(core.models.gpus)):
        if backlog(core, model) > 0 and work(core, model) > best_work:
            gang, _cost = _cheapest_gang(core, knobs, model, 1.0, False, False)
            if gang != NONE:
                best = (model, gang)
                best_work = work(core, model)
    return best
