"""The virtual clock: runs a policy over a workload and returns what happened."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from gsched.cluster import Cluster
from gsched.core import REFUSALS, arrive, backlog, enqueue, finish, start
from gsched.errors import InputError, PolicyError, Problem
from gsched.heap import Heap, heap_pop, heap_push
from gsched.jit import as_lists, compiled, kernel
from gsched.log import Gangs, Labels, Log
from gsched.metrics import summarize
from gsched.policies import Policy, find_policy
from gsched.state import FINISHED, FRESH, LOAD, NONE, STARTED, SWITCH, Core, Rows, gang_starts, new_core
from gsched.workload import Mode, Model, Workload

COMPILE_FROM = 50_000  # nodes; below, interpreting is over before compiled code is loaded
STRIDE, INTERPRETED_STRIDE = 250_000, 10_000  # nodes between two reports of progress

Progress = Callable[[int, int], None]
"""Called now and then with the number of started nodes and of all nodes."""

DONE, PAUSED, STUCK = 1, 2, 3


class Clock(NamedTuple):
    """What the virtual clock knows and the core does not: arrivals to come, durations, and nodes under way."""

    admission: Any  # (requests) requests in the order of their arrival
    arrival: Any  # (requests) seconds, in that order
    duration: Any  # (nodes) seconds
    ends: Heap  # (GPUs) running gangs by end
    count: Any  # RUNNING gangs, ADMITTED requests


RUNNING, ADMITTED = 0, 1


def simulate(
    workload: Workload,
    cluster: Cluster,
    policy: object = "baseline",
    mode: Mode = "offline",
    *,
    compile: bool | None = None,
    progress: Progress | None = None,
) -> Log:
    """Run a policy over a workload in virtual time.

    Args:
        workload: what to execute.
        cluster: where.
        policy: name of a built-in policy, `path.py:Class`, or an object with a method `choose` (docs/policies.md).
        mode: `offline`, all requests arrive at 0; `online`, each at its timestamp.
        compile: whether to run compiled code; by default, where a workload is large enough to gain by it.
        progress: called now and then.

    Raises:
        InputError: the policy is not to be had, or a model is larger than the cluster.
        PolicyError: the policy decided something against the rules, or waits for ever.
    """
    chosen = find_policy(policy)
    rows = execute(workload, cluster, chosen, mode, compile=compile, progress=progress)
    log = _log(workload, rows)
    kinds = np.bincount(rows.kind, minlength=3)
    return summarize(log, workload, cluster, mode, chosen.name, loads=int(kinds[LOAD]), switches=int(kinds[SWITCH]))


def execute(
    workload: Workload,
    cluster: Cluster,
    policy: Policy,
    mode: Mode,
    *,
    compile: bool | None = None,
    progress: Progress | None = None,
) -> Rows:
    """Run a policy and return what happened, in arrays."""
    require_fit(workload.used_models, cluster)
    core = new_core(workload, cluster, in_order=policy.order is None)
    clock = _new_clock(workload, cluster, mode)
    table = policy.prepare(workload, cluster)
    use_compiled = policy.compilable and (workload.node_count >= COMPILE_FROM if compile is None else compile)
    stride = STRIDE if use_compiled else INTERPRETED_STRIDE
    if use_compiled:
        advance = _compiled_advance(policy.choose, policy.order)
        state = core
    else:
        advance = _make_advance(policy.choose, policy.order)
        state, clock, table = as_lists(core), as_lists(clock), as_lists(table)
    outcome = PAUSED
    while outcome == PAUSED:
        outcome = advance(state, clock, table, stride)
        if progress:
            progress(state.count[STARTED], workload.node_count)
    if outcome != DONE:
        raise PolicyError(_complaint(outcome, workload, state, policy))
    return Rows(*(np.asarray(column, like.dtype) for column, like in zip(state.rows, core.rows, strict=True)))


def require_fit(models: Iterable[Model], cluster: Cluster) -> None:
    """Raise an `InputError` that lists the models for which the cluster has no gang."""
    has = f"the cluster has {cluster.gpus}"
    problems = [
        Problem("", f"model {model.id}", f"needs {model.gpus_required} GPUs, {has}", "add GPUs")
        for model in models
        if not gang_starts(cluster, model.gpus_required)
    ]
    if problems:
        raise InputError(problems)


def _new_clock(workload: Workload, cluster: Cluster, mode: Mode) -> Clock:
    arrival = workload.arrival(mode)
    admission = np.argsort(arrival, kind="stable")
    gpus = cluster.gpus
    ends = Heap(np.zeros(gpus), np.zeros(gpus, np.int64), np.zeros(gpus, np.int32))
    return Clock(admission, arrival[admission], workload.duration.copy(), ends, np.zeros(2, np.int64))


@kernel
def next_event(clock: Clock) -> float:
    """Return the time of the next end or arrival, or infinity."""
    time = np.inf
    if clock.count[RUNNING] > 0:
        time = clock.ends.key[0]
    arrived = clock.count[ADMITTED]
    if arrived < len(clock.arrival):
        time = min(time, clock.arrival[arrived])
    return time


@kernel
def take_event(core: Core, clock: Clock) -> bool:
    """Apply the next event of the current time, ends before arrivals; tell whether there was one."""
    now = core.now[0]
    if clock.count[RUNNING] > 0 and clock.ends.key[0] == now:
        finish(core, heap_pop(clock.ends, 0, clock.count[RUNNING]))
        clock.count[RUNNING] -= 1
        return True
    arrived = clock.count[ADMITTED]
    if arrived < len(clock.arrival) and clock.arrival[arrived] == now:
        arrive(core, clock.admission[arrived])
        clock.count[ADMITTED] += 1
        return True
    return False


@cache
def _compiled_advance(choose: Any, order: Any) -> Any:
    return compiled(_make_advance(choose, order))


def _make_advance(choose: Any, order: Any) -> Any:
    """Return the event loop for a policy; compiled or not, it is the same code."""

    def advance(core: Core, clock: Clock, table: Any, budget: int) -> int:
        """Run until `budget` more nodes have started, or the end."""
        pause = core.count[STARTED] + budget
        while core.count[FINISHED] < len(core.pending):
            if core.count[STARTED] >= pause:
                return PAUSED
            now = next_event(clock)
            if now == np.inf:
                return STUCK
            core.now[0] = now
            while take_event(core, clock):
                for i in range(core.count[FRESH]):
                    node = core.fresh[i]
                    enqueue(core, node, now if order is None else order(core, table, node))
            while True:
                model, gang = choose(core, table)
                if model == NONE:
                    break
                row = start(core, model, gang)
                if row < 0:
                    return row
                end = now + core.rows.switch[row] + clock.duration[core.rows.node[row]]
                heap_push(clock.ends, 0, clock.count[RUNNING], end, row, gang)
                clock.count[RUNNING] += 1
        return DONE

    return advance


def _complaint(outcome: int, workload: Workload, core: Core, policy: Policy) -> str:
    """Return what a policy did wrong, in words."""
    when = f"policy {policy.name} at {core.now[0]:g} s"
    if outcome == STUCK:
        ready = sum(backlog(core, model) for model in range(len(workload.models)))
        return f"{when}: waits although {ready} nodes are ready and nothing is left to wait for"
    return f"{when}: its decision is refused, {REFUSALS[outcome]}"


def _log(workload: Workload, rows: Rows) -> Log:
    """Return what happened as a log without a summary."""
    node = rows.node
    request, template = workload.request[node], workload.template[node]
    model = workload.template_model[template]
    size = np.array([model.gpus_required for model in workload.models], np.int32)[model]
    start_time = rows.time + rows.switch
    duration = workload.duration[node]
    local_ids = Labels.of([node.id for flow in workload.workflows for node in flow.nodes])
    return Log(
        request_id=Labels(request, workload.request_ids),
        workflow_id=Labels(workload.workflow[request], list(workload.config.workflows)),
        node_id=Labels(local_ids.codes[template], local_ids.values),
        model_name=Labels(model, list(workload.config.models)),
        gpu_id=rows.gang,
        start_time=start_time,
        end_time=start_time + duration,
        execution_time=duration,
        gpu_ids=Gangs.consecutive(rows.gang, size),
        estimated_time=duration,
        switch_time=rows.switch,
        ready_time=rows.ready,
        waiting_time=rows.time - rows.ready,
    )
