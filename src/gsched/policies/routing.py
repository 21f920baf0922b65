"""Routing of requests to models that stand where they were placed: what `static` does while it runs.

The oldest request goes first, each node to an idle instance in the server where its request ran before. Instances that
overlap need care: a gang that shares its GPUs with smaller models would wait for ever for all of them to be idle at
once. It therefore claims a gang when enough work has gathered or its next node has waited long; the claimed GPUs run
dry, but for nodes that end in time, and then serve the gang's model for a while.
"""

from typing import Any, NamedTuple

from gsched.core import WAIT, backlog, head_key, head_node, head_sequence, idle_from, request_work, wake_at, work
from gsched.jit import kernel, lowest_bit
from gsched.state import IDLE, NONE, WORD, WORDS, Core


class Table(NamedTuple):
    """What routing needs to know, and the claims."""

    server_size: Any  # (1)
    shortest: Any  # (1) whether short requests go first instead of old ones
    turn_of: Any  # (requests) place in the order of arrival; empty where arrivals tell
    rank: Any  # (GPUs) the lower, the rather it is used
    flow: Any  # (templates) workflow
    whole: Any  # (workflows x servers) 1 where the server holds all models of the workflow
    routed: Any  # (servers) seconds of the requests that began there
    contested: Any  # models whose gangs overlap those of others, the widest first
    first: Any  # (models + 1) slice of `gang`
    gang: Any  # first GPUs of the instances
    enough: Any  # (models) seconds of ready nodes for each claim
    patience: Any  # (models) seconds that the next node waits before a claim is made for it alone
    turn: Any  # (models) seconds that a claim lasts at most
    claims: Any  # (models) claimed gangs
    owner: Any  # (GPUs) model that claims the GPU, or NONE
    begin: Any  # (GPUs) first GPU of the claimed gang
    until: Any  # (GPUs) by first GPU of a claimed gang: when it is expected to be idle as a whole
    since: Any  # (GPUs) by first GPU of a claimed gang: when it was claimed
    pause: Any  # (GPUs) by first GPU of a gang: when it may be claimed again


@kernel
def choose(core: Core, table: Table) -> tuple[int, int]:
    """Start the node of the oldest request that an idle instance can take."""
    if core.gpus.count[IDLE] == 0:
        return WAIT
    for i in range(len(table.contested)):
        _settle_claims(core, table, table.contested[i])
    best = NONE
    best_gang = NONE
    best_key = 0.0
    best_sequence = 0
    for model in range(len(core.models.gpus)):
        if backlog(core, model) == 0:
            continue
        key, sequence = head_key(core, model), head_sequence(core, model)
        if best == NONE or key < best_key or (key == best_key and sequence < best_sequence):
            gang = _instance(core, table, model)
            if gang != NONE:
                best, best_gang, best_key, best_sequence = model, gang, key, sequence
    if best == NONE:
        return WAIT
    _note_start(core, table, best, best_gang)
    return best, best_gang


@kernel
def order(core: Core, table: Table, node: int) -> float:
    """Order nodes by the arrival of their requests, or by the GPU time that those take."""
    request = core.requests.of[node]
    key: float = core.requests.arrival[request]
    if table.shortest[0]:
        key = request_work(core, request)
    elif len(table.turn_of) > 0:
        key = table.turn_of[request]
    return key


@kernel
def _instance(core: Core, table: Table, model: int) -> int:
    """Return the idle instance that takes the next node of a model: in its request's server if possible; or NONE."""
    gpus = core.gpus
    words = gpus.count[WORDS]
    server_size = table.server_size[0]
    servers = len(table.routed)
    node = head_node(core, model)
    home = core.requests.note[core.requests.of[node]]
    flow = table.flow[core.graph.template[node]]
    best = NONE
    best_fit = 0
    best_load = 0.0
    for w in range(words):
        mask = gpus.warm[model * words + w]
        while mask != 0:
            gang = w * WORD + lowest_bit(mask)
            mask &= mask - 1
            if _is_free(core, table, model, gang, node):
                server = gang // server_size
                if home == NONE:
                    fit = table.whole[flow * servers + server]
                    load = table.routed[server]
                else:
                    fit = 1 if server == home else 0
                    load = 0.0
                better = fit > best_fit or (fit == best_fit and load < best_load)
                same = fit == best_fit and load == best_load
                if best == NONE or better or (same and table.rank[gang] < table.rank[best]):
                    best, best_fit, best_load = gang, fit, load
    return best


