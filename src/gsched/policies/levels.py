"""A plan made ahead, which `offline` and `hybrid` share: nodes by dependency level, then by model, as blocks on gangs.

All nodes of one dependency level and one model form a group. Levels are planned in turn; within a level the model of
the last group goes on if it can, then the group with the most GPU-seconds is next. A group is cut into blocks, each a
number of nodes on a gang, such that the GPUs' projected ends stay balanced, on gangs that hold the model where there
are any. Nodes of a group are interchangeable, so a block says how many, not which.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gsched.cluster import Cluster
from gsched.core import head_node
from gsched.jit import kernel, lowest_bit
from gsched.residency import all_idle
from gsched.state import NONE, WORD, WORDS, Core, gang_starts, load_seconds
from gsched.workload import Floats, Longs, Model, Workload


class Block(NamedTuple):
    """So many nodes of one level and model, one after another on one gang."""

    level: int
    model: int
    gang: int
    nodes: int


class Group(NamedTuple):
    """All nodes of one level and model."""

    level: int
    model: int
    nodes: int
    seconds: float  # that they execute, together


def plan_blocks(workload: Workload, cluster: Cluster) -> Iterator[Block]:
    """Yield the blocks in the order of the plan; every model that is used must fit the cluster."""
    gpus = [model.gpus_required for model in workload.models]
    projection = _Projection(workload.models, cluster)
    last = NONE
    for groups in _groups_by_level(workload):
        while groups:
            load = sum(group.seconds * gpus[group.model] for group in groups)
            group = max(groups, key=lambda g: (g.model == last, g.seconds * gpus[g.model], -g.model))
            groups.remove(group)
            last = group.model
            yield from projection.add(group, water_level(projection.free, load))


def _groups_by_level(workload: Workload) -> Iterator[list[Group]]:
    models = len(workload.models)
    key = (workload.template_level.astype(np.int64) * models + workload.template_model)[workload.template]
    counts, seconds = np.bincount(key), np.bincount(key, workload.duration)
    for level in range(-(-len(counts) // models)):
        keys = range(level * models, min((level + 1) * models, len(counts)))
        yield [Group(level, k - level * models, int(counts[k]), float(seconds[k])) for k in keys if counts[k]]


def water_level(begins: Floats, amount: float) -> float:
    """Return when all end together if they share `amount` seconds of work, and none begins before its time."""
    ordered = np.sort(begins)
    levels = (np.cumsum(ordered) + amount) / np.arange(1, len(ordered) + 1)
    # With the i earliest, the level must reach the i-th and not the next.
    return float(levels[np.flatnonzero(levels >= ordered)[-1]]) if amount > 0 else float(ordered[0])


class _Projection:
    """What each GPU will hold, and when it will be free, if the blocks so far take as long as their groups' means."""

    def __init__(self, models: tuple[Model, ...], cluster: Cluster) -> None:
        self.free: Floats = np.zeros(cluster.gpus)
        self._label = np.full(cluster.gpus, NONE, np.int64)
        self._label_gang = np.full(cluster.gpus, NONE, np.int64)
        self._models, self._cluster = models, cluster
        self._memory = np.array([model.memory_gb for model in models])
        self._tiles: dict[int, Longs] = {}

    def add(self, group: Group, target: float) -> Iterator[Block]:
        """Spread a group over gangs up to a target time, later where it must be, and yield its blocks."""
        tiles = self._tiles_of(self._models[group.model].gpus_required)
        gpus = tiles[:, None] + np.arange(self._models[group.model].gpus_required)
        cost = self._cost(group.model, gpus)
        begin = self.free[gpus].max(axis=1) + cost
        target = max(target, water_level(begin, group.seconds))
        held = (self._label[gpus] == group.model).all(axis=1) & (self._label_gang[gpus] == tiles[:, None]).all(axis=1)
        chosen, seconds = _shares(group.seconds, np.lexsort((tiles, begin, ~held)), begin, cost, target)
        counts = _whole(seconds, group.nodes)
        for tile, count in zip(chosen, counts, strict=True):
            if count:
                self.free[gpus[tile]] = begin[tile] + count * (group.seconds / group.nodes)
                self._label[gpus[tile]] = group.model
                self._label_gang[gpus[tile]] = tiles[tile]
                yield Block(group.level, group.model, int(tiles[tile]), count)

    def _tiles_of(self, size: int) -> Longs:
        """Return first GPUs of disjoint gangs, as many as fit; always the same, so that they are found loaded again."""
        if size not in self._tiles:
            tiles: list[int] = []
            for start in gang_starts(self._cluster, size):
                if not tiles or start >= tiles[-1] + size:
                    tiles.append(start)
            self._tiles[size] = np.array(tiles, np.int64)
        return self._tiles[size]

    def _cost(self, model: int, gpus: Longs) -> Floats:
        """Return the seconds of loading a model onto each gang of `gpus`, shape (gangs, size)."""
        this, cluster = self._models[model], self._cluster
        label = self._label[gpus]
        switch = (self._memory[label] + this.memory_gb) / cluster.pcie_bandwidth + cluster.switch_overhead
        load = load_seconds(this.memory_gb, this.load_time_seconds, cluster)
        same = (label == model) & (self._label_gang[gpus] == gpus[:, :1])
        cost: Floats = np.where(same, 0.0, np.where(label == NONE, load, switch)).max(axis=1)
        return cost


