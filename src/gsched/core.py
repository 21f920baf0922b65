"""The rules: what becomes ready, what may start where, and what it costs; no clock, no I/O.

The core is told what happened (`arrive`, `finish`, after which the fresh nodes are given to `enqueue` with the key that
orders them) and what a policy decided (`start`); it applies a decision or refuses it. Policies read the state through
the queries, whose cost does not grow with the backlog. All of it runs interpreted on lists or compiled on arrays (see
`gsched.jit`).
"""

import numpy as np

from gsched.heap import Heap, heap_pop, heap_push
from gsched.jit import kernel, lowest_bit
from gsched.residency import all_idle, is_resident, occupy, vacate
from gsched.state import (
    FINISHED,
    FRESH,
    NONE,
    PLACED,
    READY,
    SHARED,
    STARTED,
    VERSION,
    WORD,
    WORDS,
    Core,
    Gpus,
)

WAIT = (NONE, NONE)  # a policy's decision to start nothing now
FULL = (1 << WORD) - 1

# What `start` returns instead of a row when it refuses a decision
NO_SUCH_MODEL, NOTHING_READY, NO_SUCH_GANG, GANG_BUSY, NOT_PLACED = -1, -2, -3, -4, -5
REFUSALS = {
    NO_SUCH_MODEL: "there is no such model",
    NOTHING_READY: "no node of that model is ready",
    NO_SUCH_GANG: "no gang of that model may begin at that GPU",
    GANG_BUSY: "a GPU of that gang is busy",
    NOT_PLACED: "models of a deployment stay where they are, and that gang does not hold it",
}


# Queries: what a policy may ask


@kernel
def backlog(core: Core, model: int) -> int:
    """Return how many nodes of a model are ready."""
    queues = core.queues
    ready: int = queues.tail[model] - queues.head[model] + queues.late_size[model]
    return ready


@kernel
def work(core: Core, model: int) -> float:
    """Return the seconds that the ready nodes of a model are expected to execute."""
    seconds: float = core.queues.work[model]
    return seconds


@kernel
def late_is_next(core: Core, model: int) -> bool:
    """Tell whether the next node of a model with a backlog waits in the late lane."""
    queues = core.queues
    if queues.late_size[model] == 0:
        return False
    at = queues.head[model]
    if at == queues.tail[model]:
        return True
    base = queues.late_base[model]
    late = (queues.late.key[base], queues.late.sequence[base])
    return late < (queues.lane.key[at], queues.lane.sequence[at])


@kernel
def _head(core: Core, model: int) -> tuple[Heap, int]:
    """Return the lane and the slot in which the next node of a model with a backlog waits."""
    queues = core.queues
    if late_is_next(core, model):
        return queues.late, queues.late_base[model]
    return queues.lane, queues.head[model]


@kernel
def head_node(core: Core, model: int) -> int:
    """Return the node of a model with a backlog that would start next."""
    lane, at = _head(core, model)
    node: int = lane.value[at]
    return node


@kernel
def head_key(core: Core, model: int) -> float:
    """Return the order key of that node."""
    lane, at = _head(core, model)
    key: float = lane.key[at]
    return key


@kernel
def head_sequence(core: Core, model: int) -> int:
    """Return when that node became ready, counted in nodes; it breaks ties between keys."""
    lane, at = _head(core, model)
    sequence: int = lane.sequence[at]
    return sequence


@kernel
def warm_gang(core: Core, model: int) -> int:
    """Return the first GPU of the lowest idle gang that already holds a model, or NONE."""
    gpus = core.gpus
    words = gpus.count[WORDS]
    for w in range(words):
        mask = gpus.warm[model * words + w]
        if mask != 0:
            return w * WORD + lowest_bit(mask)
    return NONE


@kernel
def warm_gang_outside(core: Core, model: int, first: int, end: int) -> int:
    """Return the first GPU of the lowest idle gang that holds a model and no GPU of a range, or NONE."""
    gpus = core.gpus
    words = gpus.count[WORDS]
    first -= core.models.gpus[model] - 1
    for w in range(words):
        low = max(0, min(WORD, first - w * WORD))
        high = max(0, min(WORD, end - w * WORD))
        mask = gpus.warm[model * words + w] & ~(((1 << high) - 1) & ~((1 << low) - 1))
        if mask != 0:
            return w * WORD + lowest_bit(mask)
    return NONE


