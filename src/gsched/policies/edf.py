"""Earliest deadline first: among the ready nodes that can be placed, the one whose request is due first.

A node that runs is never interrupted. On one GPU, with everything there at the start and nothing to load, no order has
a smaller largest lateness (Jackson 1955); with interruption, it would meet every deadline that can be met (Liu and
Layland 1973 for periodic work, Dertouzos 1974 for any). It does not look at what a model costs to load, and under
overload all are late together. A node's key is when its request is due, not when the node must start for that: the rest
of the request's critical path, which least laxity would subtract, is left out.
"""

from typing import Any, NamedTuple

import numpy as np

from gsched.jit import kernel
from gsched.policies import Policy, Setting
from gsched.policies.baseline import choose
from gsched.state import Core

LONGEST = 1e9  # seconds; keys are floats, and larger ones would no longer tell milliseconds apart


class Table(NamedTuple):
    """What keys are made of."""

    horizon: Any  # (1) seconds after its arrival at which a request without a deadline counts as due


@kernel
def due_or_horizon(core: Core, request: int, horizon: float) -> float:
    """Return when a request is due, or counts as due where it has no deadline, in seconds."""
    if len(core.requests.due) > 0 and core.requests.due[request] < np.inf:
        due: float = core.requests.due[request]
        return due
    late: float = core.requests.arrival[request] + horizon
    return late


@kernel
def order(core: Core, table: Table, node: int) -> float:
    """Return when the node's request is due."""
    return due_or_horizon(core, core.requests.of[node], table.horizon[0])


def check_seconds(option: str, value: float) -> None:
    """Raise a `ValueError` for an option's value out of range."""
    if not 0 <= value <= LONGEST:
        raise ValueError(f"{option} must be between 0 and {LONGEST:g} seconds, not {value:g}")


def build(*, horizon: float = 3600.0) -> Policy:
    """Return the policy.

    Args:
        horizon: seconds after its arrival at which a request without a deadline counts as due.

    Raises:
        ValueError: the option is out of range.
    """
    check_seconds("horizon", horizon)

    def prepare(_setting: Setting) -> Table:
        return Table(np.array([horizon]))

    return Policy("edf", choose, order, prepare, compilable=True, options={"horizon": horizon})
