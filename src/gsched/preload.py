"""What a policy places before time 0: validated, then installed."""

import operator
from typing import Any

from gsched.cluster import Cluster
from gsched.errors import PolicyError
from gsched.residency import settle, use
from gsched.state import WORD, WORDS, Core, gang_starts, memory_limit
from gsched.workload import Model, Workload

Placement = tuple[tuple[int, int], ...]


def checked_placement(placement: Any, workload: Workload, cluster: Cluster, policy: str) -> Placement:
    """Return what a policy places, pairs of a model and the first GPU of its gang, as plain integers.

    Raises:
        PolicyError: it breaks a rule: no such model or gang, a model twice on one gang, or more than a GPU holds.
    """
    starts = {model.gpus_required: frozenset[int]() for model in workload.models}
    starts = {size: frozenset(gang_starts(cluster, size)) for size in starts}
    taken = [0.0] * cluster.gpus
    seen: set[tuple[int, int]] = set()
    for entry in placement:
        pair = _pair(entry, len(workload.models))
        if pair is None:
            raise PolicyError(f"policy {policy}: its placement holds {entry!r:.60}, no pair (model, first GPU)")
        model, gang = workload.models[pair[0]], pair[1]
        if gang not in starts[model.gpus_required]:
            raise PolicyError(
                f"policy {policy}: no gang of model {model.id} may begin at GPU {gang}, where it is placed"
            )
        if pair in seen:
            raise PolicyError(
                f"policy {policy}: model {model.id} is placed twice on the gang that begins at GPU {gang}"
            )
        seen.add(pair)
        _fill(taken, model, gang, cluster, policy)
    return tuple(_pair(entry, len(workload.models)) or (0, 0) for entry in placement)


def _pair(entry: Any, models: int) -> tuple[int, int] | None:
    try:
        model, gang = entry
        model, gang = operator.index(model), operator.index(gang)
    except (TypeError, ValueError):
        return None
    return (model, gang) if 0 <= model < models else None


def _fill(taken: list[float], model: Model, gang: int, cluster: Cluster, policy: str) -> None:
    """Add a model's share to what its GPUs hold."""
    for gpu in range(gang, gang + model.gpus_required):
        taken[gpu] += model.memory_gb / model.gpus_required
        if taken[gpu] > memory_limit(cluster):
            holds = f"GPU {gpu} would hold {taken[gpu]:g} GB of {cluster.gpu_memory_gb:g}"
            raise PolicyError(f"policy {policy}: its placement does not fit, {holds} with model {model.id}")


def install(core: Core, placement: Placement) -> None:
    """Let gangs hold what is placed; the first was used longest ago, and all before anything that starts."""
    words = core.gpus.count[WORDS]
    for position, (model, gang) in enumerate(placement):
        settle(core, model, gang)
        use(core, model, gang, position - len(placement))
        core.gpus.warm[model * words + gang // WORD] |= 1 << (gang % WORD)
