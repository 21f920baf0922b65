"""Where models stand so that GPUs are evenly loaded and workflows stay inside servers.

First each model gets one place, the least loaded one that leaves room for the rest. Then the most loaded GPU is
relieved, over and over, by one more instance of a model that it serves. At last, what memory is left is filled with
instances of the models that are most in demand, so that whichever GPU is free can do what is waiting.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np

from gsched.cluster import Cluster
from gsched.placement.board import Board
from gsched.placement.demand import Demand
from gsched.placement.packing import pack, pack_order, put_together, put_unit, refusal
from gsched.placement.rules import Unit, find_units
from gsched.workload import Config, Floats, Longs

_SAME_LOAD = 0.05  # of the mean load: gangs that differ by less are chosen among for locality
_RELIEF = 0.02  # of the largest load: an instance must promise at least this


def balanced_board(config: Config, cluster: Cluster, demand: Demand, *, fill: bool) -> Board:
    """Return a board with all models placed.

    Args:
        config: models, and rules for placing them.
        cluster: the GPUs.
        demand: what is asked of the models.
        fill: whether memory that is left is filled with further instances.

    Raises:
        InputError: pins or groups cannot be kept, or not all models fit.
    """
    units = find_units(config, np.flatnonzero(demand.needed).tolist(), cluster)
    board = Board(tuple(config.models.values()), cluster, demand.work)
    ordered = pack_order(board, units)
    if ordered is None:
        raise refusal(board, units, config)
    _put_all(board, ordered, demand)
    board.settle()
    free = {m: unit for unit in units for m in unit.models if m not in unit.gangs}
    _relieve(board, free, demand)
    if fill:
        _complete(board, free, demand)
        _fill(board, free, demand)
    board.settle()
    return board


def board_of(config: Config, cluster: Cluster, demand: Demand, placement: Iterable[tuple[int, int]]) -> Board:
    """Return a board on which a placement stands, with the work split."""
    board = Board(tuple(config.models.values()), cluster, demand.work)
    for model, gang in placement:
        board.put(model, gang)
    board.settle(8)
    return board


def _put_all(board: Board, units: list[Unit], demand: Demand) -> None:
    """Put one instance of each model where the load is lowest, as long as the rest still fits by first fit."""
    find = partial(_least_loaded, demand=demand)
    for i, unit in enumerate(units):
        trial = board.copy()
        if not (put_unit(trial, unit, find) and pack(trial.copy(), units[i + 1 :])):
            trial = board.copy()
            pack(trial, units[i:])
            _keep(board, trial, unit)
        else:
            _keep(board, trial, unit)
        for model in unit.models:
            board.spread(model)


def _keep(board: Board, trial: Board, unit: Unit) -> None:
    """Put the models of a unit where they stand on another board."""
    for model in unit.models:
        for gang in trial.gangs[model]:
            board.put(model, gang)


def _least_loaded(board: Board, model: int, servers: Iterable[int] | None, demand: Demand) -> int | None:
    """Return the gang for one more instance: among the least loaded the one nearest to the model's partners."""
    starts = board.starts(model, servers)
    return _best(board, model, starts, demand) if len(starts) else None


