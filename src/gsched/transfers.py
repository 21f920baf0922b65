"""What the rows of a log moved onto GPUs: the rows of a run replayed by the rules of the simulated world."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gsched.checker.outcome import Interruption, read_outcome
from gsched.cluster import LARGEST, Cluster
from gsched.errors import InputError
from gsched.jit import as_lists
from gsched.log import Log
from gsched.residency import occupy, restore, vacate, withdraw
from gsched.state import SWITCH, WARM, gang_starts, new_core
from gsched.workload import Config, Floats, Ints, Longs, Workload

Bools = npt.NDArray[np.bool_]


class Moves(NamedTuple):
    """What the n rows of a log had to move, each value of shape (n,)."""

    node: Longs  # position of the row's node in the workload
    kind: Ints  # WARM, LOAD or SWITCH
    gigabytes: Floats  # of a switch: what leaves the GPU that has most to do, and what comes
    mixed: Bools  # switches that also filled an empty GPU, whose seconds may be either's


def nodes_of(log: Log, workload: Workload, source: object = "log") -> Longs:
    """Return the position in the workload of the node of each row, shape (n,).

    Raises:
        InputError: a row is of no node of the workload, of another model than that has, or of one seen before.
    """
    request = _positions(log.request_id.values, workload.request_ids)[log.request_id.codes]
    _refuse_first(request < 0, log, source, "is of a request that is not in the requests")
    flow = workload.workflow[request]
    local = _local_positions(log.node_id.values, workload.config)[flow, log.node_id.codes]
    _refuse_first(local < 0, log, source, "is of a node that the request's workflow does not have")
    model = _positions(log.model_name.values, list(workload.config.models))[log.model_name.codes]
    expected = workload.template_model[workload.template_start[flow] + local]
    _refuse_first(model != expected, log, source, "names another model than the configuration does")
    node: Longs = workload.first_node[request] + local
    again = np.ones(len(node), np.bool_)
    again[np.unique(node, return_index=True)[1]] = False
    _refuse_first(again, log, source, "is of a node that an earlier row executed")
    return node


def _positions(labels: Sequence[str], names: Sequence[str]) -> Longs:
    """Return the position of each label among the names, -1 where it is none of them."""
    position = {name: i for i, name in enumerate(names)}
    return np.array([position.get(label, -1) for label in labels], np.int64)


def _local_positions(labels: Sequence[str], config: Config) -> Longs:
    """Return the position of each node id in each workflow, or -1: shape (workflows, ids)."""
    flows = [[node.id for node in flow.nodes] for flow in config.workflows.values()]
    return np.array([_positions(labels, ids) for ids in flows], np.int64)


def _refuse_first(bad: Bools, log: Log, source: object, message: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        id, node = (column.values[column.codes[row]] for column in (log.request_id, log.node_id))
        hint = "give the configuration and the requests that were run; gsched check finds all that differs"
        raise InputError.one(source, f"executions[{row}]", f"node {node} of {id} {message}", hint)


def moves_of(log: Log, workload: Workload, cluster: Cluster, source: object = "log") -> Moves:
    """Return what each row of a log had to move; nothing where a static deployment was in place.

    Args:
        log: rows in the order of the decisions, with `switch_time`; GPUs that an interruption took are empty after it.
        workload: what was executed.
        cluster: where.
        source: of the log, for errors.

    Raises:
        InputError: a row is of no node of the workload, or its GPUs are no gang of the cluster.
    """
    count = len(log)
    node = nodes_of(log, workload, source)
    if log.extra.get("placement"):
        return Moves(node, np.full(count, WARM, np.int32), np.zeros(count), np.zeros(count, np.bool_))
    _require_gangs(log, node, workload, cluster, source)
    core = as_lists(_measuring_core(workload, cluster))
    away = sorted(interruptions(log, source), key=lambda interruption: interruption.start_time, reverse=True)
    latest = _decided(log, source)
    latest += 1e-9 * np.abs(log.start_time)  # the difference is rounded
    for row, (model, gang) in enumerate(zip(workload.model[node].tolist(), log.gpu_id.tolist(), strict=True)):
        while away and away[-1].start_time <= latest[row]:
            for gpu in away.pop().gpu_ids:
                if 0 <= gpu < cluster.gpus:
                    withdraw(core, gpu, gpu + 1, 0.0)
                    restore(core, gpu, gpu + 1)
        occupy(core, model, gang, row)
        vacate(core, model, gang)
    kind = np.array(core.rows.kind[:count], np.int32)
    moved = np.array(core.rows.switch[:count])
    mixed = (kind == SWITCH) & (moved >= LARGEST)
    return Moves(node, kind, np.where((kind == SWITCH) & ~mixed, moved, 0.0), mixed)


def _measuring_core(workload: Workload, cluster: Cluster) -> Any:
    """Return a core in which a switch costs its gigabytes, and filling an empty GPU more than any of them."""
    measure = replace(cluster, pcie_bandwidth=1.0, switch_overhead=0.0)
    models = {id: replace(model, load_time_seconds=LARGEST) for id, model in workload.config.models.items()}
    marked = replace(workload, config=replace(workload.config, models=models))
    return new_core(marked, measure, "offline", in_order=True, shared=cluster.residency == "shared")


def _require_gangs(log: Log, node: Longs, workload: Workload, cluster: Cluster, source: object) -> None:
    size = np.array([model.gpus_required for model in workload.models], np.int64)[workload.model[node]]
    starts = {width: gang_starts(cluster, width) for width in np.unique(size).tolist()}
    for row, (gpu, width) in enumerate(zip(log.gpu_id.tolist(), size.tolist(), strict=True)):
        if gpu not in starts[width]:
            message = f"no gang of {width} begins at GPU {gpu} of this cluster"
            raise InputError.one(source, f"executions[{row}]", message, "give the configuration that was run")


def _decided(log: Log, source: object) -> Floats:
    """Return when each row began to occupy its GPUs."""
    if log.switch_time is None:
        hint = "give a log that gsched run wrote"
        raise InputError.one(source, "executions", "have no switch_time, so loading is not told", hint)
    decided: Floats = log.start_time - log.switch_time
    return decided


def interruptions(log: Log, source: object = "log") -> tuple[Interruption, ...]:
    """Return when which GPUs were away, in the order of the file.

    Raises:
        InputError: the list is not well formed.
    """
    outcome = read_outcome(log.summary, log.extra)
    if wrong := outcome.wrong.get("interruptions"):
        raise InputError.one(source, "", wrong, "gsched check tells what it should be")
    return outcome.interruptions
