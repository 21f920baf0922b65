"""Policies: what decides. A policy is two small functions, and a table that it may compute up front.

`choose(core, table)` returns the model whose next node to start and the first GPU of the gang to start it on, or
`WAIT`; it is asked again until it waits. `order(core, table, node)` returns the key by which a node that became ready
is ordered among its model's ready nodes; without it they are served first-in first-out. Both see the state through the
queries of `gsched.core` and cannot see the future. `docs/policies.md` shows how to bring a policy of one's own.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.state import Core
from gsched.workload import Workload

BUILT_IN = ("baseline",)


def no_table(_workload: Workload, _cluster: Cluster) -> Any:
    """Return the table of a policy that needs none."""
    return ()


@dataclass(frozen=True)
class Policy:
    """A named pair of decision functions; `compilable` where both are kernels (see `gsched.jit`)."""

    name: str
    choose: Callable[[Core, Any], tuple[int, int]]
    order: Callable[[Core, Any, int], float] | None = None
    prepare: Callable[[Workload, Cluster], Any] = no_table
    compilable: bool = False


def find_policy(policy: object) -> Policy:
    """Return the policy that is meant: a built-in name, `path.py:Class`, an object with `choose`, or a `Policy`.

    Raises:
        InputError: there is no such policy, or what was given is none.
    """
    if isinstance(policy, Policy):
        return policy
    if isinstance(policy, str):
        if policy in BUILT_IN:
            found: Policy = importlib.import_module(f"gsched.policies.{policy}").POLICY
            return found
        if ":" not in policy:
            known = ", ".join(BUILT_IN)
            raise InputError.one("", f"policy {policy}", "is unknown", f"choose {known}, or path.py:Class of your own")
    from gsched.policies.custom import adapt, load

    return adapt(load(policy) if isinstance(policy, str) else policy)
