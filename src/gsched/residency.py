"""What GPUs hold, what a start costs, and which gangs it leaves warm: the rules of both residencies.

Exclusive: a GPU holds the model that it was last loaded for. Shared: a GPU holds whole gangs' models as long as their
shares of memory fit; the least recently used make room. The shared state is touched only where `SHARED` says so.
"""

from gsched.jit import kernel
from gsched.state import IDLE, LOAD, NONE, PLACED, SHARED, SWITCH, VERSION, WARM, WORD, WORDS, Core, Gpus, Shared

NOTHING = -1.0  # GB freed where nothing was evicted: what is evicted may have a memory of 0


@kernel
def all_idle(gpus: Gpus, gang: int, size: int) -> bool:
    """Tell whether every GPU of a gang is idle."""
    for gpu in range(gang, gang + size):  # noqa: SIM110 (kernels have no generators)
        if (gpus.idle[gpu // WORD] >> (gpu % WORD)) & 1 == 0:
            return False
    return True


@kernel
def is_resident(core: Core, model: int, gang: int) -> bool:
    """Tell whether a gang holds a model, where models share GPUs."""
    resident: int = core.shared.resident[model * core.gpus.count[WORDS] + gang // WORD]
    return (resident >> (gang % WORD)) & 1 == 1


@kernel
def occupy(core: Core, model: int, gang: int, row: int) -> None:
    """Make a gang busy and let it hold a model; record what loading costs and whether anything makes room."""
    if core.gpus.count[SHARED] == 0:
        _occupy_exclusive(core, model, gang, row)
    else:
        _occupy_shared(core, model, gang, row)


@kernel
def vacate(core: Core, model: int, gang: int) -> None:
    """Make a gang idle; it keeps what it holds."""
    gpus = core.gpus
    size = core.models.gpus[model]
    for gpu in range(gang, gang + size):
        gpus.idle[gpu // WORD] |= 1 << (gpu % WORD)
    if gpus.count[SHARED] == 0:
        gpus.warm[model * gpus.count[WORDS] + gang // WORD] |= 1 << (gang % WORD)
    else:
        _warm_again(core, gang, size)
    gpus.count[IDLE] += size
    gpus.count[VERSION] += 1
    core.running[gang] = NONE


@kernel
def _occupy_exclusive(core: Core, model: int, gang: int, row: int) -> None:
    """Label a gang; each of its GPUs that has another label pays for replacing it."""
    gpus = core.gpus
    memory = core.models.memory
    words = gpus.count[WORDS]
    switch = 0.0
    kind = WARM
    for gpu in range(gang, gang + core.models.gpus[model]):
        gpus.idle[gpu // WORD] &= ~(1 << (gpu % WORD))
        held = gpus.label_model[gpu]
        held_gang = gpus.label_gang[gpu]
        if held == model and held_gang == gang:
            continue
        if held == NONE:
            kind = max(kind, LOAD)
            cost = core.models.load_time[model]
        else:
            kind = SWITCH
            cost = (memory[held] + memory[model]) / gpus.cost[0] + gpus.cost[1]
            gpus.warm[held * words + held_gang // WORD] &= ~(1 << (held_gang % WORD))
            if gpus.holder[held_gang] == held:
                gpus.holder[held_gang] = NONE
                gpus.held[held] -= 1
        switch = max(switch, cost)
        gpus.label_model[gpu] = model
        gpus.label_gang[gpu] = gang
    if kind != WARM:
        gpus.holder[gang] = model
        gpus.held[model] += 1
    gpus.warm[model * words + gang // WORD] &= ~(1 << (gang % WORD))
    _record(core, model, gang, row, kind, switch)


@kernel
def _record(core: Core, model: int, gang: int, row: int, kind: int, switch: float) -> None:
    """Note the cost of a start and until when it occupies its gang."""
    gpus = core.gpus
    size = core.models.gpus[model]
    free_at = core.now[0] + switch + core.estimate[core.rows.node[row]]
    for gpu in range(gang, gang + size):
        gpus.free_at[gpu] = free_at
    gpus.count[IDLE] -= size
    gpus.count[VERSION] += 1
    core.rows.switch[row] = switch
    core.rows.kind[row] = kind


# Shared residency


@kernel
def _occupy_shared(core: Core, model: int, gang: int, row: int) -> None:
    """Load a model onto a gang that does not hold it yet; no gang that overlaps this one is idle any more."""
    kind = WARM
    switch = 0.0
    if not is_resident(core, model, gang):
        kind, switch = _make_room(core, model, gang)
        settle(core, model, gang)
    use(core, model, gang, row)
    gpus, shared = core.gpus, core.shared
    for gpu in range(gang, gang + core.models.gpus[model]):
        gpus.idle[gpu // WORD] &= ~(1 << (gpu % WORD))
        for slot in range(shared.first[gpu], shared.first[gpu] + shared.count[gpu]):
            _set_warm(gpus, shared.model[slot], shared.gang[slot], False)
    _record(core, model, gang, row, kind, switch)


@kernel
def settle(core: Core, model: int, gang: int) -> None:
    """Let a gang with room for a model hold it."""
    gpus, shared = core.gpus, core.shared
    for gpu in range(gang, gang + core.models.gpus[model]):
        slot = shared.first[gpu] + shared.count[gpu]
        shared.model[slot] = model
        shared.gang[slot] = gang
        shared.count[gpu] += 1
    shared.resident[model * gpus.count[WORDS] + gang // WORD] |= 1 << (gang % WORD)
    gpus.held[model] += 1


@kernel
def use(core: Core, model: int, gang: int, when: int) -> None:
    """Note that what a gang holds is used in row `when`, the latest on its GPUs."""
    gpus = core.gpus
    core.shared.used[model * len(core.shared.count) + gang] = when
    gpus.holder[gang] = model
    for gpu in range(gang, gang + core.models.gpus[model]):
        gpus.label_model[gpu] = model
        gpus.label_gang[gpu] = gang


@kernel
def _make_room(core: Core, model: int, gang: int) -> tuple[int, float]:
    """Evict until a model fits on every GPU of a gang; return the kind of the start and what it costs."""
    gpus, shared = core.gpus, core.shared
    end = gang + core.models.gpus[model]
    for gpu in range(gang, end):
        shared.freed[gpu] = NOTHING
    for gpu in range(gang, end):
        while shared.count[gpu] > 0 and _taken(shared, gpu) + shared.share[model] > shared.limit[0]:
            slot = _least_recently_used(shared, gpu)
            _evict(core, shared.model[slot], shared.gang[slot])
    kind = LOAD
    switch = 0.0
    for gpu in range(gang, end):
        cost = core.models.load_time[model]
        if shared.freed[gpu] != NOTHING:
            kind = SWITCH
            cost = (shared.freed[gpu] + core.models.memory[model]) / gpus.cost[0] + gpus.cost[1]
        switch = max(switch, cost)
    return kind, switch


@kernel
def _taken(shared: Shared, gpu: int) -> float:
    """Return the GB that a GPU holds, summed anew each time, so that rounding never adds up."""
    taken = 0.0
    for slot in range(shared.first[gpu], shared.first[gpu] + shared.count[gpu]):
        taken += shared.share[shared.model[slot]]
    return taken


@kernel
def _least_recently_used(shared: Shared, gpu: int) -> int:
    """Return the slot of what was last used before all else that a GPU holds."""
    gpus = len(shared.count)
    first: int = shared.first[gpu]
    oldest = first
    for slot in range(first + 1, first + shared.count[gpu]):
        used = shared.used[shared.model[slot] * gpus + shared.gang[slot]]
        if used < shared.used[shared.model[oldest] * gpus + shared.gang[oldest]]:
            oldest = slot
    return oldest


@kernel
def _evict(core: Core, model: int, gang: int) -> None:
    """Remove a model from all GPUs of a gang."""
    gpus, shared = core.gpus, core.shared
    for gpu in range(gang, gang + core.models.gpus[model]):
        _remove(shared, gpu, model, gang)
        shared.freed[gpu] = max(shared.freed[gpu], 0.0) + core.models.memory[model]
        if gpus.label_model[gpu] == model and gpus.label_gang[gpu] == gang:
            gpus.label_model[gpu] = NONE
            gpus.label_gang[gpu] = NONE
    if gpus.holder[gang] == model:
        gpus.holder[gang] = NONE
    gpus.held[model] -= 1
    shared.resident[model * gpus.count[WORDS] + gang // WORD] &= ~(1 << (gang % WORD))
    _set_warm(gpus, model, gang, False)


@kernel
def _remove(shared: Shared, gpu: int, model: int, gang: int) -> None:
    """Take one entry out of a GPU's slots; the others keep their order, in which memory is summed."""
    at = shared.first[gpu]
    end = at + shared.count[gpu]
    while shared.model[at] != model or shared.gang[at] != gang:
        at += 1
    for slot in range(at + 1, end):
        shared.model[slot - 1] = shared.model[slot]
        shared.gang[slot - 1] = shared.gang[slot]
    shared.count[gpu] -= 1


@kernel
def _warm_again(core: Core, gang: int, size: int) -> None:
    """Note which gangs that overlap one that became idle are idle now, and what they hold."""
    gpus, shared = core.gpus, core.shared
    for gpu in range(gang, gang + size):
        for slot in range(shared.first[gpu], shared.first[gpu] + shared.count[gpu]):
            held = shared.model[slot]
            held_gang = shared.gang[slot]
            met_first = gpu == max(gang, held_gang)  # it is met on every GPU that both have
            if met_first and all_idle(gpus, held_gang, core.models.gpus[held]):
                _set_warm(gpus, held, held_gang, True)


@kernel
def _set_warm(gpus: Gpus, model: int, gang: int, warm: bool) -> None:
    at = model * gpus.count[WORDS] + gang // WORD
    if warm:
        gpus.warm[at] |= 1 << (gang % WORD)
    else:
        gpus.warm[at] &= ~(1 << (gang % WORD))


# GPUs that go away and come back, which happens to real ones


@kernel
def withdraw(core: Core, first: int, end: int, until: float) -> None:
    """Take the idle GPUs of a range away; but for a placed deployment, which is restored, what they hold is forgotten.

    Until they come back, at about `until`, they are as good as busy.
    """
    gpus, shared = core.gpus, core.shared
    for gpu in range(first, end):
        gpus.idle[gpu // WORD] &= ~(1 << (gpu % WORD))
        gpus.free_at[gpu] = until
        if gpus.count[PLACED] != 0:
            for slot in range(shared.first[gpu], shared.first[gpu] + shared.count[gpu]):
                _set_warm(gpus, shared.model[slot], shared.gang[slot], False)
        elif gpus.count[SHARED] != 0:
            while shared.count[gpu] > 0:
                _evict(core, shared.model[shared.first[gpu]], shared.gang[shared.first[gpu]])
        else:
            _forget_label(core, gpu)
    gpus.count[IDLE] -= end - first
    gpus.count[VERSION] += 1


@kernel
def _forget_label(core: Core, gpu: int) -> None:
    """Empty a GPU; its gang no longer holds what it held, though its other GPUs keep their labels."""
    gpus = core.gpus
    held = gpus.label_model[gpu]
    if held == NONE:
        return
    gang = gpus.label_gang[gpu]
    _set_warm(gpus, held, gang, False)
    if gpus.holder[gang] == held:
        gpus.holder[gang] = NONE
        gpus.held[held] -= 1
    gpus.label_model[gpu] = NONE
    gpus.label_gang[gpu] = NONE


@kernel
def restore(core: Core, first: int, end: int) -> None:
    """Bring the GPUs of a range back, idle; they hold nothing, but for a placed deployment."""
    gpus = core.gpus
    for gpu in range(first, end):
        gpus.idle[gpu // WORD] |= 1 << (gpu % WORD)
        gpus.free_at[gpu] = core.now[0]
    gpus.count[IDLE] += end - first
    gpus.count[VERSION] += 1
    if gpus.count[SHARED] != 0:
        _warm_again(core, first, end - first)
