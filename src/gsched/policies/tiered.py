"""Tiers first: the ready node of the most important tier that can be placed, and within a tier the one due first.

A node's key is when its request is due plus `aging` seconds for each tier below the first (Jackson 1960 calls that an
urgency number). So a request of tier 1 goes before one of tier 2 unless it is due more than `aging` seconds later, and
no request waits for those of higher tiers for ever: what arrives over `(tier - 1) * aging` seconds after it was due
cannot overtake it. A key never changes, so ageing costs nothing. What needs many GPUs may still wait while others fit.
"""

from typing import Any, NamedTuple

import numpy as np

from gsched.jit import kernel
from gsched.policies import Policy, Setting
from gsched.policies.baseline import choose
from gsched.policies.edf import check_seconds, due_or_horizon
from gsched.state import Core


class Table(NamedTuple):
    """What keys are made of."""

    horizon: Any  # (1) seconds after its arrival at which a request without a deadline counts as due
    aging: Any  # (1) seconds that each tier below the first adds


@kernel
def order(core: Core, table: Table, node: int) -> float:
    """Return when the node's request is due, later by `aging` for each tier below the first."""
    request = core.requests.of[node]
    key = due_or_horizon(core, request, table.horizon[0])
    if len(core.requests.tier) > 0:
        key += (core.requests.tier[request] - 1) * table.aging[0]
    return key


def build(*, aging: float = 1e6, horizon: float = 3600.0) -> Policy:
    """Return the policy.

    Args:
        aging: seconds by which a request must be due earlier to overtake one of the tier above its own.
        horizon: seconds after its arrival at which a request without a deadline counts as due.

    Raises:
        ValueError: an option is out of range.
    """
    check_seconds("aging", aging)
    check_seconds("horizon", horizon)

    def prepare(_setting: Setting) -> Table:
        return Table(np.array([horizon]), np.array([aging]))

    options = {"aging": aging, "horizon": horizon}
    return Policy("tiered", choose, order, prepare, compilable=True, options=options)
