"""The state of a run: ready queues, progress through the DAGs, what each GPU holds; columns only, no behaviour.

The same columns are lists for interpreted code and arrays for compiled code (see `gsched.jit`).

Sets of GPUs are bitmasks in words of `WORD` bits, so that the highest bit of a signed 64-bit integer stays unused and
both ways of running agree. A gang is known by its first GPU; a model's gangs all have one size. Models of equal size
share a `shape`: a row of `allowed`, the set of GPUs at which a gang of that size may begin.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from gsched.cluster import Cluster
from gsched.heap import Heap
from gsched.workload import Mode, Workload

WORD = 63
NONE = -1

# Kinds of a start: all GPUs held the model; it only filled free ones; something made room for it
WARM, LOAD, SWITCH = 0, 1, 2

# Positions in Core.count
READY, STARTED, FINISHED, FRESH = 0, 1, 2, 3
# Positions in Gpus.count
IDLE, VERSION, WORDS, SHARED, PLACED = 0, 1, 2, 3, 4

# Shares of memory fit a GPU up to this share of its memory more: sums are rounded
MEMORY_TOLERANCE = 1e-9


class Graph(NamedTuple):
    """The DAGs. Nodes of a workflow are templates; a request's nodes are consecutive, in the order of its templates."""

    template: Any  # (nodes) template of each node
    first_node: Any  # (requests + 1)
    model: Any  # (templates) model of each template
    local: Any  # (templates) position within its workflow
    first_child: Any  # (templates + 1) slice of `child`
    child: Any  # local positions


class Requests(NamedTuple):
    """What policies may know of the requests that have arrived; columns that nobody set are empty."""

    of: Any  # (nodes) request of each node
    arrival: Any  # (requests) seconds
    due: Any  # (requests) when it should be done, in seconds; empty where no request has a deadline
    tier: Any  # (requests) 1 is the most important; empty where all are of tier 1
    note: Any  # (requests) a whole number that a policy noted of each, NONE before; no table knows how many will come


class Models(NamedTuple):
    """What the costs and the placement of a model depend on; one value per model."""

    gpus: Any
    shape: Any
    memory: Any  # GB
    load_time: Any  # seconds, onto GPUs that never held anything


class Gpus(NamedTuple):
    """Who is idle and who holds what.

    Where models share GPUs, a GPU may hold several: its label is the one used last on it, unless evicted since,
    and so is the holder of a gang; `warm` and `held` count all of them.
    """

    idle: Any  # (words)
    warm: Any  # (models x words) idle gangs that hold the model, by first GPU
    allowed: Any  # (shapes x words)
    label_model: Any  # (GPUs) model of the label, NONE if there is none
    label_gang: Any  # (GPUs) first GPU of the label's gang
    free_at: Any  # (GPUs) when it is expected to become idle, or became so
    holder: Any  # (GPUs) model held by the whole gang that begins here, NONE if there is none
    held: Any  # (models) gangs that hold the model, idle or busy
    run_start: Any  # (shapes) answer of `idle_gang` at `run_version`
    run_version: Any  # (shapes)
    scratch: Any  # (words)
    count: Any  # IDLE GPUs, VERSION of `idle`, WORDS in a mask, 1 where models are SHARED, 1 where they were PLACED
    cost: Any  # PCIe bandwidth in GB/s, overhead of a switch in seconds


class Shared(NamedTuple):
    """What GPUs hold where models share them; all columns are empty where they do not.

    A gang holds a model whole or not at all. Each GPU lists what it holds in slots of its own, in the order in which it
    came.
    """

    share: Any  # (models) GB on each GPU of a gang
    limit: Any  # (1) GB that fit a GPU, tolerance included
    resident: Any  # (models x words) gangs that hold the model, by first GPU
    used: Any  # (models x GPUs) row in which the model last started on the gang
    first: Any  # (GPUs) first slot
    count: Any  # (GPUs) slots in use
    model: Any  # (slots)
    gang: Any  # (slots)
    freed: Any  # (GPUs) GB that the present start has evicted


