"""The rules that the checker checks, each in a few lines over the facts of a log."""

import math
import sys
from collections.abc import Callable, Iterator
from reprlib import repr as shortened
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gsched.checker.facts import ABSOLUTE, RELATIVE, Array, Bools, Facts, matched
from gsched.log import TIMES, Gangs
from gsched.workload import Floats, Longs, Workload


class Problem(NamedTuple):
    """One way in which a rule is broken: what is wrong, the items to blame (if any), and what to say of each."""

    what: str
    items: Array | list[int]
    describe: Callable[[int], str]
    in_rows: bool = True  # items are rows of the log


class Rule(NamedTuple):
    """A rule: what it claims (for saying that it was not checked), what must be known, and what breaks it."""

    name: str
    claim: str
    needs: tuple[str, ...]
    find: Callable[[Facts], Iterator[Problem]]
    forget: tuple[str, ...] = ()  # large facts that no later rule needs

    def problems(self, facts: Facts) -> Iterator[Problem]:
        """Yield what breaks the rule."""
        yield from self.find(facts)
        facts.forget(*self.forget)


NEEDS = {
    "workload": "no workload was given",
    "cluster": "neither the caller nor the summary describes the cluster",
    "mode": "neither the caller nor the summary says whether requests arrive offline or online",
    "gangs": "the log has no gpu_ids",
    **{name: f"the log has no {name}" for name in ("workflow_id", *TIMES[2:])},
}


def has(facts: Facts, need: str) -> bool:
    """Return whether one of `NEEDS` is known."""
    return getattr(facts if need in ("workload", "cluster", "mode", "gangs") else facts.log, need) is not None


_Problems = Iterator[Problem]
T = TypeVar("T")

# What a log shows by itself


def _times(facts: Facts) -> _Problems:
    for name in TIMES:
        column = getattr(facts.log, name)
        if column is not None:
            yield from _sane(name, column)
    start, end, begin = facts.log.start_time, facts.log.end_time, facts.begin
    too_early = np.flatnonzero(begin < -ABSOLUTE)
    yield Problem("begins to load before time 0", too_early, lambda i: f"at {begin[i]}")
    yield Problem("ends before it starts", facts.exceeds(start, end), lambda i: f"{start[i]} to {end[i]}")


def _sane(name: str, column: Floats) -> _Problems:
    if column.size and column.min() >= -ABSOLUTE and column.max() < math.inf:
        return
    wrong = np.flatnonzero(~np.isfinite(column))
    yield Problem(f"{name} is not a finite number", wrong, lambda i: f"{column[i]}")
    negative = np.flatnonzero((column < -ABSOLUTE) & np.isfinite(column))
    yield Problem(f"{name} is negative", negative, lambda i: f"{column[i]}")


def _execution_time(facts: Facts) -> _Problems:
    yield _unequal(facts, "execution_time", facts.executed, "is not end_time - start_time")


def _waiting_time(facts: Facts) -> _Problems:
    expected = facts.begin - _known(facts.log.ready_time)
    yield _unequal(facts, "waiting_time", expected, "is not start_time - switch_time - ready_time")


def _unequal(facts: Facts, name: str, expected: Floats, what: str) -> Problem:
    given = getattr(facts.log, name)
    wrong = facts.exceeds(given, expected, either_way=True)
    return Problem(f"{name} {what}", wrong, lambda i: f"{given[i]}, not {expected[i]}")


def _loading(facts: Facts) -> _Problems:
    begin, ready = facts.begin, _known(facts.log.ready_time)
    early = facts.exceeds(ready, begin)
    yield Problem("loads or starts before it is ready", early, lambda i: f"from {begin[i]}, ready at {ready[i]}")


def _gang(facts: Facts) -> _Problems:
    gangs = _known(facts.gangs)
    yield Problem("has no GPUs", np.flatnonzero(gangs.sizes == 0), lambda _: "gpu_ids is empty")
    filled = gangs.sizes > 0
    begins = gangs.first[:-1][filled]
    wrong = np.ones(len(gangs.gpus), np.bool_)
    np.not_equal(np.diff(gangs.gpus), 1, out=wrong[1:])
    wrong[begins] = gangs.gpus[begins] != facts.log.gpu_id[filled]
    what = "gpu_ids is not gpu_id and the GPUs that follow it"
    yield Problem(what, _rows_of(facts, wrong), lambda i: f"gpu_id {facts.log.gpu_id[i]}, gpu_ids {_text(gangs, i)}")


def _gpus(facts: Facts) -> _Problems:
    count = _known(facts.cluster).gpus
    outside = [_rows_of(facts, _outside(facts.seen.gpus, count)), np.flatnonzero(_outside(facts.log.gpu_id, count))]
    what = f"runs on a GPU outside the cluster (0 to {count - 1})"
    yield Problem(what, np.union1d(*outside), lambda i: f"gpu_id {facts.log.gpu_id[i]}, gang {_text(facts.seen, i)}")


