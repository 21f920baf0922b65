"""Static deployment: models stand where they were placed before time 0, and requests are routed to them.

Nothing is ever loaded afterwards. Here is what is decided before the run: the placement and how patiently gangs claim
GPUs that they share, tried out where the batch is known; `gsched.policies.routing` has what is decided during it.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gsched.errors import InputError
from gsched.load import load_requests
from gsched.placement import place
from gsched.placement.facts import drains, durations, ranks, turns, whole
from gsched.policies import Placement, Policy, Setting
from gsched.policies.routing import Table, choose, order
from gsched.state import NONE
from gsched.workload import Workload

_TRIED_NODES = 5_000  # of the batch, spread evenly
_TRIED_GPUS = 250  # on larger clusters, a trial of so few nodes would say nothing
_BATCHES = (1.0, 4.0, 16.0)


class _Care(NamedTuple):
    """How gangs get their turn; all in durations of the nodes that have to end before (see `build`)."""

    batch: float
    patience: float
    turn: float


class _Plan(NamedTuple):
    placement: Placement
    care: _Care


def build(
    *,
    first: str = "oldest",
    fill: bool = True,
    batch: float = 1.0,
    patience: float = 30.0,
    turn: float = 1000.0,
    trials: bool = True,
    history: str = "",
) -> Policy:
    """Return the policy.

    Args:
        first: the requests that go first, `oldest` or `shortest` (which may put off long ones while short ones come).
        fill: whether memory that is left is filled with further instances.
        batch: work that warrants a claim of a gang, in durations of the longest nodes that have to end before.
        patience: how long a node waits before a claim is made for it alone, in such durations.
        turn: how long a claim lasts at most while others wait, in such durations.
        trials: whether, offline and up to 250 GPUs, other values of `fill` and `batch` are tried and the best kept.
        history: online, a file of earlier requests from which to learn how often workflows are requested.

    Raises:
        ValueError: an option is out of range.
    """
    if first not in ("oldest", "shortest"):
        raise ValueError(f"option first must be oldest or shortest, not {first!r}")
    for name, value in (("batch", batch), ("patience", patience), ("turn", turn)):
        if not 0 <= value < math.inf:
            raise ValueError(f"option {name} must be a finite number from 0 on, not {value}")
    given = _Care(batch, patience, turn)
    latest: list[tuple[Setting, _Plan]] = []

    def plan(setting: Setting) -> _Plan:
        """Return the plan for a setting; it is asked for twice in a row."""
        if not latest or latest[0][0] is not setting:
            placement = place(_known(setting, history), setting.cluster, setting.mode, fill=fill)
            found = _Plan(placement, given)
            if trials and setting.mode == "offline" and setting.cluster.gpus <= _TRIED_GPUS:
                found = _best_plan(setting, found, fill, first)
            latest[:] = [(setting, found)]
        return latest[0][1]

    def prepare(setting: Setting) -> Table:
        return _new_table(setting, _known(setting, history), plan(setting), first)

    options = {"first": first, "fill": fill, **given._asdict(), "trials": trials, "history": history}
    return Policy(
        "static", choose, order, prepare, lambda setting: plan(setting).placement, compilable=True, options=options
    )


def _known(setting: Setting, history: str) -> Workload:
    """Return the requests to learn from."""
    if setting.mode == "offline" and history:
        raise InputError.one("", "option history", "is for online runs; offline, the batch is known", "leave it out")
    if setting.mode == "online" and history:
        return load_requests(Path(history), setting.known.config) or setting.known
    return setting.known


def _best_plan(setting: Setting, given: _Plan, fill: bool, first: str) -> _Plan:
    """Return the plan with the smallest makespan, and among equals the smallest sum of ends, over the known batch."""
    known = setting.known
    stride = -(-known.node_count // _TRIED_NODES) or 1
    part = known.select(np.arange(0, known.request_count, stride)) if stride > 1 else known
    other = place(known, setting.cluster, setting.mode, fill=not fill)
    placements = [given.placement] if other == given.placement else [given.placement, other]
    cares = [given.care, *(given.care._replace(batch=batch) for batch in _BATCHES if batch != given.care.batch)]
    plans = [_Plan(placement, care) for placement in placements for care in cares]
    best, best_score = given, (np.inf, np.inf)
    for i, plan in enumerate(plans):
        rows = setting.trial(_fixed(plan, first), part, len(plans))
        end = rows.time + part.duration[rows.node]
        score = (float(end.max(initial=0.0)), float(end.sum()))
        if score < best_score:
            best, best_score = plan, score
        setting.progress((i + 1) / len(plans))
    return best


def _fixed(plan: _Plan, first: str) -> Policy:
    """Return the policy with a plan that is already made."""

    def prepare(setting: Setting) -> Table:
        return _new_table(setting, setting.known, plan, first)

    return Policy("static", choose, order, prepare, lambda _: plan.placement, compilable=True)


def _new_table(setting: Setting, known: Workload, plan: _Plan, first: str) -> Table:
    """Return the table of a run.

    Args:
        setting: of the run.
        known: the requests to learn from.
        plan: where models stand, and how gangs get their turn.
        first: the requests that go first.
    """
    models, gpus, size = known.models, setting.cluster.gpus, setting.cluster.server_size
    servers = -(-gpus // size)
    gangs: list[list[int]] = [[] for _ in models]
    for model, gang in plan.placement:
        gangs[model].append(gang)
    drain = drains(models, gangs, durations(known, setting.mode), gpus)
    contested = sorted(np.flatnonzero(drain >= 0).tolist(), key=lambda m: (-models[m].gpus_required, m))
    batch, patience, turn = (factor * np.maximum(drain, 0.0) for factor in plan.care)
    return Table(
        np.array([size], np.int64),
        np.array([first == "shortest"]),
        turns(setting.known, setting.mode),
        ranks(models, gangs, gpus),
        np.repeat(np.arange(len(known.workflows)), np.diff(known.template_start)),
        whole(known, gangs, size, servers),
        np.zeros(servers),
        np.array(contested, np.int64),
        np.cumsum([0, *map(len, gangs)], dtype=np.int64),
        np.array([gang for each in gangs for gang in sorted(each)], np.int64),
        batch,
        patience,
        turn,
        np.zeros(len(models), np.int64),
        np.full(gpus, NONE, np.int64),
        np.full(gpus, NONE, np.int64),
        np.zeros(gpus),
        np.zeros(gpus),
        np.zeros(gpus),
    )
