"""What a policy places before time 0: validated, then installed."""

import operator
from typing import Any

from gsched.cluster import Cluster
from gsched.errors import PolicyError
from gsched.residency import settle, use
from gsched.state import PLACED, WORD, WORDS, Core, gang_starts, memory_limit
from gsched.workload import Model, Workload

Placement = tuple[tuple[int, int], ...]


def checked_placement(placement: Any, workload: Workload, cluster: Cluster, policy: str) -> Placement:
    """Return what a policy places, pairs of a model and the first GPU of its gang, as plain integers.

    Raises:
        PolicyError: it breaks a rule: no such model or gang, a model twice on one gang, more than a GPU holds, or
            something is placed but not all that requests need.
    """
    sizes = {model.gpus_required for model in workload.models}
    starts = {size: frozenset(gang_starts(cluster, size)) for size in sizes}
    taken = [0.0] * cluster.gpus
    seen: dict[tuple[int, int], None] = {}
    for entry in placement:
        pair = _pair(entry, len(workload.models))
        if pair is None:
            raise PolicyError(f"policy {policy}: its placement holds {entry!r:.60}, no pair (model, first GPU)")
        model, gang = workload.models[pair[0]], pair[1]
        if gang not in starts[model.gpus_required]:
            raise PolicyError(f"policy {policy}: places model {model.id} at GPU {gang}, where no gang of it may begin")
        if pair in seen:
            raise PolicyError(f"policy {policy}: places model {model.id} twice at GPU {gang}")
        seen[pair] = None
        _fill(taken, model, gang, cluster, policy)
    placed = {workload.models[model].id for model, _ in seen}
    missing = [model.id for model in workload.used_models if placed and model.id not in placed]
    if missing:
        raise PolicyError(f"policy {policy}: places no instance of model {missing[0]}, which requests need")
    return tuple(seen)


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
            raise PolicyError(f"policy {policy}: places model {model.id} where it does not fit, {holds}")


def install(core: Core, placement: Placement) -> None:
    """Let gangs hold what is placed, if anything is, and nothing else from now on."""
    words = core.gpus.count[WORDS]
    core.gpus.count[PLACED] = int(len(placement) > 0)
    for model, gang in placement:
        settle(core, model, gang)
        use(core, model, gang, 0)
        core.gpus.warm[model * words + gang // WORD] |= 1 << (gang % WORD)
