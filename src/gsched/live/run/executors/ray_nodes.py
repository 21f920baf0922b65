"""The nodes of a Ray cluster that have GPUs: joining the cluster, and which node is which server."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from gsched.errors import InputError, one_line

_OBJECT_STORE = 100_000_000  # bytes; prompts and answers are small
_QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_JOIN = f"import sys, ray; ray.init(address=sys.argv[1], **{_QUIET!r})"


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


def join(address: str | None, gpus: int | None, patience: float) -> None:
    """Connect this process to a cluster.

    Args:
        address: of a cluster that exists, `auto` for one on this machine; None to start one here.
        gpus: that a cluster started here pretends to have; None for those that Ray finds.
        patience: wall-clock seconds to wait for a cluster that exists.

    Raises:
        InputError: it cannot be reached, or this process is connected already.
    """
    if ray.is_initialized():
        raise InputError.one("", "Ray", "this process is connected to a cluster already", "call ray.shutdown() first")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is not None:
        _require_answer(address, patience)
    here: Mapping[str, Any] = {
        "num_cpus": 0,  # no process starts before an actor needs it, and actors ask for none
        "num_gpus": gpus,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE,
    }
    with _own_sigterm():
        try:
            ray.init(address=address or "local", **_QUIET, **(here if address is None else {}))
        except (OSError, RuntimeError, ValueError) as error:
            raise _unreachable(address, one_line(str(error))) from error


def _require_answer(address: str, patience: float) -> None:
    """Join a cluster in a process of its own: where nothing answers, that takes minutes, and may end the process.

    Raises:
        InputError: that fails or takes too long.
    """
    try:
        joined = subprocess.run(  # noqa: S603 (our own interpreter and text)
            [sys.executable, "-c", _JOIN, address], stdin=subprocess.DEVNULL, capture_output=True, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"nothing has answered within {patience:g} s") from None
    if joined.returncode:
        lines = joined.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {joined.returncode}"]
        raise _unreachable(address, lines[-1])


def _unreachable(address: str | None, reason: str) -> InputError:
    if address is None:
        return InputError.one("", "Ray", f"cannot be started here ({reason})", "see Ray's logs in /tmp/ray")
    hint = "check the address, or leave it out to start Ray here"
    return InputError.one("", f"Ray cluster {address}", f"cannot be joined ({reason})", hint)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


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