class Queues(NamedTuple):
    """The ready nodes of each model, in two lanes that together come out by (key, sequence).

    Keys that arrive in order, as they always do first-in first-out, are appended to the model's slice of the lane and
    read from its head: sequential memory, constant time. Keys out of order go to a heap in the late lane.
    """

    lane: Heap  # (nodes)
    head: Any  # (models) next slot to read
    tail: Any  # (models) next slot to fill
    late: Heap  # (nodes), or empty where all keys come in order
    late_base: Any  # (models)
    late_size: Any  # (models)
    work: Any  # (models) seconds that the ready nodes are expected to execute


class Rows(NamedTuple):
    """What happened, one entry per started node in the order of the decisions."""

    node: Any
    gang: Any
    ready: Any  # when the node became ready
    time: Any  # of the decision: loading starts here
    switch: Any  # seconds of loading
    kind: Any  # WARM, LOAD or SWITCH


class Core(NamedTuple):
    """The whole state."""

    graph: Graph
    requests: Requests
    models: Models
    gpus: Gpus
    shared: Shared
    queues: Queues
    rows: Rows
    estimate: Any  # (nodes) seconds that the node is expected to execute
    pending: Any  # (nodes) parents yet to finish
    ready_time: Any  # (nodes) NaN before
    running: Any  # (GPUs) node that runs on the gang that begins here
    fresh: Any  # (nodes of the largest workflow) nodes that the last event made ready
    count: Any  # nodes made READY, STARTED, FINISHED; FRESH nodes of the last event
    now: Any  # (1) current time in seconds
    alarm: Any  # (1) when the policy wants to be asked again though nothing happened, or infinity


def new_core(workload: Workload, cluster: Cluster, mode: Mode, *, in_order: bool, shared: bool) -> Core:
    """Return the state before anything has arrived.

    Args:
        workload: what will be executed; every model must fit the cluster.
        cluster: where.
        mode: when requests arrive.
        in_order: whether nodes of a model become ready in the order of their keys, so that no late lane is needed.
        shared: whether models share GPUs.
    """
    nodes, gpus = workload.node_count, cluster.gpus
    per_model = np.bincount(workload.model, minlength=len(workload.models)).astype(np.int64)
    graph = _new_graph(workload)
    parents = np.array([len(up) for flow in workload.workflows for up in flow.parents], np.int32)
    return Core(
        graph,
        _new_requests(workload, mode),
        *_new_resources(workload, cluster, shared),
        _new_queues(per_model, nodes, in_order),
        Rows(
            np.zeros(nodes, np.int32),
            np.zeros(nodes, np.int32),
            np.zeros(nodes),
            np.zeros(nodes),
            np.zeros(nodes),
            np.zeros(nodes, np.int8),
        ),
        workload.duration.copy(),
        parents[graph.template],
        np.full(nodes, np.nan),
        np.full(gpus, NONE, np.int32),
        np.zeros(max(len(flow.nodes) for flow in workload.workflows), np.int32),
        np.zeros(4, np.int64),
        np.zeros(1),
        np.full(1, np.inf),
    )


def _new_requests(workload: Workload, mode: Mode) -> Requests:
    none, due, tier = np.zeros(0), workload.deadline, workload.tier
    return Requests(
        workload.request,
        workload.arrival(mode),
        none if due is None else workload.due(mode),
        none.astype(np.int32) if tier is None else tier.copy(),
        np.full(workload.request_count, NONE, np.int32),
    )


def _new_queues(per_model: Any, nodes: int, in_order: bool) -> Queues:
    base = np.cumsum(per_model) - per_model
    late = _new_heap(0 if in_order else nodes)
    return Queues(_new_heap(nodes), base.copy(), base.copy(), late, base, 0 * base, np.zeros(len(base)))


def _new_heap(size: int) -> Heap:
    return Heap(np.zeros(size), np.zeros(size, np.int32), np.zeros(size, np.int32))


def _new_graph(workload: Workload) -> Graph:
    flows = workload.workflows
    children = [down for flow in flows for down in flow.children]
    return Graph(
        workload.template,
        workload.first_node,
        workload.template_model,
        np.array([local for flow in flows for local in range(len(flow.nodes))], np.int32),
        np.cumsum([0, *map(len, children)], dtype=np.int64),
        np.array([child for down in children for child in down], np.int32),
    )