def _shares(amount: float, order: Longs, begin: Floats, cost: Floats, target: float) -> tuple[list[int], list[float]]:
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
    return chosen, np.diff(filled, prepend=0.0).tolist()


def _whole(seconds: list[float], count: int) -> list[int]:
    """Return `count` nodes shared in proportion to `seconds`."""
    ends = np.cumsum(seconds)
    if ends[-1] == 0:
        return [count] + [0] * (len(seconds) - 1)
    ends = np.rint(ends / ends[-1] * count).astype(np.int64)
    counts: list[int] = np.diff(ends, prepend=0).tolist()
    return counts


class Plan(NamedTuple):
    """Blocks in the order in which they were planned, and how far they have got.

    Those of one group stand together. A block's turn has come when no earlier block of any of its GPUs has nodes left.
    """

    template_level: Any  # (templates)
    level: Any  # (blocks)
    model: Any  # (blocks)
    gang: Any  # (blocks) first GPU
    left: Any  # (blocks) nodes yet to start
    group_first: Any  # (blocks) first block of the block's group
    group_end: Any  # (blocks) first block of the next group
    queue: Any  # blocks of each GPU in their order
    queue_at: Any  # (GPUs) position in `queue` of the GPU's first block with nodes left
    queue_end: Any  # (GPUs) where the GPU's slice of `queue` ends
    turn: Any  # (models x words) gangs whose block's turn has come, by the block's model and first GPU


def new_plan(workload: Workload, cluster: Cluster) -> Plan:
    """Return the plan for a workload; every model that is used must fit the cluster."""
    blocks = list(plan_blocks(workload, cluster))
    columns = np.array(blocks, np.int64).reshape(-1, len(Block._fields)).T
    level, model, gang, count = (np.ascontiguousarray(column) for column in columns)
    size = np.array([m.gpus_required for m in workload.models], np.int64)[model]
    group = np.cumsum((np.diff(level, prepend=-1) != 0) | (np.diff(model, prepend=-1) != 0))
    held = sorted((gpu, b) for b, block in enumerate(blocks) for gpu in range(block.gang, block.gang + int(size[b])))
    ends = np.searchsorted([gpu for gpu, _ in held], np.arange(cluster.gpus), "right")
    plan = Plan(
        workload.template_level.astype(np.int64),
        level,
        model,
        gang,
        count,
        np.searchsorted(group, group, "left"),
        np.searchsorted(group, group, "right"),
        np.array([block for _, block in held], np.int64),
        np.append(0, ends[:-1]),
        ends,
        np.zeros(len(workload.models) * -(-cluster.gpus // WORD), np.int64),
    )
    words = len(plan.turn) // len(workload.models)
    for block in range(len(blocks)):
        give_turn(plan, block, int(size[block]), words)
    return plan


@kernel
def give_turn(plan: Plan, block: int, size: int, words: int) -> None:
    """Note that a block's turn has come, if it has."""
    gang = plan.gang[block]
    for gpu in range(gang, gang + size):
        at = plan.queue_at[gpu]
        if at == plan.queue_end[gpu] or plan.queue[at] != block:
            return
    plan.turn[plan.model[block] * words + gang // WORD] |= 1 << (gang % WORD)


@kernel
def count_start(core: Core, plan: Plan, block: int) -> None:
    """Count a node of a block as started; if it was the last, the next blocks of its GPUs have their turn."""
    plan.left[block] -= 1
    if plan.left[block] > 0:
        return
    model = plan.model[block]
    gang = plan.gang[block]
    words = core.gpus.count[WORDS]
    size = core.models.gpus[model]
    plan.turn[model * words + gang // WORD] &= ~(1 << (gang % WORD))
    for gpu in range(gang, gang + size):
        while plan.queue_at[gpu] < plan.queue_end[gpu] and plan.left[plan.queue[plan.queue_at[gpu]]] == 0:
            plan.queue_at[gpu] += 1
    for gpu in range(gang, gang + size):
        if plan.queue_at[gpu] < plan.queue_end[gpu]:
            following = plan.queue[plan.queue_at[gpu]]
            give_turn(plan, following, core.models.gpus[plan.model[following]], words)


@kernel
def planned_gang(core: Core, plan: Plan, model: int) -> int:
    """Return the first GPU of the lowest idle gang whose block may start the next node of a model, or NONE."""
    level = plan.template_level[core.graph.template[head_node(core, model)]]
    size = core.models.gpus[model]
    words = core.gpus.count[WORDS]
    for w in range(words):
        mask = plan.turn[model * words + w] & core.gpus.idle[w]
        while mask != 0:
            gang = w * WORD + lowest_bit(mask)
            if plan.level[plan.queue[plan.queue_at[gang]]] == level and all_idle(core.gpus, gang, size):
                return gang
            mask &= mask - 1
    return NONE


@kernel
def level_order(core: Core, plan: Plan, node: int) -> float:
    """Order nodes by their level and, within a level, by their position in the workload."""
    return float(plan.template_level[core.graph.template[node]] * len(core.pending) + node)
