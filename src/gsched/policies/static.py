"""Static deployment: models stand where they were placed before time 0, and requests are routed to them.

Nothing is ever loaded afterwards. The oldest request goes first, each node to an idle instance in the server where its
request ran before. Instances that overlap need care: a gang that shares its GPUs with smaller models would wait for
ever for all of them to be idle at once. It therefore claims a gang when enough work has gathered or its next node has
waited long; the claimed GPUs run dry, but for nodes that end in time, and then serve the gang's model for a while.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gsched.core import WAIT, backlog, head_key, head_node, head_sequence, wake_at, work
from gsched.jit import kernel, lowest_bit
from gsched.load import load_requests
from gsched.placement import place
from gsched.placement.facts import drains, durations, ranks, turns, whole
from gsched.policies import Placement, Policy, Setting
from gsched.state import IDLE, NONE, WORD, WORDS, Core
from gsched.workload import Workload

_TRIED_NODES = 5_000  # of the batch, spread evenly
_TRIED_GPUS = 250  # on larger clusters, a trial of so few nodes would say nothing
_BATCHES = (1.0, 4.0, 16.0)


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
        key = _gpu_time(core, request)
    elif len(table.turn_of) > 0:
        key = table.turn_of[request]
    return key


@kernel
def _gpu_time(core: Core, request: int) -> float:
    """Return the GPU-seconds that all nodes of a request are expected to take."""
    graph = core.graph
    total: float = 0.0
    for node in range(graph.first_node[request], graph.first_node[request + 1]):
        total += core.estimate[node] * core.models.gpus[graph.model[graph.template[node]]]
    return total


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
        until = _idle_from(core, table, model, gang)
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
def _idle_from(core: Core, table: Table, model: int, gang: int) -> float:
    """Return when all GPUs of a gang are expected to be idle, or -1 where it cannot be claimed."""
    if table.pause[gang] > core.now[0]:
        return -1.0
    until: float = core.now[0]
    size = core.models.gpus[model]
    for gpu in range(gang, gang + size):
        owner = table.owner[gpu]
        if owner != NONE and core.models.gpus[owner] >= size:
            return -1.0
        if (core.gpus.idle[gpu // WORD] >> (gpu % WORD)) & 1 == 0:
            until = max(until, core.gpus.free_at[gpu])
    return until


class _Care(NamedTuple):
    """How gangs get their turn; all in durations of the nodes that have to end before (see `build`)."""

    batch: float
    patience: float
    turn: float


class _Plan(NamedTuple):
    placement: Placement
    care: _Care


def build(
    *,
    first: str = "oldest",
    fill: bool = True,
    batch: float = 1.0,
    patience: float = 30.0,
    turn: float = 1000.0,
    trials: bool = True,
    history: str = "",
) -> Policy:
    """Return the policy.

    Args:
        first: the requests that go first, `oldest` or `shortest` (which may put off long ones while short ones come).
        fill: whether memory that is left is filled with further instances.
        batch: work that warrants a claim of a gang, in durations of the longest nodes that have to end before.
        patience: how long a node waits before a claim is made for it alone, in such durations.
        turn: how long a claim lasts at most while others wait, in such durations.
        trials: whether, offline and up to 250 GPUs, other values of `fill` and `batch` are tried and the best kept.
        history: online, a file of earlier requests from which to learn how often workflows are requested.

    Raises:
        ValueError: an option is out of range.
    """
    if first not in ("oldest", "shortest"):
        raise ValueError(f"option first must be oldest or shortest, not {first!r}")
    for name, value in (("batch", batch), ("patience", patience), ("turn", turn)):
        if not value >= 0:
            raise ValueError(f"option {name} must be at least 0, not {value}")
    given = _Care(batch, patience, turn)
    latest: list[tuple[Setting, _Plan]] = []

    def plan(setting: Setting) -> _Plan:
        """Return the plan for a setting; it is asked for twice in a row."""
        if not latest or latest[0][0] is not setting:
            placement = place(_known(setting, history), setting.cluster, setting.mode, fill=fill)
            found = _Plan(placement, given)
            if trials and setting.mode == "offline" and setting.cluster.gpus <= _TRIED_GPUS:
                found = _best_plan(setting, found, fill, first)
            latest[:] = [(setting, found)]
        return latest[0][1]

    def prepare(setting: Setting) -> Table:
        return _new_table(setting, _known(setting, history), plan(setting), first)

    options = {"first": first, "fill": fill, **given._asdict(), "trials": trials, "history": history}
    return Policy(
        "static", choose, order, prepare, lambda setting: plan(setting).placement, compilable=True, options=options
    )


def _known(setting: Setting, history: str) -> Workload:
    """Return the requests to learn from."""
    if setting.mode == "online" and history:
        return load_requests(Path(history), setting.known.config) or setting.known
    return setting.known


def _best_plan(setting: Setting, given: _Plan, fill: bool, first: str) -> _Plan:
    """Return the plan with the smallest makespan, and among equals the smallest sum of ends, over the known batch."""
    known = setting.known
    stride = -(-known.node_count // _TRIED_NODES) or 1
    part = known.select(np.arange(0, known.request_count, stride)) if stride > 1 else known
    other = place(known, setting.cluster, setting.mode, fill=not fill)
    placements = [given.placement] if other == given.placement else [given.placement, other]
    cares = [given.care, *(given.care._replace(batch=batch) for batch in _BATCHES if batch != given.care.batch)]
    plans = [_Plan(placement, care) for placement in placements for care in cares]
    best, best_score = given, (np.inf, np.inf)
    for i, plan in enumerate(plans):
        rows = setting.trial(_fixed(plan, first), part, len(plans))
        end = rows.time + part.duration[rows.node]
        score = (float(end.max(initial=0.0)), float(end.sum()))
        if score < best_score:
            best, best_score = plan, score
        setting.progress((i + 1) / len(plans))
    return best


def _fixed(plan: _Plan, first: str) -> Policy:
    """Return the policy with a plan that is already made."""

    def prepare(setting: Setting) -> Table:
        return _new_table(setting, setting.known, plan, first)

    return Policy("static", choose, order, prepare, lambda _: plan.placement, compilable=True)


def _new_table(setting: Setting, known: Workload, plan: _Plan, first: str) -> Table:
    """Return the table of a run.

    Args:
        setting: of the run.
        known: the requests to learn from.
        plan: where models stand, and how gangs get their turn.
        first: the requests that go first.
    """
    models, gpus, size = known.models, setting.cluster.gpus, setting.cluster.server_size
    servers = -(-gpus // size)
    gangs: list[list[int]] = [[] for _ in models]
    for model, gang in plan.placement:
        gangs[model].append(gang)
    drain = drains(models, gangs, durations(known, setting.mode), gpus)
    contested = sorted(np.flatnonzero(drain >= 0).tolist(), key=lambda m: (-models[m].gpus_required, m))
    batch, patience, turn = (factor * np.maximum(drain, 0.0) for factor in plan.care)
    return Table(
        np.array([size], np.int64),
        np.array([first == "shortest"]),
        turns(setting.known, setting.mode),
        ranks(models, gangs, gpus),
        np.repeat(np.arange(len(known.workflows)), np.diff(known.template_start)),
        whole(known, gangs, size, servers),
        np.zeros(servers),
        np.array(contested, np.int64),
        np.cumsum([0, *map(len, gangs)], dtype=np.int64),
        np.array([gang for each in gangs for gang in sorted(each)], np.int64),
        batch,
        patience,
        turn,
        np.zeros(len(models), np.int64),
        np.full(gpus, NONE, np.int64),
        np.full(gpus, NONE, np.int64),
        np.zeros(gpus),
        np.zeros(gpus),
        np.zeros(gpus),
    )
