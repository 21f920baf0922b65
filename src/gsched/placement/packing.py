"""Whether all models can be placed at all: packed as tightly as first fit can, and the smallest cluster for it."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from gsched.cluster import MOST_GPUS
from gsched.errors import InputError, Problem
from gsched.placement.board import Board
from gsched.placement.rules import Unit, find_units
from gsched.state import memory_limit
from gsched.workload import Config

Order = Callable[[Board, Unit], tuple[float, ...]]

Find = Callable[[Board, int, Iterable[int] | None], int | None]
"""Where an instance of a model goes, within servers or anywhere; None where it fits nowhere."""


def _widest_first(board: Board, unit: Unit) -> tuple[float, ...]:
    return (-max(board.size[m] for m in unit.models), -max(board.share[m] for m in unit.models))


def _heaviest_first(board: Board, unit: Unit) -> tuple[float, ...]:
    return (-sum(board.share[m] * board.size[m] for m in unit.models), -max(board.size[m] for m in unit.models))


def _densest_first(board: Board, unit: Unit) -> tuple[float, ...]:
    return (-max(board.share[m] for m in unit.models), -max(board.size[m] for m in unit.models))


_ORDERS: tuple[Order, ...] = (_widest_first, _heaviest_first, _densest_first)


def pack_order(board: Board, units: list[Unit]) -> list[Unit] | None:
    """Return an order in which first fit places all units on a board, or None if it finds none."""
    for order in _ORDERS:
        ordered = sorted(units, key=lambda unit: (not unit.gangs, unit.servers is None, *order(board, unit)))
        if pack(board.copy(), ordered):
            return ordered
    return None


def pack(board: Board, units: list[Unit]) -> bool:
    """Put one instance of each model where it fits first, and tell whether all found a place.

    A place that is free on a cluster is free on a larger one too, and comes before those that only the larger one has.
    So what fits a cluster fits every larger one with servers of the same size.
    """
    return all(put_unit(board, unit, first_fit) for unit in units)


def first_fit(board: Board, model: int, servers: Iterable[int] | None) -> int | None:
    """Return the first GPU of the lowest gang on which one more instance fits."""
    starts = board.starts(model, servers)
    return int(starts[0]) if len(starts) else None


def put_unit(board: Board, unit: Unit, find: Find) -> bool:
    """Put one instance of each model of a unit into each of its servers, or if they are free to choose, into one.

    If they do not fit, the board stays as it was where the servers are free, and is of no more use where they are not.
    """
    for model, gangs in unit.gangs.items():
        for gang in gangs:
            if gang not in board.starts(model):
                return False
            board.put(model, gang)
    others = [model for model in unit.models if model not in unit.gangs]
    if unit.servers is not None:
        return all(put_together(board, others, [server], find) for server in unit.servers)
    if len(others) == 1:
        return put_together(board, others, None, find)
    return any(put_together(board, others, [server], find) for server in range(board.servers))


def put_together(board: Board, models: list[int], servers: Iterable[int] | None, find: Find) -> bool:
    """Put one instance of each model into the given servers, or nothing if one does not fit."""
    for count, model in enumerate(models):
        gang = find(board, model, servers)
        if gang is None:
            for placed in reversed(models[:count]):
                board.lift(placed)
            return False
        board.put(model, gang)
    return True


def refusal(board: Board, units: list[Unit], config: Config) -> InputError:
    """Return why not all models can be placed: one problem for each that found no place, and what would suffice."""
    cluster = board.cluster
    limit = memory_limit(cluster)
    too_big = [m for unit in units for m in unit.models if board.share[m] > limit]
    if too_big:
        hint = "no number of GPUs suffices: raise gpu_memory_gb or the model's gpus_required"
    else:
        hint = _remedy(board, units, config)
        trial = board.copy()
        ordered = sorted(units, key=lambda unit: (not unit.gangs, unit.servers is None, *_widest_first(board, unit)))
        too_big = [m for unit in ordered if not put_unit(trial, unit, first_fit) for m in unit.models]
    return InputError(Problem("", f"model {board.models[m].id}", _need(board, m), hint) for m in too_big)


def _need(board: Board, model: int) -> str:
    size, share = board.size[model], board.share[model]
    need = f"{share:g} GB on each of {size} consecutive GPUs" if size > 1 else f"{share:g} GB on a GPU"
    return f"cannot be placed: it needs {need}, of {board.cluster.gpu_memory_gb:g} GB"


def _remedy(board: Board, units: list[Unit], config: Config) -> str:
    needed = [m for unit in units for m in unit.models]
    gpus = smallest_cluster(board, needed, config)
    if gpus is None:
        return "pins or groups leave too little memory, so no number of GPUs suffices: move a pin or split a group"
    return f"all models fit from {gpus} GPUs on"


def smallest_cluster(board: Board, needed: list[int], config: Config) -> int | None:
    """Return how many GPUs suffice to place all models, by trying; None where no number does."""

    def fits(gpus: int) -> bool:
        cluster = replace(board.cluster, gpus=gpus)
        trial = Board(board.models, cluster, board.work)
        try:
            units = find_units(config, needed, cluster)
        except InputError:
            return False
        return pack_order(trial, units) is not None

    low = board.cluster.gpus  # does not fit
    enough = min(low + _most_needed(board, needed), MOST_GPUS)
    if not fits(enough):
        return None
    while enough - low > 1:
        middle = (low + enough) // 2
        low, enough = (low, middle) if fits(middle) else (middle, enough)
    return enough


def _most_needed(board: Board, needed: list[int]) -> int:
    """Return how many GPUs are enough for one instance of each model beside all others, if any number is."""
    server = board.cluster.gpus_per_server or 1
    return sum(-(-board.size[model] // server) * server for model in needed) + server