def _new_resources(workload: Workload, cluster: Cluster, shared: bool) -> tuple[Models, Gpus, Shared]:
    sizes = np.array([model.gpus_required for model in workload.models], np.int64)
    shapes, shape = np.unique(sizes, return_inverse=True)
    words = -(-cluster.gpus // WORD)
    load = [load_seconds(model.memory_gb, model.load_time_seconds, cluster) for model in workload.models]
    models = Models(sizes, shape.astype(np.int32), np.array([m.memory_gb for m in workload.models]), np.array(load))
    gpus = Gpus(
        gpu_mask(range(cluster.gpus), words),
        np.zeros(len(sizes) * words, np.int64),
        np.concatenate([gpu_mask(gang_starts(cluster, int(size)), words) for size in shapes]),
        np.full(cluster.gpus, NONE, np.int32),
        np.full(cluster.gpus, NONE, np.int32),
        np.zeros(cluster.gpus),
        np.full(cluster.gpus, NONE, np.int32),
        np.zeros(len(sizes), np.int64),
        np.full(len(shapes), NONE, np.int64),
        np.full(len(shapes), NONE, np.int64),
        np.zeros(words, np.int64),
        np.array([cluster.gpus, 0, words, int(shared), 0], np.int64),
        np.array([cluster.pcie_bandwidth, cluster.switch_overhead]),
    )
    return models, gpus, _new_shared(models, cluster, words) if shared else Shared(*_NO_SHARED)


# Of the same types as the columns that shared GPUs need, which is what compiled code must know
_NO_SHARED = (*(np.zeros(0) for _ in range(2)), *(np.zeros(0, np.int64) for _ in range(4)))
_NO_SHARED += (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))


def _new_shared(models: Models, cluster: Cluster, words: int) -> Shared:
    count, gpus = len(models.gpus), cluster.gpus
    share = models.memory / models.gpus
    width = _most_held(models.gpus, share, cluster)
    return Shared(
        share,
        np.array([memory_limit(cluster)]),
        np.zeros(count * words, np.int64),
        np.zeros(count * gpus, np.int64),
        np.arange(gpus, dtype=np.int64) * width,
        np.zeros(gpus, np.int64),
        np.zeros(gpus * width, np.int32),
        np.zeros(gpus * width, np.int32),
        np.zeros(gpus),
    )


def memory_limit(cluster: Cluster) -> float:
    """Return the GB of models' shares that fit one GPU, a tolerance for rounding included."""
    return cluster.gpu_memory_gb * (1 + MEMORY_TOLERANCE)


def _most_held(sizes: Any, share: Any, cluster: Cluster) -> int:
    """Return how many gangs' models at most fit a GPU together: the smallest ones, on all gangs that it belongs to."""
    gangs = {size: _gangs_of_a_gpu(cluster, size) for size in set(sizes.tolist())}
    shares = np.repeat(share, [gangs[size] for size in sizes.tolist()])
    fit = np.cumsum(np.sort(shares)) <= memory_limit(cluster) * (1 + MEMORY_TOLERANCE)
    return max(1, int(fit.sum()))


def _gangs_of_a_gpu(cluster: Cluster, size: int) -> int:
    """Return to how many gangs of `size` a GPU belongs at most."""
    begins = np.zeros(cluster.gpus + size, np.int64)
    begins[gang_starts(cluster, size)] = 1
    until = np.cumsum(begins)
    return int((until[: cluster.gpus] - np.concatenate([np.zeros(size, np.int64), until])[: cluster.gpus]).max())


def gpu_mask(bits: Iterable[int], words: int) -> Any:
    """Return a set of GPUs as a bitmask of so many words."""
    mask = [0] * words
    for bit in bits:
        mask[bit // WORD] |= 1 << (bit % WORD)
    return np.array(mask, np.int64)


def load_seconds(memory_gb: float, load_time_seconds: float | None, cluster: Cluster) -> float:
    """Return the seconds it takes to load a model onto GPUs that never held anything."""
    if load_time_seconds is not None:
        return load_time_seconds
    return memory_gb / cluster.pcie_bandwidth + cluster.switch_overhead


def gang_starts(cluster: Cluster, size: int) -> list[int]:
    """Return the GPUs at which a gang of `size` may begin: inside one server if it fits in one, else at a server."""
    server = cluster.server_size
    starts = range(cluster.gpus - size + 1)
    if size > server:
        return [gpu for gpu in starts if gpu % server == 0]
    return [gpu for gpu in starts if gpu % server + size <= server]