def _best(board: Board, model: int, starts: Longs, demand: Demand) -> int:
    """Return the best of some gangs: aligned where that can be had, hardly loaded, near to the partners, lowest."""
    aligned = starts[starts % board.cluster.server_size % board.size[model] == 0]
    starts = aligned if len(aligned) else starts
    height = board.height(model, starts)
    low = starts[height <= height.min() + _SAME_LOAD * board.load.mean()]
    near = _nearness(board, model, demand)[low // board.cluster.server_size]
    found: int = low[np.argmax(near)]
    return int(found)


def _nearness(board: Board, model: int, demand: Demand) -> Floats:
    """Return how much work of a model's partners each server does that it does not match itself, shape (servers,)."""
    near = np.zeros(board.servers)
    own = _by_server(board, model)
    for partner in np.flatnonzero(demand.edges[model]).tolist():
        if partner != model:
            near += demand.edges[model, partner] * np.maximum(_by_server(board, partner) - own, 0.0)
    return near


def _by_server(board: Board, model: int) -> Floats:
    """Return the share of a model's work that each server does, shape (servers,)."""
    share = np.zeros(board.servers)
    gangs = np.array(board.gangs[model], np.int64)
    np.add.at(share, gangs // board.cluster.server_size, board.seconds[model])
    return share / (share.sum() or 1.0)


def _relieve(board: Board, free: dict[int, Unit], demand: Demand) -> None:
    """Add instances of models on the most loaded GPUs elsewhere, until none helps any more."""
    stuck = np.zeros(board.cluster.gpus, bool)
    for _ in range(4 * board.cluster.gpus):
        gpu = int(np.argmax(np.where(stuck, -1.0, board.load)))
        if stuck[gpu] or board.load[gpu] <= board.load.mean() * (1 + _RELIEF):
            break
        if not any(_relief(board, free[m], m, demand, board.load[gpu]) for m in _on(board, gpu) if m in free):
            stuck[gpu] = True


def _on(board: Board, gpu: int) -> list[int]:
    """Return the models that a GPU works for, the one with most work there first."""
    found = []
    for model, gangs in enumerate(board.gangs):
        for gang, seconds in zip(gangs, board.seconds[model].tolist(), strict=True):
            if gang <= gpu < gang + board.size[model] and seconds > 0:
                found.append((-seconds, model))
    return [model for _, model in sorted(found)]


def _relief(board: Board, unit: Unit, model: int, demand: Demand, load: float) -> bool:
    """Add an instance of a model, with those of its group where it goes to a new server, if that relieves a GPU."""
    starts = board.starts(model, _servers(board, unit, model))
    low = starts[board.height(model, starts) < load * (1 - _RELIEF)]
    if len(low):
        board.put(model, _best(board, model, low, demand))
    elif not _spread_group(board, unit, model, demand, load):
        return False
    for member in unit.models:
        board.spread(member)
    return True


def _servers(board: Board, unit: Unit, model: int) -> Iterable[int] | None:
    """Return the servers in which one more instance of a model may stand without its group."""
    if unit.servers is not None:
        return unit.servers
    return None if len(unit.models) == 1 else board.hosts(model)


def _spread_group(board: Board, unit: Unit, model: int, demand: Demand, load: float) -> bool:
    """Put a whole group into one more server, the least loaded one, if a member's gang there is below a load."""
    if unit.servers is not None or len(unit.models) == 1:
        return False
    hosts = board.hosts(model)
    size = board.cluster.server_size
    others = [server for server in range(board.servers) if server not in hosts]
    others.sort(key=lambda server: (float(board.load[server * size : (server + 1) * size].mean()), server))
    find = partial(_least_loaded, demand=demand)
    for server in others:
        starts = board.starts(model, [server])
        helps = len(starts) > 0 and board.height(model, starts).min() < load * (1 - _RELIEF)
        if helps and put_together(board, list(unit.models), [server], find):
            return True
    return False


def _complete(board: Board, free: dict[int, Unit], demand: Demand) -> None:
    """Let servers hold all models of a workflow, the most frequent workflows first, while memory lasts."""
    find = partial(_least_loaded, demand=demand)
    for flow in np.argsort(-demand.flow, kind="stable").tolist():
        hosts = {model: board.hosts(model) for model in demand.models[flow]}
        for server in range(board.servers):
            missing = [model for model in demand.models[flow] if server not in hosts[model]]
            if all(m in free and _is_alone(free[m]) for m in missing):
                put_together(board, missing, [server], find)


def _is_alone(unit: Unit) -> bool:
    """Tell whether a model may stand in any server, and without others."""
    return unit.servers is None and len(unit.models) == 1


def _fill(board: Board, free: dict[int, Unit], demand: Demand) -> None:
    """Add instances of the models with most GPU time an instance, while memory lasts."""
    wanted = {m: float(demand.work[m]) * board.size[m] for m in free if demand.work[m] > 0}
    while wanted:
        model = max(wanted, key=lambda m: (wanted[m] / len(board.gangs[m]), -m))
        starts = board.starts(model, _servers(board, free[model], model))
        if len(starts):
            board.put(model, _best(board, model, starts, demand))
        else:
            del wanted[model]
