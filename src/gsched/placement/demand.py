"""What a workload asks of each model: seconds of work, and how often its output goes to which other model."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gsched.errors import InputError, Problem
from gsched.workload import Floats, Mode, Workload


class Demand(NamedTuple):
    """The demand for each of M models, by position; sums over the batch offline, per request online.

    Args:
        work: seconds that gangs of the model execute, shape (M,).
        nodes: how many nodes the model executes, shape (M,).
        edges: how many edges lead between nodes of two models, in either direction, shape (M, M).
        flow: how often each workflow is requested, shape (workflows,).
        models: the models of each workflow.
        needed: whether the model must be placed, shape (M,).
    """

    work: Floats
    nodes: Floats
    edges: Floats
    flow: Floats
    models: tuple[tuple[int, ...], ...]
    needed: Any


def find_demand(known: Workload, mode: Mode) -> Demand:
    """Return the demand of the known requests; where none are known, of one average request for the workflows.

    Online nothing is known at first: the workflows' weights and the models' mean durations then say what to expect.
    Offline the models that the batch uses are needed; online those of all workflows, whatever their weight.

    Raises:
        InputError: no requests are known and a model has no profile, so that its share of the work is unknown.
    """
    count = len(known.models)
    if mode == "offline" or known.request_count:
        flow = np.bincount(known.workflow, minlength=len(known.workflows)).astype(float)
        nodes = np.bincount(known.model, minlength=count).astype(float)
        work = np.bincount(known.model, known.duration, minlength=count).astype(float)
    else:
        weights = np.array([workflow.weight for workflow in known.workflows])
        flow = weights / (weights.sum() or 1.0)
        per_template = np.repeat(flow, np.diff(known.template_start))
        nodes = np.bincount(known.template_model, per_template, minlength=count)
        work = nodes * _mean_durations(known, flow)
    wanted = _templates(known, flow > 0) if mode == "offline" else slice(None)
    needed = np.bincount(known.template_model[wanted], minlength=count) > 0
    start = known.template_start.tolist()
    models = tuple(tuple(sorted(set(known.template_model[a:b].tolist()))) for a, b in pairwise(start))
    return Demand(work, nodes, _edges(known, flow), flow, models, needed)


def _templates(known: Workload, wanted: Any) -> Any:
    """Return the positions of the nodes of the wanted workflows."""
    return np.flatnonzero(np.repeat(wanted, np.diff(known.template_start)))


def _mean_durations(known: Workload, flow: Floats) -> Floats:
    """Return the seconds that a node of each model is expected to take, shape (M,); 0 for models that nobody uses."""
    used = set(known.template_model[_templates(known, flow > 0)].tolist())
    unknown = [model.id for i, model in enumerate(known.models) if i in used and model.mean_duration is None]
    if unknown:
        message = "has no profile, so its share of the work is unknown before requests arrive"
        hint = "give it tokens_per_second and token_mean, or inference_time_mean, or a history of requests"
        raise InputError([Problem("", f"model {id}", message, hint) for id in unknown])
    return np.array([model.mean_duration or 0.0 if i in used else 0.0 for i, model in enumerate(known.models)])


def _edges(known: Workload, flow: Floats) -> Floats:
    edges = np.zeros((len(known.models), len(known.models)))
    for position, workflow in enumerate(known.workflows):
        first = known.template_start[position]
        for a, b in workflow.edges:
            x, y = known.template_model[first + a], known.template_model[first + b]
            edges[x, y] += flow[position]
            if x != y:
                edges[y, x] += flow[position]
    return edges
