"""A placement in words: what stands where, why, and how busy it is expected to be."""

from collections.abc import Iterable

import numpy as np

from gsched.cluster import Cluster
from gsched.placement.balance import board_of
from gsched.placement.board import Board
from gsched.placement.demand import Demand, find_demand
from gsched.state import load_seconds
from gsched.workload import Floats, Mode, Model, Workload

_PARTNERS = 3


def explain_lines(known: Workload, cluster: Cluster, mode: Mode, placement: Iterable[tuple[int, int]]) -> list[str]:
    """Return the lines that explain a placement: by server and GPU, then by model.

    Args:
        known: what the policy planned with (`Setting.known`): offline the whole workload; online one without requests.
        cluster: the GPUs.
        mode: how requests arrive.
        placement: pairs of a model's position and the first GPU of its gang, as `Policy.place` returned them.

    Raises:
        InputError: no requests are known and a model has no profile.
    """
    demand = find_demand(known, mode)
    placement = tuple(placement)
    board = board_of(known.config, cluster, demand, placement)
    busiest = float(board.load.max()) or 1.0
    deployment = deployment_time(known.models, cluster, placement)
    return [
        *_gpu_lines(board, busiest),
        "",
        *_model_lines(board, demand),
        "",
        f"GPUs: mean load {board.load.mean() / busiest:.0%} of the busiest, {_seconds(busiest, known, mode)}",
        f"Deployment: {deployment:.1f} s before time 0, GPUs at once, the models of a GPU one by one",
    ]


def deployment_time(models: tuple[Model, ...], cluster: Cluster, placement: Iterable[tuple[int, int]]) -> float:
    """Return the seconds until every GPU has loaded its models one after another, all GPUs at once."""
    seconds = np.zeros(cluster.gpus)
    for position, gang in placement:
        model = models[position]
        seconds[gang : gang + model.gpus_required] += load_seconds(model.memory_gb, model.load_time_seconds, cluster)
    return float(seconds.max())


def _seconds(busiest: float, known: Workload, mode: Mode) -> str:
    if mode == "offline" or known.request_count:
        return f"which works {busiest:.1f} s on the known requests"
    return f"which works {busiest:.2f} s for an average request"


def _gpu_lines(board: Board, busiest: float) -> list[str]:
    lines = []
    for gpu in range(board.cluster.gpus):
        if gpu % board.cluster.server_size == 0:
            lines.append(f"Server {board.server(gpu)}")
        held = [
            board.models[m].id + (f" (GPUs {gang}-{gang + board.size[m] - 1})" if board.size[m] > 1 else "")
            for m, gangs in enumerate(board.gangs)
            for gang in gangs
            if gang <= gpu < gang + board.size[m]
        ]
        memory = f"{board.taken[gpu]:.1f} of {board.cluster.gpu_memory_gb:g} GB"
        lines.append(f"  GPU {gpu}: {memory}, load {board.load[gpu] / busiest:.0%}: {', '.join(held) or 'nothing'}")
    return lines


def _model_lines(board: Board, demand: Demand) -> list[str]:
    work = demand.work * board.size
    total = float(work.sum()) or 1.0
    lines = ["Models, by GPU time"]
    for model in np.argsort(-work, kind="stable").tolist():
        if board.gangs[model]:
            count = len(board.gangs[model])
            replicas = f"{count} replica{'s' if count > 1 else ''}"
            servers = ", ".join(map(str, sorted(board.hosts(model))))
            where = f"in server{'s' if ',' in servers else ''} {servers}"
            reason = f"{work[model] / total:.1%} of all GPU time{_partners(board, demand.edges[model], model)}"
            lines.append(f"  {board.models[model].id}: {replicas} {where}; {reason}{_rule(board, model)}")
    return lines


def _partners(board: Board, edges: Floats, model: int) -> str:
    """Return which models work before or after a model, the most frequent first."""
    others = [m for m in np.argsort(-edges, kind="stable").tolist() if edges[m] > 0 and m != model]
    if not others:
        return ""
    share = (f"{board.models[m].id} {edges[m] / edges.sum():.0%}" for m in others[:_PARTNERS])
    return f"; works with {', '.join(share)}"


def _rule(board: Board, model: int) -> str:
    """Return the reason for a model that stands in one place only though it has no work."""
    return "" if board.work[model] > 0 else "; no work expected, so one replica"
