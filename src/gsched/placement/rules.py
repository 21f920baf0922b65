"""Pins and groups of a config, as they bind on a cluster."""

from collections.abc import Iterable
from typing import NamedTuple

from gsched.cluster import Cluster
from gsched.errors import Problems
from gsched.state import gang_starts
from gsched.workload import Config, Model, Pin


class Unit(NamedTuple):
    """Models that stand in the same servers.

    Args:
        models: their positions.
        servers: each server in which they must stand, and no other; None: anywhere.
        gangs: for models that are pinned to GPUs, all of their gangs, by first GPU.
    """

    models: tuple[int, ...]
    servers: tuple[int, ...] | None
    gangs: dict[int, tuple[int, ...]]


def find_units(config: Config, needed: Iterable[int], cluster: Cluster) -> list[Unit]:
    """Return the units of the models to place: those that are needed, and those that are pinned.

    Raises:
        InputError: a pin or a group cannot be kept on this cluster.
    """
    problems = Problems("")
    models = list(config.models.values())
    position = {model.id: i for i, model in enumerate(models)}
    pins = {position[pin.model]: pin for pin in config.placement.pins}
    placed = sorted({*needed, *pins})
    groups = [{position[id] for id in group} & set(placed) for group in config.placement.groups]
    units = []
    for members in _merged(groups, placed):
        gangs = {m: _gangs(models[m], pins[m], cluster, problems) for m in members if m in pins and pins[m].gpus}
        if len(members) > 1 or any(m in pins and pins[m].servers for m in members):
            _require_server(members, models, cluster, problems)
        wanted = {m: _servers(pins[m], models[m], cluster, problems) for m in members if m in pins}
        if len(set(wanted.values())) > 1:
            names = ", ".join(models[m].id for m in members)
            problems.error("placement", f"{names} belong together but are pinned to different servers", "move a pin")
        units.append(Unit(members, next(iter(wanted.values()), None), gangs))
    problems.raise_found()
    return units


def _merged(groups: list[set[int]], placed: list[int]) -> list[tuple[int, ...]]:
    """Return the models in parts, such that those of a group are in one part."""
    parts: list[set[int]] = []
    for group in [*groups, *({model} for model in placed)]:
        overlapping = [part for part in parts if part & group]
        parts = [part for part in parts if not part & group] + [group.union(*overlapping)]
    return sorted(tuple(sorted(part)) for part in parts if part)


def _require_server(members: tuple[int, ...], models: list[Model], cluster: Cluster, problems: Problems) -> None:
    """Note the models that no server holds whole, though they are to stand in one."""
    for model in (models[m] for m in members):
        if model.gpus_required > cluster.server_size:
            message = f"needs {model.gpus_required} GPUs, a server has {cluster.server_size}"
            problems.error(f"placement of {model.id}", message, "pin it to gpus, and take it out of groups")


def _servers(pin: Pin, model: Model, cluster: Cluster, problems: Problems) -> tuple[int, ...]:
    """Return the servers to which a model is pinned."""
    servers = pin.servers or tuple(sorted({gpu // cluster.server_size for gpu in pin.gpus}))
    count = -(-cluster.gpus // cluster.server_size)
    if pin.servers and servers[-1] >= count:
        message = f"is pinned to server {servers[-1]}, the cluster has 0 to {count - 1}"
        problems.error(f"placement of {model.id}", message, "add GPUs or move the pin")
    return servers


def _gangs(model: Model, pin: Pin, cluster: Cluster, problems: Problems) -> tuple[int, ...]:
    """Return the gangs that the GPUs to which a model is pinned form, by first GPU."""
    place, size = f"placement of {model.id}", model.gpus_required
    left, gangs = list(pin.gpus), []
    if left[-1] >= cluster.gpus:
        message = f"is pinned to GPU {left[-1]}, the cluster has 0 to {cluster.gpus - 1}"
        problems.error(place, message, "add GPUs or move the pin")
        return ()
    allowed = set(gang_starts(cluster, size))
    while left:
        gang, left = left[:size], left[size:]
        if gang != list(range(gang[0], gang[0] + size)) or gang[0] not in allowed:
            message = f"is pinned to GPUs {', '.join(map(str, gang))}, where no gang of {size} may stand"
            problems.error(place, message, "name consecutive GPUs of one server for each gang")
            return ()
        gangs.append(gang[0])
    return tuple(gangs)
