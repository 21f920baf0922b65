"""Static deployment: which models stand on which GPUs before time 0, and stay."""

from gsched.cluster import Cluster
from gsched.placement.balance import balanced_board
from gsched.placement.demand import find_demand
from gsched.placement.explain import deployment_time, explain_lines
from gsched.workload import Mode, Workload

__all__ = ["deployment_time", "explain_lines", "place"]


def place(known: Workload, cluster: Cluster, mode: Mode, *, fill: bool = True) -> tuple[tuple[int, int], ...]:
    """Return a placement of the models: pairs of a model's position and the first GPU of its gang, by GPU.

    Args:
        known: offline, the workload; online, a workload without requests, or with those of an earlier time.
        cluster: the GPUs.
        mode: how requests arrive.
        fill: whether memory that is left is filled with further instances.

    Raises:
        InputError: a pin or group cannot be kept, not all models fit, or the work of a model is unknown.
    """
    board = balanced_board(known.config, cluster, find_demand(known, mode), fill=fill)
    return tuple(
        sorted(((m, gang) for m, gangs in enumerate(board.gangs) for gang in gangs), key=lambda p: (p[1], p[0]))
    )
