"""Workloads made of other workloads: more or less load, or without a model."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gsched.errors import InputError
from gsched.workload import Config, Longs, Mode, PlacementRules, Workload

_MOST = 2**31 - 1  # nodes of a workload, and what is added to its requests is counted so far, too


def scaled(workload: Workload, factor: float, mode: Mode) -> Workload:
    """Return a workload of `factor` times the load; the very same for a factor of 1.

    Online, requests arrive `factor` times as fast: the time from the earliest arrival to each other one is divided by
    it and rounded to the nanosecond. Offline, where nothing arrives, there are `factor` times as many requests: whole
    copies, named like `req_1~2`, and for the rest, rounded, requests at even distances in their order. Copies have no
    details.

    Args:
        workload: what is changed.
        factor: above 0.
        mode: how requests arrive.

    Raises:
        InputError: the factor is no number above 0, no request would be left, there would be 2**31 nodes or more, or
            arrivals would be too far apart for nanoseconds in 64 bits.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise _problem(factor, "is no number above 0")
    if factor == 1 or not workload.request_count:
        return workload
    return _faster(workload, factor) if mode == "online" else _more(workload, factor)


def _problem(factor: float, message: str) -> InputError:
    return InputError.one("", f"load {factor:g}", message, "such as 1.5 for half as much again")


def _faster(workload: Workload, factor: float) -> Workload:
    earliest = workload.timestamp.min()
    since = workload.timestamp - earliest
    if float(earliest) + float(since.max()) / factor >= 2.0**63:
        raise _problem(factor, "leaves arrivals too far apart")
    return replace(workload, timestamp=earliest + np.rint(since / factor).astype(np.int64))


def _more(workload: Workload, factor: float) -> Workload:
    count = workload.request_count
    if factor * workload.node_count > _MOST:
        raise _problem(factor, f"makes more than {_MOST:,} nodes")
    copies, rest = divmod(round(factor * count), count)
    if not copies and not rest:
        raise _problem(factor, "leaves no request")
    parts = [np.arange(count)] * copies + [_spread(rest, count)]
    ids = _copied_ids(workload.request_ids, parts)
    return _joined([workload.select(part) for part in parts], ids)


def _joined(parts: Sequence[Workload], ids: Sequence[str]) -> Workload:
    """Return the requests of several workloads of one config, under other names."""

    def column(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else np.concatenate(columns)

    names = ("workflow", "timestamp", "duration", "deadline", "tier")
    return Workload(parts[0].config, ids, **{name: column(name) for name in names})


def _spread(some: int, count: int) -> Longs:
    """Return so many of the positions 0 to `count - 1`, at even distances."""
    return (2 * np.arange(some, dtype=np.int64) + 1) * count // (2 * some or 1)


def _copied_ids(ids: Sequence[str], parts: Sequence[Longs]) -> list[str]:
    """Return unique names for copies of requests: no given name ends like one of a second or later copy."""
    mark = "~"
    while any(re.search(rf"{mark}[0-9]+\Z", id) for id in ids):
        mark += "~"
    ends = ["", *(f"{mark}{copy}" for copy in range(2, len(parts) + 1))]
    return [ids[i] + end for part, end in zip(parts, ends, strict=True) for i in part.tolist()]


def without_model(workload: Workload, model: str) -> Workload:
    """Return a workload without a model, the workflows that use it and their requests; without details.

    Raises:
        InputError: there is no such model, or without it no request is left.
    """
    config = workload.config
    if model not in config.models:
        raise InputError.one("", f"model {model}", "is unknown", f"choose one of {', '.join(config.models)}")
    stays = [all(node.model != model for node in flow.nodes) for flow in workload.workflows]
    kept = np.flatnonzero(np.array(stays)[workload.workflow])
    if not len(kept):
        raise InputError.one("", f"model {model}", "is used by all requests", "choose another one")
    rest = Config(
        {id: other for id, other in config.models.items() if id != model},
        {id: flow for (id, flow), stay in zip(config.workflows.items(), stays, strict=True) if stay},
        _without(config.placement, model),
    )
    part = workload.select(kept)
    return replace(part, config=rest, workflow=(np.cumsum(stays) - 1)[part.workflow])


def _without(rules: PlacementRules, model: str) -> PlacementRules:
    """Return the rules that are left for the other models; a group of one asks for nothing."""
    groups = (tuple(member for member in group if member != model) for group in rules.groups)
    pins = tuple(pin for pin in rules.pins if pin.model != model)
    return PlacementRules(pins, tuple(group for group in groups if len(group) > 1))
