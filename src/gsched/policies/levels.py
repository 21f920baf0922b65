"""A plan made ahead, which `offline` and `hybrid` share: nodes by dependency level, then by model, as blocks on gangs.

All nodes of one dependency level and one model form a group. Levels are planned in turn; within a level the model of
the last group goes on if it can, then the group with the most GPU-seconds is next. A group is cut into blocks, each so
much work on a gang, such that the GPUs' projected ends stay balanced, on gangs that hold the model where there
are any. Nodes of a group are interchangeable, so a block says how many seconds of work, not which nodes.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gsched.cluster import Cluster
from gsched.core import head_node
from gsched.jit import kernel, lowest_bit
from gsched.placement.board import water_level
from gsched.residency import all_idle
from gsched.state import NONE, WORD, WORDS, Core, gang_starts, load_seconds
from gsched.workload import Floats, Longs, Model, Workload


class Block(NamedTuple):
    """So many seconds of work of one level and model, one node after another on one gang."""

    level: int
    model: int
    gang: int
    seconds: float


class Group(NamedTuple):
    """All nodes of one level and model."""

    level: int
    model: int
    nodes: int
    seconds: float  # that they execute, together


def plan_blocks(workload: Workload, cluster: Cluster) -> Iterator[tuple[Group, list[Block]]]:
    """Yield the groups in the order of the plan, each with its blocks; every model in use must fit the cluster."""
    gpus = [model.gpus_required for model in workload.models]
    projection = _Projection(workload.models, cluster)
    last = NONE
    for groups in _groups_by_level(workload):
        while groups:
            load = math.fsum(group.seconds * gpus[group.model] for group in groups)
            group = max(groups, key=lambda g: (g.model == last, g.seconds * gpus[g.model], -g.model))
            groups.remove(group)
            last = group.model
            yield group, list(projection.add(group, water_level(projection.free, load)))


def _groups_by_level(workload: Workload) -> Iterator[list[Group]]:
    models = len(workload.models)
    key = (workload.template_level.astype(np.int64) * models + workload.template_model)[workload.template]
    counts, seconds = np.bincount(key), np.bincount(key, workload.duration)
    for level in range(-(-len(counts) // models)):
        keys = range(level * models, min((level + 1) * models, len(counts)))
        yield [Group(level, k - level * models, int(counts[k]), float(seconds[k])) for k in keys if counts[k]]


def disjoint_gangs(cluster: Cluster, size: int) -> list[int]:
    """Return first GPUs of disjoint gangs, as many as fit; always the same ones, so that they are found loaded."""
    gangs: list[int] = []
    for start in gang_starts(cluster, size):
        if not gangs or start >= gangs[-1] + size:
            gangs.append(start)
    return gangs


class _Projection:
    """What each GPU will hold, and when it will be free, if nobody ever waits for the nodes of an earlier level."""

    def __init__(self, models: tuple[Model, ...], cluster: Cluster) -> None:
        self.free: Floats = np.zeros(cluster.gpus)
        self._label = np.full(cluster.gpus, NONE, np.int64)
        self._label_gang = np.full(cluster.gpus, NONE, np.int64)
        self._models, self._cluster = models, cluster
        self._memory = np.array([model.memory_gb for model in models])

    def add(self, group: Group, target: float) -> Iterator[Block]:
        """Spread a group over gangs up to a target time, later where it must be, and yield its blocks."""
        size = self._models[group.model].gpus_required
        tiles = np.array(disjoint_gangs(self._cluster, size), np.int64)
        gpus = tiles[:, None] + np.arange(size)
        cost = self._cost(group.model, gpus)
        begin = self.free[gpus].max(axis=1) + cost
        target = max(target, water_level(begin, group.seconds))
        held = (self._label[gpus] == group.model).all(axis=1) & (self._label_gang[gpus] == tiles[:, None]).all(axis=1)
        for tile, seconds in _shares(group.seconds, np.lexsort((tiles, begin, ~held)), begin, cost, target):
            self.free[gpus[tile]] = begin[tile] + seconds
            self._label[gpus[tile]] = group.model
            self._label_gang[gpus[tile]] = tiles[tile]
            yield Block(group.level, group.model, int(tiles[tile]), seconds)

    def _cost(self, model: int, gpus: Longs) -> Floats:
        """Return the seconds of loading a model onto each gang of `gpus`, shape (gangs, size)."""
        this, cluster = self._models[model], self._cluster
        label = self._label[gpus]
        switch = (self._memory[label] + this.memory_gb) / cluster.pcie_bandwidth + cluster.switch_overhead
        load = load_seconds(this.memory_gb, this.load_time_seconds, cluster)
        same = (label == model) & (self._label_gang[gpus] == gpus[:, :1])
        cost: Floats = np.where(same, 0.0, np.where(label == NONE, load, switch)).max(axis=1)
        return cost


def _shares(amount: float, order: Longs, begin: Floats, cost: Floats, target: float) -> list[tuple[int, float]]:
    """Return which gangs, of those in order of preference, work how many of `amount` seconds.

    They are filled up to the target one after another, but none is loaded for less work than its loading takes unless
    it is the only one. If they do not suffice because of that, they all work longer.
    """
    chosen: list[int] = []
    left = amount
    for gang in order.tolist():
        room = target - begin[gang]
        if not chosen or (left > cost[gang] and room > cost[gang]):
            chosen.append(gang)
            left -= max(room, 0.0)
    room = max(target, water_level(begin[chosen], amount)) - begin[chosen]
    filled = np.minimum(np.cumsum(np.maximum(room, 0.0)), amount)
    shares = zip(chosen, np.diff(filled, prepend=0.0).tolist(), strict=True)
    return [(gang, seconds) for gang, seconds in shares if seconds > 0 or len(chosen) == 1]


class Plan(NamedTuple):
    """Blocks in the order in which they were planned, and how far they have got.

    A block is open until its seconds are used up or no node of its group is left to start; the last open block of a
    group takes all that are left. A block's turn has come when it is the first open one of all its GPUs.
    """

    template_level: Any  # (templates)
    template_group: Any  # (templates) NONE where no request has the node
    model: Any  # (blocks)
    gang: Any  # (blocks) first GPU
    group: Any  # (blocks)
    left: Any  # (blocks) seconds of work yet to start
    open: Any  # (blocks) 1, or 0 when it is done
    group_first: Any  # (groups + 1) the group's first block
    group_open: Any  # (groups) open blocks
    group_nodes: Any  # (groups) nodes yet to start
    queue: Any  # blocks of each GPU in their order
    queue_at: Any  # (GPUs) position in `queue` of the GPU's first open block
    queue_end: Any  # (GPUs) where the GPU's slice of `queue` ends
    turn: Any  # (models x words) gangs whose block's turn has come, by the block's model and first GPU


def new_plan(workload: Workload, cluster: Cluster) -> Plan:
    """Return the plan for a workload; every model that is used must fit the cluster."""
    planned = list(plan_blocks(workload, cluster))
    blocks = [block for _, parts in planned for block in parts]
    sizes = [workload.models[block.model].gpus_required for block in blocks]
    per_group = np.array([len(parts) for _, parts in planned], np.int64)
    group_of = {(group.level, group.model): i for i, (group, _) in enumerate(planned)}
    places = zip(workload.template_level.tolist(), workload.template_model.tolist(), strict=True)
    half_a_node = np.repeat([group.seconds / group.nodes / 2 for group, _ in planned], per_group)
    held = sorted((gpu, b) for b, block in enumerate(blocks) for gpu in range(block.gang, block.gang + sizes[b]))
    ends = np.searchsorted([gpu for gpu, _ in held], np.arange(cluster.gpus), "right")
    words = -(-cluster.gpus // WORD)
    plan = Plan(
        workload.template_level.astype(np.int64),
        np.array([group_of.get(place, NONE) for place in places], np.int64),
        np.array([block.model for block in blocks], np.int64),
        np.array([block.gang for block in blocks], np.int64),
        np.repeat(np.arange(len(planned)), per_group),
        # Nodes are not cut: a block is done when what is left is less than half of one.
        np.array([block.seconds for block in blocks]) - half_a_node,
        np.ones(len(blocks), np.int64),
        np.append(0, np.cumsum(per_group)),
        per_group.copy(),
        np.array([group.nodes for group, _ in planned], np.int64),
        np.array([block for _, block in held], np.int64),
        np.append(0, ends[:-1]),
        ends,
        np.zeros(len(workload.models) * words, np.int64),
    )
    for block, size in enumerate(sizes):
        _give_turn(plan, block, size, words)
    return plan


@kernel
def _give_turn(plan: Plan, block: int, size: int, words: int) -> None:
    """Note that a block's turn has come, if it has."""
    gang = plan.gang[block]
    for gpu in range(gang, gang + size):
        at = plan.queue_at[gpu]
        if at == plan.queue_end[gpu] or plan.queue[at] != block:
            return
    plan.turn[plan.model[block] * words + gang // WORD] |= 1 << (gang % WORD)


@kernel
def count_start(core: Core, plan: Plan, block: int) -> None:
    """Note that a block is about to start the next node of its model."""
    group = plan.group[block]
    plan.group_nodes[group] -= 1
    plan.left[block] -= core.estimate[head_node(core, plan.model[block])]
    if plan.group_nodes[group] == 0:
        for other in range(plan.group_first[group], plan.group_first[group + 1]):
            if plan.open[other] == 1:
                _close(core, plan, other)
    elif plan.left[block] <= 0 and plan.group_open[group] > 1:
        _close(core, plan, block)


@kernel
def _close(core: Core, plan: Plan, block: int) -> None:
    """Close a block; the next blocks of its GPUs may have their turn."""
    model = plan.model[block]
    gang = plan.gang[block]
    words = core.gpus.count[WORDS]
    size = core.models.gpus[model]
    plan.open[block] = 0
    plan.group_open[plan.group[block]] -= 1
    plan.turn[model * words + gang // WORD] &= ~(1 << (gang % WORD))
    for gpu in range(gang, gang + size):
        while plan.queue_at[gpu] < plan.queue_end[gpu] and plan.open[plan.queue[plan.queue_at[gpu]]] == 0:
            plan.queue_at[gpu] += 1
    for gpu in range(gang, gang + size):
        if plan.queue_at[gpu] < plan.queue_end[gpu]:
            following = plan.queue[plan.queue_at[gpu]]
            _give_turn(plan, following, core.models.gpus[plan.model[following]], words)


@kernel
def planned_gang(core: Core, plan: Plan, model: int, warm: bool) -> int:
    """Return the first GPU of the lowest idle gang whose block may start the next node of a model, or NONE.

    Where `warm`, only gangs count that hold the model.
    """
    group = plan.template_group[core.graph.template[head_node(core, model)]]
    size = core.models.gpus[model]
    words = core.gpus.count[WORDS]
    for w in range(words):
        mask = plan.turn[model * words + w] & (core.gpus.warm[model * words + w] if warm else core.gpus.idle[w])
        while mask != 0:
            gang = w * WORD + lowest_bit(mask)
            if plan.group[plan.queue[plan.queue_at[gang]]] == group and all_idle(core.gpus, gang, size):
                return gang
            mask &= mask - 1
    return NONE


@kernel
def level_order(core: Core, plan: Plan, node: int) -> float:
    """Order nodes by their level and, within a level, by their position in the workload."""
    return float(plan.template_level[core.graph.template[node]] * len(core.pending) + node)
