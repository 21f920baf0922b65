"""Online: a greedy cost of several factors decides whether a model is worth a switch (see `gsched.policies.guided`).

For streams of requests on servers that swap models: each switch must be worth what it costs, a model that was loaded
stays for a while, and none waits for ever. Gangs get their GPUs together by reservation, with backfilling.
"""

import math

from gsched.policies import Policy, Setting
from gsched.policies.edf import check_seconds
from gsched.policies.guided import (
    ARRIVAL,
    BALANCE,
    CALM,
    DRAIN,
    MAX_WAIT,
    RELOAD,
    RESIDENCY,
    WAITING,
    WORK,
    Knobs,
    choose,
    neutral_knobs,
    order,
)


def build(
    *,
    switch_weight: float = 0.2,
    waiting_weight: float = 0.25,
    balance_weight: float = 10.0,
    drain_weight: float = 10.0,
    reload_weight: float = 0.0,
    size_weight: float = 0.3,
    reserve: float = 10.0,
    calm: float = 0.0,
    max_wait: float = 600.0,
    min_residency: float = 5.0,
) -> Policy:
    """Return the policy.

    A switch is worth it if the ready work that each gang of the model would have, plus `waiting_weight` times the wait
    of its next node, comes up to the cost: the sum of the seconds below, each with its weight.

    Args:
        switch_weight: of the seconds that loading takes.
        waiting_weight: of the seconds that the model's next node has been ready.
        balance_weight: of the seconds of ready work that each gang has of the models that give way.
        drain_weight: of the seconds until the GPUs are idle, where they are busy yet.
        reload_weight: of the seconds it takes to load the models that give way again; it fades while they are idle.
        size_weight: of the GPU seconds of a request, against its arrival, in the order of its nodes: from 0, first
            come, first served, towards shortest request first, which still ages.
        reserve: how many times `switch_weight` counts before busy GPUs are reserved.
        calm: below so many loading times of ready work per GPU, loading counts in proportion to that work.
        max_wait: seconds after which a model with ready nodes, none of which has started since, may have any GPUs.
        min_residency: seconds for which GPUs keep a model at the least, unless another starves; of no effect where
            models share GPUs.

    Raises:
        ValueError: an option is out of range.
    """
    options = dict(locals())
    for option, value in options.items():
        if option in ("max_wait", "min_residency"):
            check_seconds(option, value)
        elif not 0 <= value < math.inf:
            raise ValueError(f"{option} must not be negative or infinite, not {value:g}")

    def prepare(setting: Setting) -> Knobs:
        knobs = neutral_knobs(setting)
        knobs.threshold[:], knobs.reserve[:] = switch_weight, reserve
        knobs.value[[ARRIVAL, WORK, WAITING, BALANCE]] = 1.0, size_weight, waiting_weight, balance_weight
        knobs.value[[DRAIN, RELOAD, CALM]] = drain_weight, reload_weight, calm
        knobs.value[[MAX_WAIT, RESIDENCY]] = max_wait, min_residency
        return knobs

    return Policy("online", choose, order, prepare, compilable=True, options=options)