@kernel
def is_idle(core: Core, gpu: int) -> bool:
    """Tell whether a GPU runs nothing."""
    idle: bool = (core.gpus.idle[gpu // WORD] >> (gpu % WORD)) & 1 == 1
    return idle


@kernel
def idle_from(core: Core, first: int, end: int) -> float:
    """Return when all GPUs of a range are expected to be idle, which is now if they are."""
    until: float = core.now[0]
    for gpu in range(first, end):
        if not is_idle(core, gpu):
            until = max(until, core.gpus.free_at[gpu])
    return until


@kernel
def request_work(core: Core, request: int) -> float:
    """Return the GPU seconds that all nodes of a request are expected to take."""
    graph = core.graph
    seconds = 0.0
    for node in range(graph.first_node[request], graph.first_node[request + 1]):
        seconds += core.estimate[node] * core.models.gpus[graph.model[graph.template[node]]]
    return seconds


@kernel
def may_begin(core: Core, model: int, gang: int) -> bool:
    """Tell whether a gang of a model may begin at a GPU of the cluster."""
    allowed = core.gpus.allowed[core.models.shape[model] * core.gpus.count[WORDS] + gang // WORD]
    begins: bool = (allowed >> (gang % WORD)) & 1 == 1
    return begins


@kernel
def switch_seconds(core: Core, held: int, model: int) -> float:
    """Return the seconds that a GPU which holds a model takes to load another instead."""
    memory = core.models.memory
    seconds: float = (memory[held] + memory[model]) / core.gpus.cost[0] + core.gpus.cost[1]
    return seconds


@kernel
def idle_gang(core: Core, model: int) -> int:
    """Return the first GPU of the lowest idle gang on which a model may run, or NONE."""
    gpus = core.gpus
    shape = core.models.shape[model]
    if gpus.run_version[shape] != gpus.count[VERSION]:
        gpus.run_start[shape] = _first_run(gpus, shape, core.models.gpus[model])
        gpus.run_version[shape] = gpus.count[VERSION]
    start: int = gpus.run_start[shape]
    return start


@kernel
def _first_run(gpus: Gpus, shape: int, size: int) -> int:
    """Return the first allowed start of `size` idle GPUs in a row, or NONE."""
    words = gpus.count[WORDS]
    run = gpus.scratch
    for w in range(words):
        run[w] = gpus.idle[w]
    length = 1  # a bit in `run` stands for this many idle GPUs from there on
    while length < size:
        step = min(length, size - length)
        skip = step // WORD
        shift = step % WORD
        for w in range(words):
            shifted = 0
            if w + skip < words:
                shifted = run[w + skip] >> shift
                if shift != 0 and w + skip + 1 < words:
                    shifted |= (run[w + skip + 1] << (WORD - shift)) & FULL
            run[w] &= shifted
        length += step
    for w in range(words):
        mask = run[w] & gpus.allowed[shape * words + w]
        if mask != 0:
            return w * WORD + lowest_bit(mask)
    return NONE


@kernel
def held_gangs(core: Core, model: int) -> int:
    """Return how many gangs hold a model, idle or busy."""
    count: int = core.gpus.held[model]
    return count


@kernel
def holds(core: Core, model: int, gang: int) -> bool:
    """Tell whether the gang that begins at a GPU holds a model, idle or busy; its GPUs may hold others too."""
    if core.gpus.count[SHARED] == 0:
        exclusive: bool = core.gpus.holder[gang] == model
        return exclusive
    return is_resident(core, model, gang)


@kernel
def wake_at(core: Core, time: float) -> None:
    """Ask to be asked again at a later time, even if nothing happens until then; the earliest wish counts.

    A wish holds until the policy is asked next.
    """
    if core.now[0] < time < core.alarm[0]:
        core.alarm[0] = time


# Transitions: what happened, and what was decided


@kernel
def arrive(core: Core, request: int) -> None:
    """Note that a request has arrived: nodes without parents become fresh."""
    graph = core.graph
    core.count[FRESH] = 0
    for node in range(graph.first_node[request], graph.first_node[request + 1]):
        if core.pending[node] == 0:
            _make_fresh(core, node)


@kernel
def finish(core: Core, gang: int) -> int:
    """Note that the node on a gang has ended; free the gang; nodes that waited for it alone become fresh."""
    node: int = core.running[gang]
    vacate(core, core.graph.model[core.graph.template[node]], gang)
    release(core, node)
    return node


@kernel
def release(core: Core, node: int) -> None:
    """Note that a node is done; nodes that waited for it alone become fresh."""
    graph = core.graph
    template = graph.template[node]
    core.count[FINISHED] += 1
    core.count[FRESH] = 0
    first = node - graph.local[template]
    for i in range(graph.first_child[template], graph.first_child[template + 1]):
        child = first + graph.child[i]
        core.pending[child] -= 1
        if core.pending[child] == 0:
            _make_fresh(core, child)


@kernel
def _make_fresh(core: Core, node: int) -> None:
    core.ready_time[node] = core.now[0]
    core.fresh[core.count[FRESH]] = node
    core.count[FRESH] += 1


@kernel
def enqueue(core: Core, node: int, key: float) -> None:
    """Put a fresh node into its model's queue; nodes of a model start in the order of their keys."""
    queues = core.queues
    model = core.graph.model[core.graph.template[node]]
    queues.work[model] += core.estimate[node]
    sequence = core.count[READY]
    core.count[READY] += 1
    at = queues.tail[model]
    if at == queues.head[model] or key >= queues.lane.key[at - 1]:
        queues.lane.key[at] = key
        queues.lane.sequence[at] = sequence
        queues.lane.value[at] = node
        queues.tail[model] = at + 1
    else:
        heap_push(queues.late, queues.late_base[model], queues.late_size[model], key, sequence, node)
        queues.late_size[model] += 1


@kernel
def put_first(core: Core, node: int) -> None:
    """Put a node that has been taken out of its model's queue back, before all others; there must be a late lane."""
    queues = core.queues
    model = core.graph.model[core.graph.template[node]]
    queues.work[model] += core.estimate[node]
    heap_push(queues.late, queues.late_base[model], queues.late_size[model], -np.inf, core.count[READY], node)
    core.count[READY] += 1
    queues.late_size[model] += 1


@kernel
def start(core: Core, model: int, gang: int) -> int:
    """Start the next node of a model on a gang, now; return its row, or a refusal, which leaves the state unchanged."""
    refusal = _refusal(core, model, gang)
    if refusal < 0:
        return refusal
    node = dequeue(core, model)
    core.running[gang] = node
    rows = core.rows
    row: int = core.count[STARTED]
    core.count[STARTED] += 1
    rows.node[row] = node
    rows.gang[row] = gang
    rows.ready[row] = core.ready_time[node]
    rows.time[row] = core.now[0]
    occupy(core, model, gang, row)
    return row


@kernel
def dequeue(core: Core, model: int) -> int:
    """Take the next node out of a model's queue."""
    queues = core.queues
    node = head_node(core, model)
    if late_is_next(core, model):
        heap_pop(queues.late, queues.late_base[model], queues.late_size[model])
        queues.late_size[model] -= 1
    else:
        queues.head[model] += 1
    if backlog(core, model) == 0:
        queues.work[model] = 0.0  # not what rounding left
    else:
        queues.work[model] -= core.estimate[node]
    return node


@kernel
def _refusal(core: Core, model: int, gang: int) -> int:
    """Return why a decision is against the rules, or 0."""
    gpus = core.gpus
    if model < 0 or model >= len(core.models.gpus):
        return NO_SUCH_MODEL
    if backlog(core, model) == 0:
        return NOTHING_READY
    if gang < 0 or gang >= len(gpus.label_model):
        return NO_SUCH_GANG
    allowed = gpus.allowed[core.models.shape[model] * gpus.count[WORDS] + gang // WORD]
    if (allowed >> (gang % WORD)) & 1 == 0:
        return NO_SUCH_GANG
    if not all_idle(gpus, gang, core.models.gpus[model]):
        return GANG_BUSY
    if gpus.count[PLACED] != 0 and not is_resident(core, model, gang):
        return NOT_PLACED
    return 0
