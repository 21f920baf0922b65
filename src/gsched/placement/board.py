"""The GPUs as a board on which models are put: what memory is left, and how the work is spread."""

from collections.abc import Iterable

import numpy as np

from gsched.cluster import Cluster
from gsched.state import gang_starts, memory_limit
from gsched.workload import Floats, Longs, Model


class Board:
    """Instances of models on gangs of GPUs, never more than memory holds, and the split of each model's work.

    The load of a GPU is the seconds that its instances are to execute. A model's work is split so that its instances
    end as evenly as can be, given what the other models do.

    Args:
        models: M models.
        cluster: the GPUs.
        work: seconds that gangs of each model are to execute, shape (M,).
    """

    def __init__(self, models: tuple[Model, ...], cluster: Cluster, work: Floats) -> None:
        self.models, self.cluster, self.work = models, cluster, work
        self.size = [model.gpus_required for model in models]
        self.share = [model.memory_gb / model.gpus_required for model in models]
        self.gangs: list[list[int]] = [[] for _ in models]
        self.seconds: list[Floats] = [np.zeros(0) for _ in models]
        self.taken = np.zeros(cluster.gpus)
        self.load = np.zeros(cluster.gpus)
        self._starts = {size: np.array(gang_starts(cluster, size), np.int64) for size in set(self.size)}

    def copy(self) -> "Board":
        """Return a board that can be changed without changing this one."""
        board = Board.__new__(Board)
        vars(board).update(vars(self))
        board.gangs = [list(gangs) for gangs in self.gangs]
        board.seconds = list(self.seconds)
        board.taken, board.load = self.taken.copy(), self.load.copy()
        return board

    @property
    def servers(self) -> int:
        """The number of servers."""
        return -(-self.cluster.gpus // self.cluster.server_size)

    def server(self, gpu: int) -> int:
        """Return the server of a GPU."""
        return gpu // self.cluster.server_size

    def hosts(self, model: int) -> set[int]:
        """Return the servers in which a model stands."""
        return {self.server(gpu) for gang in self.gangs[model] for gpu in range(gang, gang + self.size[model])}

    def starts(self, model: int, servers: Iterable[int] | None = None) -> Longs:
        """Return where one more instance could begin: memory suffices, and it overlaps no other of the model."""
        starts, size = self._starts[self.size[model]], self.size[model]
        if servers is not None:
            starts = starts[np.isin(starts // self.cluster.server_size, list(servers))]
        blocked = self.taken + self.share[model] > memory_limit(self.cluster)
        for gang in self.gangs[model]:
            blocked[gang : gang + size] = True
        before = np.concatenate([[0], np.cumsum(blocked)])
        found: Longs = starts[before[starts + size] == before[starts]]
        return found

    def height(self, model: int, starts: Longs) -> Floats:
        """Return the largest load among the GPUs of each gang of a model that begins at `starts`."""
        return window_max(self.load, self.size[model])[starts]

    def put(self, model: int, gang: int) -> None:
        """Put an instance onto a gang; it does nothing yet."""
        self.gangs[model].append(gang)
        self.seconds[model] = np.append(self.seconds[model], 0.0)
        self.taken[gang : gang + self.size[model]] += self.share[model]

    def lift(self, model: int) -> None:
        """Take the instance that was put last off its gang, with its work."""
        gang, seconds = self.gangs[model].pop(), self.seconds[model][-1]
        self.seconds[model] = self.seconds[model][:-1]
        self.taken[gang : gang + self.size[model]] -= self.share[model]
        self.load[gang : gang + self.size[model]] -= seconds

    def spread(self, model: int) -> None:
        """Split the work of a model over its instances, given the load of the others."""
        gangs, size = np.array(self.gangs[model], np.int64), self.size[model]
        gpus = (gangs[:, None] + np.arange(size)).ravel()  # each but once: instances of a model never overlap
        self.load[gpus] -= np.repeat(self.seconds[model], size)
        base = self.height(model, gangs)
        self.seconds[model] = np.maximum(water_level(base, float(self.work[model])) - base, 0.0)
        self.load[gpus] += np.repeat(self.seconds[model], size)

    def settle(self, rounds: int = 4) -> None:
        """Split the work of all models, each given the others, a few times over."""
        placed = [model for model, gangs in enumerate(self.gangs) if gangs]
        for _ in range(rounds):
            for model in placed:
                self.spread(model)


def window_max(values: Floats, size: int) -> Floats:
    """Return the maximum of each `size` values in a row."""
    highest: Floats = values
    width = 1
    while width < size:
        step = min(width, size - width)
        highest = np.maximum(highest[:-step], highest[step:])
        width += step
    return highest


def water_level(bottoms: Floats, amount: float) -> float:
    """Return the level to which an amount fills vessels of width 1 with the given bottoms."""
    # Spreading it over more of them, the lowest first, lowers the level until the next bottom is above it.
    return float(((np.cumsum(np.sort(bottoms)) + amount) / np.arange(1, len(bottoms) + 1)).min())
