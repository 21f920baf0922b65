"""The rules that the checker checks, each in a few lines over the facts of a log."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from gsched.checker.columns import ABSOLUTE, RELATIVE, Array, Bools, matched
from gsched.checker.facts import Facts
from gsched.checker.incidents import find_wrong_failures, find_wrong_interruptions
from gsched.checker.placements import find_misplaced, find_unfit, find_wrong_assignments
from gsched.checker.problems import Problem, Problems, known
from gsched.checker.statements import find_beaten_bounds, find_wrong_tiers, find_wrong_totals
from gsched.log import TIMES, Gangs
from gsched.workload import Floats, Workload


class Rule(NamedTuple):
    """A rule: what it claims (for saying that it was not checked), what must be known, and what breaks it."""

    name: str
    claim: str
    needs: tuple[str, ...]
    find: Callable[[Facts], Iterator[Problem]]
    forget: tuple[str, ...] = ()  # large facts that no later rule needs
    about: Callable[[Facts], bool] = lambda _: True  # whether it says anything of such a log

    def problems(self, facts: Facts) -> Iterator[Problem]:
        """Yield what breaks the rule."""
        yield from self.find(facts)
        facts.forget(*self.forget)


NEEDS = {
    "workload": "no workload was given",
    "cluster": "neither the caller nor the summary describes the cluster",
    "mode": "neither the caller nor the summary says whether requests arrive offline or online",
    "gangs": "the log has no gpu_ids",
    "residency": "models share GPUs and their memory is not known",
    "virtual": "times are measured",
    "recorded": "durations did not come from the requests",
    **{name: f"the log has no {name}" for name in ("workflow_id", *TIMES[2:])},
}


_OF_FACTS = ("workload", "cluster", "mode", "gangs", "residency", "virtual", "recorded")


def has(facts: Facts, need: str) -> bool:
    """Return whether one of `NEEDS` is known, or is so."""
    value = getattr(facts if need in _OF_FACTS else facts.log, need)
    return value is not None and value is not False


# What a log shows by itself


def _times(facts: Facts) -> Problems:
    for name in TIMES:
        column = getattr(facts.log, name)
        if column is not None:
            yield from _sane(name, column)
    start, end, begin = facts.log.start_time, facts.log.end_time, facts.begin
    too_early = np.flatnonzero(begin < -ABSOLUTE)
    yield Problem("begins to load before time 0", too_early, lambda i: f"at {begin[i]}")
    yield Problem("ends before it starts", facts.exceeds(start, end), lambda i: f"{start[i]} to {end[i]}")


def _sane(name: str, column: Floats) -> Problems:
    if column.size and column.min() >= -ABSOLUTE and column.max() < math.inf:
        return
    wrong = np.flatnonzero(~np.isfinite(column))
    yield Problem(f"{name} is not a finite number", wrong, lambda i: f"{column[i]}")
    negative = np.flatnonzero((column < -ABSOLUTE) & np.isfinite(column))
    yield Problem(f"{name} is negative", negative, lambda i: f"{column[i]}")


def _execution_time(facts: Facts) -> Problems:
    yield _unequal(facts, "execution_time", facts.executed, "is not end_time - start_time")


def _waiting_time(facts: Facts) -> Problems:
    expected = facts.begin - known(facts.log.ready_time)
    yield _unequal(facts, "waiting_time", expected, "is not start_time - switch_time - ready_time")


def _unequal(facts: Facts, name: str, expected: Floats, what: str) -> Problem:
    given = getattr(facts.log, name)
    wrong = facts.exceeds(given, expected, either_way=True)
    return Problem(f"{name} {what}", wrong, lambda i: f"{given[i]}, not {expected[i]}")


def _loading(facts: Facts) -> Problems:
    begin, ready = facts.begin, known(facts.log.ready_time)
    early = facts.exceeds(ready, begin)
    yield Problem("loads or starts before it is ready", early, lambda i: f"from {begin[i]}, ready at {ready[i]}")


def _gang(facts: Facts) -> Problems:
    gangs = known(facts.gangs)
    yield Problem("has no GPUs", np.flatnonzero(gangs.sizes == 0), lambda _: "gpu_ids is empty")
    filled = gangs.sizes > 0
    begins = gangs.first[:-1][filled]
    wrong = np.ones(len(gangs.gpus), np.bool_)
    np.not_equal(np.diff(gangs.gpus), 1, out=wrong[1:])
    wrong[begins] = gangs.gpus[begins] != facts.log.gpu_id[filled]
    what = "gpu_ids is not gpu_id and the GPUs that follow it"
    yield Problem(what, facts.rows_of(wrong), lambda i: f"gpu_id {facts.log.gpu_id[i]}, gpu_ids {_text(gangs, i)}")


def _gpus(facts: Facts) -> Problems:
    count = known(facts.cluster).gpus
    outside = [facts.rows_of(_outside(facts.seen.gpus, count)), np.flatnonzero(_outside(facts.log.gpu_id, count))]
    what = f"runs on a GPU outside the cluster (0 to {count - 1})"
    yield Problem(what, np.union1d(*outside), lambda i: f"gpu_id {facts.log.gpu_id[i]}, gang {_text(facts.seen, i)}")


def _outside(gpus: Array, count: int) -> Bools:
    outside: Bools = (gpus < 0) | (gpus >= count)
    return outside


def _server(facts: Facts) -> Problems:
    gangs, first, server = known(facts.gangs), facts.log.gpu_id, known(facts.cluster).server_size
    place = first % server
    wrong = np.flatnonzero(np.where(gangs.sizes <= server, place + gangs.sizes > server, place > 0))
    what = f"gang is neither inside a server of {server} GPUs nor, if larger, begins with one"
    yield Problem(what, wrong, lambda i: _text(gangs, i))


def _overlap(facts: Facts) -> Problems:
    lanes, begin, end = facts.lanes, facts.begin, facts.log.end_time
    rows, first = np.unique(lanes.row[lanes.early], return_index=True)

    def describe(i: int) -> str:
        entry = lanes.early[first[np.searchsorted(rows, i)]]
        other = int(lanes.row[entry - 1])
        both = f"GPU {lanes.gpu[entry]} from {begin[i]} to {end[i]}, {facts.place(other)}"
        return f"{both} has it from {begin[other]} to {end[other]}"

    yield Problem("occupies a GPU that another row occupies", rows, describe)


def _doubled(facts: Facts) -> Problems:
    yield Problem("executes a node that an earlier row executes", facts.repeated, lambda _: "executed again")


# What the workload asks for


def _unknown(facts: Facts) -> Problems:
    strange = np.flatnonzero(~facts.known)
    yield Problem("executes what the workload does not contain", strange, lambda _: "unknown request or node")


def _missing(facts: Facts) -> Problems:
    workload, failed = known(facts.workload), facts.outcome.failed
    missing = np.flatnonzero(~facts.ran)
    if failed:
        excused = np.fromiter((id in failed for id in workload.request_ids), np.bool_, workload.request_count)
        missing = missing[~excused[workload.request[missing]]]
    yield Problem("never executed", missing, lambda node: _node(workload, node), in_rows=False)


def _workflow(facts: Facts) -> Problems:
    workload, labels = known(facts.workload), known(facts.log.workflow_id)
    names = list(workload.config.workflows)
    expected = facts.of_request(workload.workflow, 0)
    wrong = np.flatnonzero((matched(labels, names) != expected) & facts.known)
    what = "workflow_id is not the request's"
    yield Problem(what, wrong, lambda i: f"{labels.values[labels.codes[i]]}, not {names[expected[i]]}")


def _model(facts: Facts) -> Problems:
    labels, names = facts.log.model_name, list(known(facts.workload).config.models)
    expected = facts.of_node(known(facts.workload).model, 0)
    wrong = np.flatnonzero((facts.model != expected) & facts.known)
    what = "model_name is not the node's"
    yield Problem(what, wrong, lambda i: f"{labels.values[labels.codes[i]]}, not {names[expected[i]]}")


def _gang_size(facts: Facts) -> Problems:
    workload, gangs = known(facts.workload), known(facts.gangs)
    required = np.array([model.gpus_required for model in workload.models], np.int64)
    expected = facts.of_node(required[workload.model], 0)
    wrong = np.flatnonzero((gangs.sizes != expected) & facts.known)
    what = "its gang is not as large as its model requires"
    yield Problem(what, wrong, lambda i: f"{gangs.sizes[i]} GPUs, not {expected[i]}")


def _duration(facts: Facts) -> Problems:
    executed, expected = facts.executed, facts.of_node(known(facts.workload).duration)
    wrong = facts.exceeds(executed, expected, either_way=True)
    what = "does not execute for as long as the workload says"
    yield Problem(what, wrong, lambda i: f"{executed[i]} s, not {expected[i]} s")


def _estimated_time(facts: Facts) -> Problems:
    expected = facts.of_node(known(facts.workload).duration)
    yield _unequal(facts, "estimated_time", expected, "is not the workload's")


def _estimate(facts: Facts) -> Problems:
    yield _unequal(facts, "estimated_time", facts.executed, "is not for how long it executes")


def _arrival(facts: Facts) -> Problems:
    begin, expected = facts.begin, facts.of_request(known(facts.arrival))
    early = facts.exceeds(expected, begin)
    what = "loads or starts before its request arrives"
    yield Problem(what, early, lambda i: f"from {begin[i]}, arrival at {expected[i]}")


def _precedence(facts: Facts) -> Problems:
    workload, begin, expected = known(facts.workload), facts.begin, facts.of_node(facts.parents_end)
    early = facts.exceeds(expected, begin)

    def describe(i: int) -> str:
        parent = max(_parents(workload, int(facts.node[i])), key=lambda parent: facts.end[parent])
        return f"from {begin[i]}, {_node(workload, parent)} ends at {expected[i]}"

    def idle_parent(i: int) -> int:
        return next(parent for parent in _parents(workload, int(facts.node[i])) if not facts.ran[parent])

    yield Problem("loads or starts before a parent ends", early, describe)
    if not facts.ran.all():
        orphans = np.flatnonzero(facts.of_node(_orphaned(facts), 0))
        yield Problem("runs although a parent never ran", orphans, lambda i: _node(workload, idle_parent(i)))


def _orphaned(facts: Facts) -> Bools:
    """Return which nodes have a parent that never ran: shape (N,)."""
    orphaned = np.zeros(len(facts.ran), np.bool_)
    for parent, child in facts.edges():
        orphaned[child[~facts.ran[parent]]] = True
    return orphaned


def _ready_time(facts: Facts) -> Problems:
    expected = facts.of_request(known(facts.arrival))
    np.maximum(expected, facts.of_node(facts.parents_end), out=expected)
    yield _unequal(facts, "ready_time", expected, "is not when it became ready")


def _switch_time(facts: Facts) -> Problems:
    yield _unequal(facts, "switch_time", facts.cost, "is not what loading takes, given what the GPUs held")


def _warm(facts: Facts) -> Problems:
    given, replay = known(facts.log.switch_time), facts.replay
    wrong = np.flatnonzero((given > ABSOLUTE) & ~replay.replaces & ~replay.fills)
    yield Problem("loads although its GPUs hold its model", wrong, lambda i: f"{given[i]} s")


def _memory(facts: Facts) -> Problems:
    share, room = facts.sizes.share, known(facts.cluster).gpu_memory_gb
    wrong = np.flatnonzero((share > room * (1 + RELATIVE))[facts.model])
    what = f"its model does not fit GPUs of {room} GB"
    yield Problem(what, wrong, lambda i: f"{share[facts.model[i]]} GB on each GPU")


# Helpers


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


def _is_shared(facts: Facts) -> bool:
    return facts.is_shared


def _has_tiers(facts: Facts) -> bool:
    return facts.log.summary.get("tiers") is not None


def _is_deployed(facts: Facts) -> bool:
    return facts.deployment.is_told


def _is_whole(facts: Facts) -> bool:
    return not facts.outcome.partial


def _is_estimated(facts: Facts) -> bool:
    return facts.virtual and not facts.recorded


def _has_failures(facts: Facts) -> bool:
    return "failures" in facts.log.extra


def _has_interruptions(facts: Facts) -> bool:
    return "interruptions" in facts.log.extra


_LANES = ("lanes", "replaced", "followed")

RULES = (
    Rule("times", "that times are sane", (), _times),
    Rule("execution_time", "execution_time", ("execution_time",), _execution_time),
    Rule("waiting_time", "waiting_time", ("waiting_time", "ready_time", "switch_time"), _waiting_time),
    Rule("loading", "that loading begins when a node is ready", ("ready_time",), _loading),
    Rule("gang", "that a gang is consecutive", ("gangs",), _gang),
    Rule("gpus", "that the GPUs exist", ("cluster",), _gpus),
    Rule("server", "that a gang stays inside a server", ("cluster", "gangs"), _server),
    Rule("overlap", "that a GPU runs one node at a time", (), _overlap),
    Rule("interruptions", "interruptions of GPUs", (), find_wrong_interruptions, about=_has_interruptions),
    Rule(
        "switch_time",
        "how long loading takes",
        ("workload", "cluster", "gangs", "switch_time", "virtual"),
        _switch_time,
    ),
    Rule(
        "warm", "that GPUs that hold a model do not load it again", ("gangs", "switch_time", "residency"), _warm, _LANES
    ),
    Rule("memory", "that models fit the GPUs' memory", ("workload", "cluster"), _memory, about=_is_shared),
    Rule("placement", "that models run where they are placed", (), find_misplaced, about=_is_deployed),
    Rule("deployment", "that the placement fits the GPUs", ("workload", "cluster"), find_unfit, about=_is_deployed),
    Rule("assignments", "what GPUs and servers are for", ("cluster",), find_wrong_assignments, about=_is_deployed),
    Rule("doubled", "that no node is executed twice", (), _doubled),
    Rule("unknown", "that every row is a node of the workload", ("workload",), _unknown),
    Rule("missing", "that every node is executed", ("workload",), _missing, about=_is_whole),
    Rule("failures", "requests that were given up", (), find_wrong_failures, about=_has_failures),
    Rule("workflow", "workflow_id", ("workload", "workflow_id"), _workflow),
    Rule("model", "model_name", ("workload",), _model),
    Rule("gang_size", "that a gang is as large as its model requires", ("workload", "gangs"), _gang_size),
    Rule("duration", "how long nodes execute", ("workload", "virtual", "recorded"), _duration),
    Rule("estimated_time", "estimated_time", ("workload", "estimated_time", "virtual", "recorded"), _estimated_time),
    Rule("estimate", "that nodes execute as estimated", ("estimated_time",), _estimate, about=_is_estimated),
    Rule("arrival", "that nodes start after their request arrives", ("workload", "mode"), _arrival),
    Rule("precedence", "that nodes start after their parents end", ("workload",), _precedence, ("begin",)),
    Rule("ready_time", "ready_time", ("workload", "mode", "ready_time"), _ready_time, ("parents_end",)),
    Rule("summary", "totals", (), find_wrong_totals),
    Rule("tiers", "figures by tier", ("workload", "mode"), find_wrong_tiers, about=_has_tiers),
    Rule("bound", "the lower bound", (), find_beaten_bounds),
)