def _outside(gpus: Array, count: int) -> Bools:
    outside: Bools = (gpus < 0) | (gpus >= count)
    return outside


def _server(facts: Facts) -> _Problems:
    gangs, first, server = _known(facts.gangs), facts.log.gpu_id, _known(facts.cluster).server_size
    place = first % server
    wrong = np.flatnonzero(np.where(gangs.sizes <= server, place + gangs.sizes > server, place > 0))
    what = f"gang is neither inside a server of {server} GPUs nor, if larger, begins with one"
    yield Problem(what, wrong, lambda i: _text(gangs, i))


def _overlap(facts: Facts) -> _Problems:
    lanes, begin, end = facts.lanes, facts.begin, facts.log.end_time
    rows, first = np.unique(lanes.row[lanes.early], return_index=True)

    def describe(i: int) -> str:
        entry = lanes.early[first[np.searchsorted(rows, i)]]
        other = int(lanes.row[entry - 1])
        both = f"GPU {lanes.gpu[entry]} from {begin[i]} to {end[i]}, {facts.place(other)}"
        return f"{both} has it from {begin[other]} to {end[other]}"

    yield Problem("occupies a GPU that another row occupies", rows, describe)


def _doubled(facts: Facts) -> _Problems:
    yield Problem("executes a node that an earlier row executes", facts.repeated, lambda _: "executed again")


# What the workload asks for


def _unknown(facts: Facts) -> _Problems:
    strange = np.flatnonzero(~facts.known)
    yield Problem("executes what the workload does not contain", strange, lambda _: "unknown request or node")


def _missing(facts: Facts) -> _Problems:
    missing = np.flatnonzero(~facts.ran)
    yield Problem("never executed", missing, lambda node: _node(_known(facts.workload), node), in_rows=False)


def _workflow(facts: Facts) -> _Problems:
    workload, labels = _known(facts.workload), _known(facts.log.workflow_id)
    names = list(workload.config.workflows)
    expected = facts.of_request(workload.workflow, 0)
    wrong = np.flatnonzero((matched(labels, names) != expected) & facts.known)
    what = "workflow_id is not the request's"
    yield Problem(what, wrong, lambda i: f"{labels.values[labels.codes[i]]}, not {names[expected[i]]}")


def _model(facts: Facts) -> _Problems:
    labels, names = facts.log.model_name, list(_known(facts.workload).config.models)
    expected = facts.of_node(_known(facts.workload).model, 0)
    wrong = np.flatnonzero((facts.model != expected) & facts.known)
    what = "model_name is not the node's"
    yield Problem(what, wrong, lambda i: f"{labels.values[labels.codes[i]]}, not {names[expected[i]]}")


def _gang_size(facts: Facts) -> _Problems:
    workload, gangs = _known(facts.workload), _known(facts.gangs)
    required = np.array([model.gpus_required for model in workload.models], np.int64)
    expected = facts.of_node(required[workload.model], 0)
    wrong = np.flatnonzero((gangs.sizes != expected) & facts.known)
    what = "its gang is not as large as its model requires"
    yield Problem(what, wrong, lambda i: f"{gangs.sizes[i]} GPUs, not {expected[i]}")


def _duration(facts: Facts) -> _Problems:
    executed, expected = facts.executed, facts.of_node(_known(facts.workload).duration)
    wrong = facts.exceeds(executed, expected, either_way=True)
    what = "does not execute for as long as the workload says"
    yield Problem(what, wrong, lambda i: f"{executed[i]} s, not {expected[i]} s")


def _estimated_time(facts: Facts) -> _Problems:
    expected = facts.of_node(_known(facts.workload).duration)
    yield _unequal(facts, "estimated_time", expected, "is not the workload's")


def _arrival(facts: Facts) -> _Problems:
    begin, expected = facts.begin, facts.of_request(_known(facts.arrival))
    early = facts.exceeds(expected, begin)
    what = "loads or starts before its request arrives"
    yield Problem(what, early, lambda i: f"from {begin[i]}, arrival at {expected[i]}")


def _precedence(facts: Facts) -> _Problems:
    begin, expected = facts.begin, facts.of_node(facts.parents_end)
    early = facts.exceeds(expected, begin)

    def describe(i: int) -> str:
        workload, node = _known(facts.workload), int(facts.node[i])
        parent = max(_parents(workload, node), key=lambda parent: facts.end[parent])
        return f"from {begin[i]}, {_node(workload, parent)} ends at {expected[i]}"

    yield Problem("loads or starts before a parent ends", early, describe)


def _ready_time(facts: Facts) -> _Problems:
    expected = facts.of_request(_known(facts.arrival))
    np.maximum(expected, facts.of_node(facts.parents_end), out=expected)
    yield _unequal(facts, "ready_time", expected, "is not when it became ready")


def _switch_time(facts: Facts) -> _Problems:
    yield _unequal(facts, "switch_time", facts.cost, "is not what loading takes, given what the GPUs held")


