"""Durations of all nodes: as the requests give them, else from the models' profiles."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gsched.cluster import LARGEST
from gsched.errors import InputError, Problem
from gsched.load.fields import known_names, number_complaint
from gsched.workload import Config, Floats, Ints, Longs, Workload

LISTED = 1000  # problems of one kind that are worth telling one by one

Note = Callable[[int, str, str, str], None]
"""Notes an error: request, node (or ""), message, hint."""


class Given(NamedTuple):
    """Execution times as found in a file: of request i, the entries from `first[i]` to `first[i + 1]`."""

    first: Longs
    node: Ints  # position in `node_ids`
    node_ids: Sequence[str]
    seconds: Floats


def resolve(config: Config, workflow: Ints, given: Given, note: Note) -> Floats:
    """Return the seconds of every node, request by request, shape (N,); meaningless where an error was noted.

    Args:
        config: models and workflows.
        workflow: position of each request's workflow.
        given: execution times that the requests bring.
        note: called with each error.
    """
    flows = list(config.workflows.values())
    sizes = np.array([len(flow.nodes) for flow in flows], np.int64)
    first = np.concatenate([[0], np.cumsum(sizes[workflow])])
    request = np.repeat(np.arange(len(workflow)), np.diff(given.first))
    local = _local_positions(config, given.node_ids)[workflow[request], given.node]
    known = local >= 0
    _note_unknown(config, workflow, given, request, known, note)
    _note_bad_values(given, request, note)
    node = first[request[known]] + local[known]
    seconds = _profile_durations(config)[_templates(sizes, workflow, first)]
    _note_missing(config, workflow, first, node, seconds, note)
    seconds[node] = given.seconds[known]
    _note_twice(given, request, known, node, note)
    return seconds


def by_profile(workload: Workload) -> Workload:
    """Return a workload whose nodes all take as long as the profiles of their models say.

    Raises:
        InputError: a model that requests use has no profile.
    """
    lacking = [model for model in workload.used_models if model.mean_duration is None]
    if lacking:
        hint = "give it tokens_per_second and token_mean, or inference_time_mean"
        raise InputError(Problem("", f"model {model.id}", "has no profile", hint) for model in lacking)
    return replace(workload, duration=_profile_durations(workload.config)[workload.template])


def _local_positions(config: Config, node_ids: Sequence[str]) -> Ints:
    """Return the position of each id in each workflow, or -1: shape (workflows, ids)."""
    flows = config.workflows.values()
    positions = np.full((len(flows), max(len(node_ids), 1)), -1, np.int32)
    for row, flow in zip(positions, flows, strict=True):
        of = {node.id: i for i, node in enumerate(flow.nodes)}
        row[: len(node_ids)] = [of.get(id, -1) for id in node_ids]
    return positions


def _profile_durations(config: Config) -> Floats:
    """Return the seconds that each workflow's nodes take by their models' profiles, NaN without a profile."""
    means = [config.models[node.model].mean_duration for flow in config.workflows.values() for node in flow.nodes]
    return np.array([np.nan if mean is None else mean for mean in means], np.float64)


def _templates(sizes: Longs, workflow: Ints, first: Longs) -> Longs:
    """Return the position of each node among the nodes of all workflows."""
    shift = (np.cumsum(sizes) - sizes)[workflow] - first[:-1]
    templates: Longs = np.arange(first[-1]) + np.repeat(shift, sizes[workflow])
    return templates


def _note_unknown(config: Config, workflow: Ints, given: Given, request: Longs, known: np.ndarray, note: Note) -> None:
    flows = list(config.workflows.values())
    for entry in np.flatnonzero(~known)[:LISTED].tolist():
        flow, id = flows[workflow[request[entry]]], given.node_ids[given.node[entry]]
        hint = known_names(id, [node.id for node in flow.nodes])
        note(int(request[entry]), id, f"is no node of {flow.id}", hint)


def _note_twice(given: Given, request: Longs, known: np.ndarray, node: Longs | Ints, note: Note) -> None:
    seen = np.zeros(int(node.max(initial=-1)) + 1, np.bool_)
    seen[node] = True
    if np.count_nonzero(seen) == len(node):
        return
    order = np.argsort(node, kind="stable")
    again = np.flatnonzero(known)[order[1:][node[order[1:]] == node[order[:-1]]]]
    for entry in again[:LISTED].tolist():
        note(int(request[entry]), given.node_ids[given.node[entry]], "is given twice", "remove one of them")


def _note_bad_values(given: Given, request: Longs, note: Note) -> None:
    bad = np.flatnonzero(~((given.seconds >= 0) & (given.seconds <= LARGEST)))
    for entry in bad[:LISTED].tolist():
        complaint = number_complaint(float(given.seconds[entry])) or ("", "")
        note(int(request[entry]), given.node_ids[given.node[entry]], *complaint)


def _note_missing(
    config: Config, workflow: Ints, first: Longs, given: Longs | Ints, seconds: Floats, note: Note
) -> None:
    lacking = np.isnan(seconds)
    lacking[given] = False
    flows = list(config.workflows.values())
    for node in np.flatnonzero(lacking)[:LISTED].tolist():
        request = int(np.searchsorted(first, node, side="right")) - 1
        step = flows[workflow[request]].nodes[node - first[request]]
        hint = f"give it, or give {step.model} tokens_per_second and token_mean, or inference_time_mean"
        note(request, step.id, "has no execution time", hint)