@kernel
def _is_free(core: Core, table: Table, model: int, gang: int, node: int) -> bool:
    """Tell whether an idle gang may take a node: nobody else claims a GPU of it, or the node ends before that hurts."""
    end = core.now[0] + core.estimate[node]
    for gpu in range(gang, gang + core.models.gpus[model]):
        owner = table.owner[gpu]
        if owner != NONE and not (owner == model and table.begin[gpu] == gang) and end > table.until[table.begin[gpu]]:
            return False
    return True


@kernel
def _note_start(core: Core, table: Table, model: int, gang: int) -> None:
    """Note the server in which a request is now, and the work of those that begin there."""
    node = head_node(core, model)
    request = core.requests.of[node]
    server = gang // table.server_size[0]
    if core.requests.note[request] == NONE:
        table.routed[server] += core.estimate[node]
    core.requests.note[request] = server


@kernel
def _settle_claims(core: Core, table: Table, model: int) -> None:
    """Give up claims of a model that are no longer needed, and make those that are due."""
    if backlog(core, model) == 0:
        if table.claims[model] > 0:
            for i in range(table.first[model], table.first[model + 1]):
                if table.owner[table.gang[i]] == model and table.begin[table.gang[i]] == table.gang[i]:
                    _release(core, table, model, table.gang[i])
        return
    if table.claims[model] > 0:
        _release_expired(core, table, model)
    waited = core.now[0] - core.ready_time[head_node(core, model)]
    if table.claims[model] == 0 and waited < table.patience[model]:
        wake_at(core, core.ready_time[head_node(core, model)] + table.patience[model])
    due = work(core, model) >= (table.claims[model] + 1) * table.enough[model]
    if due or (table.claims[model] == 0 and waited >= table.patience[model]):
        _claim(core, table, model)


@kernel
def _release_expired(core: Core, table: Table, model: int) -> None:
    """Give up the idle claimed gangs of a model whose turn is over."""
    words = core.gpus.count[WORDS]
    for w in range(words):
        mask = core.gpus.warm[model * words + w]
        while mask != 0:
            gang = w * WORD + lowest_bit(mask)
            mask &= mask - 1
            mine = table.owner[gang] == model and table.begin[gang] == gang
            if mine and core.now[0] - table.since[gang] >= table.turn[model]:
                _release(core, table, model, gang)
                table.pause[gang] = core.now[0] + table.turn[model]


@kernel
def _release(core: Core, table: Table, model: int, gang: int) -> None:
    for gpu in range(gang, gang + core.models.gpus[model]):
        table.owner[gpu] = NONE
    table.claims[model] -= 1


@kernel
def _claim(core: Core, table: Table, model: int) -> None:
    """Claim the instance of a model that is expected to be idle first, of those that no wider gang has claimed."""
    best = NONE
    best_until = 0.0
    for i in range(table.first[model], table.first[model + 1]):
        gang = table.gang[i]
        until = _claimable_from(core, table, model, gang)
        if until >= 0.0 and (best == NONE or until < best_until):
            best, best_until = gang, until
    if best == NONE:
        return
    size = core.models.gpus[model]
    for gpu in range(best, best + size):
        if table.owner[gpu] != NONE:
            _release(core, table, table.owner[gpu], table.begin[gpu])
    for gpu in range(best, best + size):
        table.owner[gpu] = model
        table.begin[gpu] = best
    table.claims[model] += 1
    table.until[best] = best_until
    table.since[best] = core.now[0]


@kernel
def _claimable_from(core: Core, table: Table, model: int, gang: int) -> float:
    """Return when all GPUs of a gang are expected to be idle, or -1 where it cannot be claimed."""
    if table.pause[gang] > core.now[0]:
        return -1.0
    size = core.models.gpus[model]
    for gpu in range(gang, gang + size):
        owner = table.owner[gpu]
        if owner != NONE and core.models.gpus[owner] >= size:
            return -1.0
    return idle_from(core, gang, gang + size)
