"""What GPUs hold from start to start, where several models may stay on one.

An instance is a model on a gang. It takes an equal share of the model's memory on each GPU of the gang, and it stays
there until it has to make room.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gsched.checker.columns import RELATIVE, Bools, blocks, key_of, model_of
from gsched.checker.interruptions import Event
from gsched.cluster import Cluster
from gsched.log import Gangs
from gsched.workload import Floats, Longs, Model


class Replay(NamedTuple):
    """What following the GPUs says of each row: shape (n,)."""

    replaces: Bools  # something that a GPU of the gang held had to leave
    fills: Bools  # at least one GPU of the gang was loaded without anything leaving it


class Sizes(NamedTuple):
    """Of each model, and of an unknown one at the end: shape (M + 1,)."""

    memory: Floats  # GB
    share: Floats  # GB on each GPU of a gang
    load: Floats  # seconds onto a GPU on which nothing makes room


def sizes_of(models: tuple[Model, ...], cluster: Cluster) -> Sizes:
    """Return what moving models takes on a cluster."""
    memory = np.array([*(model.memory_gb for model in models), np.nan])
    share = memory / [*(model.gpus_required for model in models), 1]
    fresh = memory / cluster.pcie_bandwidth + cluster.switch_overhead
    given = np.array([*(m.load_time_seconds if m.load_time_seconds is not None else np.nan for m in models), np.nan])
    return Sizes(memory, share, np.where(np.isnan(given), fresh, given))


def follow_instances(
    held: "Held", order: Longs | None, instance: Longs, gangs: Gangs, events: Sequence[Event]
) -> tuple[Replay, Floats]:
    """Follow the instances of a log of n rows; return what they say, and the seconds of loading.

    Args:
        held: what GPUs hold before the first row.
        order: the rows in the order of the decisions, shape (n,); None where that is theirs.
        instance: that each row runs on, by `keys_of` model (-1 if unknown) and first GPU, shape (n,).
        gangs: of each row.
        events: what happens between rows, in order.
    """
    rows, upcoming = len(instance), deque(events)
    replay, cost = Replay(np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)), np.zeros(rows)
    for part in blocks(rows):
        row = np.arange(part.start, min(part.stop, rows)) if order is None else order[part]
        for turn, (i, key) in enumerate(zip(row.tolist(), instance[row].tolist(), strict=True), part.start):
            while upcoming and upcoming[0].at < turn:
                held.meet(upcoming.popleft())
            if key not in held.used:
                gang = gangs.gpus[gangs.first[i] : gangs.first[i + 1]].tolist()
                cost[i], replay.replaces[i] = held.load(key, gang)
                replay.fills[i] = not replay.replaces[i]
            held.used[key] = turn
    return replay, cost


class Held:
    """What the GPUs hold; `used` says for each instance when it was last used."""

    def __init__(self, sizes: Sizes, cluster: Cluster) -> None:
        self.used: dict[int, float] = {}
        self._gang: dict[int, Sequence[int]] = {}  # of each instance
        self._on: dict[int, dict[int, float]] = defaultdict(dict)  # instances on each GPU, and the GB they take there
        self._memory, self._load = sizes.memory.tolist(), sizes.load.tolist()
        self._share = np.nan_to_num(sizes.share).tolist()  # an unknown model takes no room
        self._bandwidth, self._overhead = cluster.pcie_bandwidth, cluster.switch_overhead
        self._room = cluster.gpu_memory_gb * (1 + RELATIVE)

    def place(self, instances: Iterable[tuple[int, Sequence[int]]]) -> None:
        """Let GPUs hold models on gangs before the first row, the least recently used first."""
        placed = {key_of(model, gang[0]): gang for model, gang in instances}
        for position, (instance, gang) in enumerate(placed.items()):
            self._settle(instance, gang)
            self.used[instance] = position - len(placed)

    def meet(self, event: Event) -> None:
        """Let happen what an interruption does."""
        if event.instance is None:
            for instance in {instance: None for gpu in event.gpus for instance in self._on[gpu]}:
                self._evict(instance, {})
            return
        if event.instance not in self.used:
            self.load(event.instance, event.gpus)
        self.used[event.instance] = event.at

    def load(self, instance: int, gang: Sequence[int]) -> tuple[float, bool]:
        """Load an instance; return the seconds that its slowest GPU takes, and whether anything made room."""
        model = model_of(instance)
        share, moved = self._share[model], {gpu: [self._memory[model]] for gpu in gang}
        for gpu in gang:
            here = self._on[gpu]
            while here and sum(here.values()) + share > self._room:
                self._evict(min(here, key=self.used.__getitem__), moved)
        self._settle(instance, gang)
        seconds = (self._load[model] if len(gb) == 1 else self._swap(gb) for gb in moved.values())
        return max(seconds, default=0.0), any(len(gb) > 1 for gb in moved.values())

    def _settle(self, instance: int, gang: Sequence[int]) -> None:
        self._gang[instance] = gang
        for gpu in gang:
            self._on[gpu][instance] = self._share[model_of(instance)]

    def _evict(self, instance: int, moved: dict[int, list[float]]) -> None:
        """Take an instance off all of its GPUs, and note its memory where that counts."""
        del self.used[instance]
        for gpu in self._gang.pop(instance):
            self._on[gpu].pop(instance, None)
            if gpu in moved:
                moved[gpu].append(self._memory[model_of(instance)])

    def _swap(self, gb: list[float]) -> float:
        return sum(gb) / self._bandwidth + self._overhead
