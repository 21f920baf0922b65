"""A placement in words: what stands where, why, and how busy it is expected to be."""

from collections.abc import Iterable

from gsched.cluster import Cluster
from gsched.workload import Mode, Workload


def explain_lines(known: Workload, cluster: Cluster, mode: Mode, placement: Iterable[tuple[int, int]]) -> list[str]:
    """Return the lines that explain a placement: by server and GPU, then by model.

    Args:
        known: what the policy planned with (`Setting.known`): offline the whole workload; online one without requests.
        cluster: the GPUs.
        mode: how requests arrive.
        placement: pairs of a model's position and the first GPU of its gang, as `Policy.place` returned them.
    """
    models = known.models
    return [f"{models[model].id}: GPU {gang} to {gang + models[model].gpus_required - 1}" for model, gang in placement]
