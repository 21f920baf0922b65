"""What routing over a placement needs to know: who waits for whom, which GPUs to spare, where workflows stand whole."""

from itertools import pairwise

import numpy as np

from gsched.placement.demand import find_demand
from gsched.state import NONE
from gsched.workload import Floats, Longs, Mode, Model, Workload


def turns(known: Workload, mode: Mode) -> Floats:
    """Return the place of each request in the order of timestamps, where all arrive at once."""
    if mode == "online":
        return np.zeros(0)
    turns = np.empty(known.request_count)
    turns[np.argsort(known.timestamp, kind="stable")] = np.arange(len(turns))
    return turns


def durations(known: Workload, mode: Mode) -> Floats:
    """Return the mean seconds of a node of each model, shape (M,)."""
    demand = find_demand(known, mode)
    return np.divide(demand.work, demand.nodes, out=np.zeros(len(demand.work)), where=demand.nodes > 0)


def drains(models: tuple[Model, ...], gangs: list[list[int]], seconds: Floats, gpus: int) -> Floats:
    """Return the longest mean duration of the models that may occupy a part of a model's gang.

    Args:
        models: M models.
        gangs: first GPUs of the instances of each.
        seconds: mean duration of each, shape (M,).
        gpus: number of GPUs.

    Returns:
        Shape (M,); -1 for models whose gangs no other occupies in part.
    """
    drain = np.full(len(models), -1.0)
    for m, size in enumerate(model.gpus_required for model in models):
        mine = np.full(gpus, NONE)
        for gang in gangs[m]:
            mine[gang : gang + size] = gang
        for n, width in enumerate(model.gpus_required for model in models):
            if width <= size and n != m:
                overlapping = (g for g in gangs[n] if (mine[g : g + width] != NONE).any())
                if any((width, g) != (size, mine[g]) for g in overlapping):
                    drain[m] = max(drain[m], seconds[n])
    return drain


def ranks(models: tuple[Model, ...], gangs: list[list[int]], gpus: int) -> Longs:
    """Return the rank of each GPU: those that serve no wide gangs are rather used."""
    widest = np.zeros(gpus)
    for model, each in zip(models, gangs, strict=True):
        for gang in each:
            part = widest[gang : gang + model.gpus_required]
            np.maximum(part, model.gpus_required, out=part)
    rank = np.empty(gpus, np.int64)
    rank[np.lexsort((np.arange(gpus), widest))] = np.arange(gpus)
    return rank


def whole(known: Workload, gangs: list[list[int]], size: int, servers: int) -> Longs:
    """Return for each workflow and server whether the server holds all models of the workflow: 1 or 0."""
    hosts = np.zeros((len(known.models), servers), bool)
    for model, each in enumerate(gangs):
        hosts[model, np.array(each, np.int64) // size] = True
    used = (np.unique(known.template_model[a:b]) for a, b in pairwise(known.template_start.tolist()))
    return np.concatenate([hosts[models].all(axis=0) for models in used]).astype(np.int64)