def _warm(facts: Facts) -> _Problems:
    given, replay = _known(facts.log.switch_time), facts.replay
    wrong = np.flatnonzero((given > ABSOLUTE) & ~replay.replaces & ~replay.fills)
    yield Problem("loads although its GPUs hold its model", wrong, lambda i: f"{given[i]} s")


# Totals


def _summary(facts: Facts) -> _Problems:
    for name, expected in facts.totals.items():
        given = facts.log.summary.get(name)
        if given is not None and not _agrees(given, expected):
            yield _total(f"{name} is {shortened(given)}, the rows give {expected!r}")


_BOUNDS = (
    ("makespan", "lower_bound", "gap_percent"),
    ("average_request_time", "mean_latency_lower_bound", "mean_latency_gap_percent"),
)


def _bound(facts: Facts) -> _Problems:
    for total, bound_name, gap_name in _BOUNDS:
        value, bound = facts.totals.get(total), facts.log.summary.get(bound_name)
        if value is None or bound is None:
            continue
        if not _is_number(bound):
            yield _total(f"{bound_name} is {shortened(bound)}, not a number")
        elif value < bound - ABSOLUTE - RELATIVE * abs(bound):
            yield _total(f"the rows give a {total} of {value!r}, below the {bound_name} of {bound!r}")
        else:
            yield from _gap(facts, gap_name, value, bound)


def _gap(facts: Facts, name: str, value: float, bound: float) -> _Problems:
    given = facts.log.summary.get(name)
    if given is not None and bound > 0 and not _agrees(given, 100 * (value / bound - 1)):
        yield _total(f"{name} is {given!r}, the rows give {100 * (value / bound - 1)!r}")


def _total(text: str) -> Problem:
    return Problem("", [0], lambda _: text, in_rows=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _agrees(given: Any, expected: float) -> bool:
    return _is_number(given) and abs(given - expected) <= ABSOLUTE + RELATIVE * abs(expected)


# Helpers


def _known(value: T | None) -> T:
    """Return what the rule's `needs` promise."""
    assert value is not None
    return value


def _rows_of(facts: Facts, wrong: Bools) -> Longs:
    """Return the rows that have a wrong GPU among `seen.gpus`."""
    return np.unique(np.searchsorted(facts.seen.first, np.flatnonzero(wrong), side="right") - 1)


def _text(gangs: Gangs, row: int) -> str:
    return str(gangs.gpus[gangs.first[row] : gangs.first[row + 1]].tolist())


def _node(workload: Workload, node: int) -> str:
    request = workload.request[node]
    flow = workload.workflows[workload.workflow[request]]
    return f"request {workload.request_ids[request]}, node {flow.nodes[node - workload.first_node[request]].id}"


def _parents(workload: Workload, node: int) -> list[int]:
    request = workload.request[node]
    first = int(workload.first_node[request])
    return [first + parent for parent in workload.workflows[workload.workflow[request]].parents[node - first]]


_LANES = ("lanes", "replaced")

RULES = (
    Rule("times", "that times are sane", (), _times),
    Rule("execution_time", "execution_time", ("execution_time",), _execution_time),
    Rule("waiting_time", "waiting_time", ("waiting_time", "ready_time", "switch_time"), _waiting_time),
    Rule("loading", "that loading begins when a node is ready", ("ready_time",), _loading),
    Rule("gang", "that a gang is consecutive", ("gangs",), _gang),
    Rule("gpus", "that the GPUs exist", ("cluster",), _gpus),
    Rule("server", "that a gang stays inside a server", ("cluster", "gangs"), _server),
    Rule("overlap", "that a GPU runs one node at a time", (), _overlap),
    Rule("switch_time", "how long loading takes", ("workload", "cluster", "gangs", "switch_time"), _switch_time),
    Rule("warm", "that GPUs that hold a model do not load it again", ("gangs", "switch_time"), _warm, _LANES),
    Rule("doubled", "that no node is executed twice", (), _doubled),
    Rule("unknown", "that every row is a node of the workload", ("workload",), _unknown),
    Rule("missing", "that every node is executed", ("workload",), _missing),
    Rule("workflow", "workflow_id", ("workload", "workflow_id"), _workflow),
    Rule("model", "model_name", ("workload",), _model),
    Rule("gang_size", "that a gang is as large as its model requires", ("workload", "gangs"), _gang_size),
    Rule("duration", "how long nodes execute", ("workload",), _duration),
    Rule("estimated_time", "estimated_time", ("workload", "estimated_time"), _estimated_time),
    Rule("arrival", "that nodes start after their request arrives", ("workload", "mode"), _arrival),
    Rule("precedence", "that nodes start after their parents end", ("workload",), _precedence, ("begin",)),
    Rule("ready_time", "ready_time", ("workload", "mode", "ready_time"), _ready_time, ("parents_end",)),
    Rule("summary", "totals", (), _summary),
    Rule("bound", "the lower bound", (), _bound),
)
