"""The nodes of a Ray cluster that have GPUs, and which of them is which server."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from gsched.errors import InputError


@dataclass(slots=True)
class Server:
    """A node as a server.

    Args:
        node: its id.
        address: its IP address.
        gpus: the GPUs that it owns, in the run's numbering.
    """

    node: str
    address: str
    gpus: range


def alive() -> dict[str, Mapping[str, Any]]:
    """Return the nodes that are alive, by id."""
    nodes: Callable[[], list[Mapping[str, Any]]] = ray.nodes
    return {node["NodeID"]: node for node in nodes() if node["Alive"]}


def gpus_of(node: Mapping[str, Any]) -> int:
    """Return how many GPUs a node has."""
    return int(node["Resources"].get("GPU", 0))


def servers_of(nodes: Iterable[Mapping[str, Any]], gpus: int | None) -> list[Server]:
    """Return nodes as servers: those with most GPUs first, then in the order of their addresses and ids.

    Args:
        nodes: as Ray describes them; those without GPUs are left out.
        gpus: how many to use, the first ones; None for all.

    Raises:
        InputError: there are none or fewer, or the nodes, apart from the last, have different numbers of GPUs.
    """
    there = sorted(
        (node for node in nodes if gpus_of(node)),
        key=lambda node: (-gpus_of(node), node["NodeManagerAddress"], node["NodeID"]),
    )
    wanted = sum(map(gpus_of, there)) if gpus is None else gpus
    servers: list[Server] = []
    first = 0
    for node in there:
        if first < wanted:
            end = min(first + gpus_of(node), wanted)
            servers.append(Server(node["NodeID"], node["NodeManagerAddress"], range(first, end)))
            first = end
    if not servers or first < wanted:
        hint = "ask for fewer, or let nodes join" if first else "let a node with GPUs join, or say how many to imagine"
        raise InputError.one("", "Ray cluster", f"has {first} GPUs{f', not {wanted}' if wanted else ''}", hint)
    if odd := [server for server in servers[:-1] if len(server.gpus) != len(servers[0].gpus)]:
        told = ", ".join(f"{server.address} with {len(server.gpus)}" for server in (servers[0], *odd))
        hint = "use nodes of one size, or so few GPUs that at most the last node has fewer"
        raise InputError.one("", "Ray cluster", f"has nodes with different numbers of GPUs ({told})", hint)
    return servers
