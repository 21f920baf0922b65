"""What lower bounds may assume of a cluster: how many gangs fit at once, and which loads nobody can avoid."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gsched.cluster import Cluster
from gsched.workload import Floats, Model


def gangs_at_once(cluster: Cluster, size: int) -> int:
    """Return how many disjoint gangs of `size` GPUs or more can be in use at once.

    A larger gang can be cut down to its first `size` GPUs and is still allowed, so it is enough to count gangs of
    exactly `size`, packed from GPU 0 on.
    """
    server = cluster.server_size
    if size <= server:
        full, rest = divmod(cluster.gpus, server)
        return full * (server // size) + rest // size
    stride = -(-size // server) * server
    return 0 if size > cluster.gpus else (cluster.gpus - size) // stride + 1


def usable_gpus(cluster: Cluster, sizes: Iterable[int]) -> int:
    """Return the most GPUs that gangs of the given sizes can occupy at once.

    With gangs of 3 in servers of 4, for example, a quarter of the GPUs never works.
    """
    server, sizes = cluster.server_size, set(sizes)
    if 1 in sizes:
        return cluster.gpus
    sums = _sums([size for size in sizes if size <= server], server)
    wide = [size for size in sizes if size > server]
    servers = -(-cluster.gpus // server)
    best = [0] * (servers + 1)  # best[i]: the most GPUs in use in the servers from i on
    for i in reversed(range(servers)):
        left = cluster.gpus - i * server
        best[i] = _filled(sums, min(server, left)) + best[i + 1]
        for size in wide:
            if size <= left:
                after = -(-size // server)
                beside = _filled(sums, min(after * server, left) - size)
                best[i] = max(best[i], size + beside + best[i + after])
    return best[0]


def _sums(sizes: Sequence[int], limit: int) -> int:
    """Return a bit set of the sums up to `limit` that any number of parts of the given sizes can have."""
    reachable = 1
    for size in sizes:
        step = size
        while step <= limit:  # doubling: after each step, twice as many parts of this size are allowed for
            reachable |= reachable << step
            step *= 2
    return reachable & ((1 << (limit + 1)) - 1)


def _filled(sums: int, gpus: int) -> int:
    """Return the largest sum that is at most `gpus`."""
    return (sums & ((1 << (gpus + 1)) - 1)).bit_length() - 1


class LoadCosts(NamedTuple):
    """Seconds that starting each of M models on a gang takes, whether GPUs are shared or not.

    Args:
        empty: on GPUs on which nothing makes room, as on those that never held anything, shape (M,).
        switch: `switch[x, m]`: on GPUs of which one has to give up model x, at least, shape (M, M).
        first: a lower bound for the first start of the model, shape (M,).
        again: a lower bound for its first start on any further gang, shape (M,).
    """

    empty: Floats
    switch: Floats
    first: Floats
    again: Floats

    @classmethod
    def of(cls, models: Sequence[Model], cluster: Cluster, preloaded: bool) -> "LoadCosts":
        """Return the costs of the given models, all of which are used; none where they are `preloaded`."""
        if preloaded:
            none = np.zeros(len(models))
            return cls(none, np.zeros((len(models), len(models))), none, none)
        memory = np.array([model.memory_gb for model in models])
        switch = (memory[:, None] + memory) / cluster.pcie_bandwidth + cluster.switch_overhead
        default = memory / cluster.pcie_bandwidth + cluster.switch_overhead
        given = np.array([np.nan if m.load_time_seconds is None else m.load_time_seconds for m in models])
        empty = np.where(np.isnan(given), default, given)
        others = switch + np.diag(np.full(len(models), np.inf))
        first = np.minimum(empty, others.min(axis=0))
        # Gangs of one GPU or of a whole server never overlap another gang of their model, so none makes room for it.
        fixed = np.array([model.gpus_required in (1, cluster.server_size) for model in models])
        again = np.where(fixed, first, np.minimum(first, switch.diagonal()))
        return cls(empty, switch, first, again)

    def first_start(self, ready: Floats, shortest: Floats) -> Floats:
        """Return a lower bound for the time at which each model first executes, shape (M,).

        Args:
            ready: earliest time at which a node of the model is ready.
            shortest: shortest duration of a node of the model.
        """
        start = np.zeros(len(ready))
        others = self.switch + np.diag(np.full(len(ready), np.inf))
        for _ in ready:  # each round keeps the values valid; more than M rounds hardly raise them
            replaced = np.maximum(ready, (start + shortest)[:, None]) + others
            start = np.minimum(ready + self.empty, replaced.min(axis=0))
        return start
