"""The virtual clock: runs a policy over a workload and returns what happened."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from gsched.bounds import lower_bounds
from gsched.cluster import Cluster
from gsched.core import REFUSALS, arrive, backlog, enqueue, finish, start
from gsched.errors import PolicyError
from gsched.heap import Heap, heap_pop, heap_push
from gsched.jit import compiled, kernel
from gsched.log import Log
from gsched.metrics import summarize
from gsched.policies import Policy, Setting, find_policy
from gsched.session import Session, known_before, log_of
from gsched.state import FINISHED, FRESH, LOAD, NONE, STARTED, SWITCH, Core, Rows
from gsched.workload import Floats, Mode, Workload

COMPILE_FROM = 50_000  # nodes; below, interpreting is over before compiled code is loaded
STRIDE, INTERPRETED_STRIDE = 250_000, 10_000  # nodes between two reports of progress

Progress = Callable[[int, int], None]
"""Called now and then with the number of started nodes and of all nodes."""

DONE, PAUSED, STUCK = 1, 2, 3

ALARMS = 10_000  # a policy may be woken so often in a row without anything happening


class Clock(NamedTuple):
    """What the virtual clock knows and the core does not: arrivals to come, durations, and nodes under way."""

    admission: Any  # (requests) requests in the order of their arrival
    arrival: Any  # (requests) seconds, in that order
    duration: Any  # (nodes) seconds
    ends: Heap  # (GPUs) running gangs by end
    count: Any  # RUNNING gangs, ADMITTED requests, number of those at which to REVIEW


RUNNING, ADMITTED, REVIEW = 0, 1, 2


def simulate(
    workload: Workload,
    cluster: Cluster,
    policy: object = "baseline",
    mode: Mode = "offline",
    *,
    options: Mapping[str, Any] | None = None,
    compile: bool | None = None,
    progress: Progress | None = None,
    planning: Callable[[float], None] | None = None,
    estimator: str = "recorded",
    actual: Floats | None = None,
) -> Log:
    """Run a policy over a workload in virtual time.

    Args:
        workload: what to execute.
        cluster: where.
        policy: name of a built-in policy, `path.py:Class`, or an object with a method `choose` (docs/policies.md).
        mode: `offline`, all requests arrive at 0; `online`, each at its timestamp.
        options: options of the policy, by name.
        compile: whether to run compiled code; by default, where a workload is large enough to gain by it.
        progress: called now and then.
        planning: called now and then with the share that is done, while the policy plans before the run.
        estimator: where the workload's durations came from: `recorded` in its requests, `profile` or `api`.
        actual: seconds that each node really takes, shape (N,), where the policy is to expect others.

    Raises:
        InputError: the policy or an option of it is not to be had, or a model is larger than the cluster.
        PolicyError: the policy decided something against the rules, or waits for ever.
    """
    chosen = find_policy(policy, options)
    setting = new_setting(workload, cluster, mode, planning or _ignore, compile)
    truth = workload if actual is None else replace(workload, duration=actual)
    run = _completed(workload, setting, chosen, compile, progress, truth.duration)
    rows, placement = run.session.rows, run.session.placement
    del run  # its state is as large as all that follows
    bounds = lower_bounds(truth, cluster, mode, preloaded=bool(placement))  # before the log, as it takes much memory
    log = log_of(workload, rows, truth.duration[rows.node])
    kinds = np.bincount(rows.kind, minlength=3)
    return summarize(
        log,
        workload,
        cluster,
        mode,
        chosen.name,
        bounds=bounds,
        node=rows.node,
        loads=int(kinds[LOAD]),
        switches=int(kinds[SWITCH]),
        placement=placement,
        options=chosen.options,
        estimator=estimator,
    )


def execute(
    workload: Workload,
    cluster: Cluster,
    policy: Policy,
    mode: Mode,
    *,
    compile: bool | None = None,
    progress: Progress | None = None,
    planning: Callable[[float], None] | None = None,
) -> Rows:
    """Run a policy and return what happened, in arrays.

    Raises:
        InputError: a model is larger than the cluster, or the policy does not work in this mode.
        PolicyError: the policy decided something against the rules, or waits for ever.
    """
    setting = new_setting(workload, cluster, mode, planning or _ignore, compile)
    return _completed(workload, setting, policy, compile, progress, workload.duration).session.rows


def _completed(
    workload: Workload,
    setting: Setting,
    policy: Policy,
    compile: bool | None,
    progress: Progress | None,
    duration: Floats,
) -> "_Run":
    """Return a run that is over, in which nodes took so many seconds."""
    run = _Run(workload, setting, policy, duration, use_compiled(workload, policy, compile))
    outcome = PAUSED
    while outcome == PAUSED:
        outcome = run.advance()
        if progress:
            progress(run.session.core.count[STARTED], workload.node_count)
    if outcome != DONE:
        raise PolicyError(_complaint(outcome, workload, run.session.core, policy))
    return run


def use_compiled(workload: Workload, policy: Policy, wish: bool | None) -> bool:
    """Tell whether to run compiled code."""
    return policy.compilable and (workload.node_count >= COMPILE_FROM if wish is None else wish)


class _Run:
    """A run under way in virtual time."""

    def __init__(self, workload: Workload, setting: Setting, policy: Policy, duration: Floats, compiled: bool) -> None:
        self.session = Session(workload, setting, policy, compiled=compiled, in_order=True)
        self._clock = self.session.form(_new_clock(workload, duration, setting.cluster, setting.mode))
        advance = _compiled_advance if compiled else _make_advance
        self._advance = advance(policy.choose, policy.order)
        self._stride = STRIDE if compiled else INTERPRETED_STRIDE
        self._clock.count[REVIEW] = self.session.next_review

    def advance(self) -> int:
        """Run for a while and return the outcome."""
        clock, session = self._clock, self.session
        if clock.count[ADMITTED] >= clock.count[REVIEW] > 0:
            session.review(np.array(clock.admission[: clock.count[ADMITTED]], np.int64))
            clock.count[REVIEW] = session.next_review
        outcome: int = self._advance(session.core, clock, session.table, self._stride)
        return outcome


def _ignore(_share: float) -> None:
    pass


def new_setting(
    workload: Workload, cluster: Cluster, mode: Mode, planning: Callable[[float], None], compile: bool | None
) -> Setting:
    """Return what a policy is told before a run; its trials are simulations."""

    def trial(policy: Policy, part: Workload, times: int = 1) -> Rows:
        many = compile is None and part.node_count * times >= COMPILE_FROM
        return execute(part, cluster, policy, mode, compile=many or compile)

    return Setting(known_before(workload, mode), cluster, mode, trial, planning)


def _new_clock(workload: Workload, duration: Floats, cluster: Cluster, mode: Mode) -> Clock:
    arrival = workload.arrival(mode)
    admission = np.argsort(arrival, kind="stable")
    gpus = cluster.gpus
    ends = Heap(np.zeros(gpus), np.zeros(gpus, np.int64), np.zeros(gpus, np.int32))
    return Clock(admission, arrival[admission], duration.copy(), ends, np.zeros(3, np.int64))


@kernel
def next_event(core: Core, clock: Clock) -> float:
    """Return the time of the next end, arrival or alarm, or infinity."""
    time: float = core.alarm[0]
    if clock.count[RUNNING] > 0:
        time = min(time, clock.ends.key[0])
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
        alarms = 0
        while core.count[FINISHED] < len(core.pending):
            if core.count[STARTED] >= pause or clock.count[ADMITTED] >= clock.count[REVIEW] > 0:
                return PAUSED
            now = next_event(core, clock)
            if now == np.inf or alarms > ALARMS:
                return STUCK
            core.now[0] = now
            core.alarm[0] = np.inf
            alarms += 1
            while take_event(core, clock):
                alarms = 0
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
