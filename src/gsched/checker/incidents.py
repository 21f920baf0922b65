"""The rules of what went wrong in a run: requests that were given up, and interruptions of GPUs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from gsched.checker.facts import Facts
from gsched.checker.interruptions import fault, overlapping
from gsched.checker.outcome import Failure, Interruption
from gsched.checker.problems import Problem, Problems, listed, plain
from gsched.workload import Workload


def find_wrong_failures(facts: Facts) -> Problems:
    """Find failures that make no sense, or that the rows or the workload contradict."""
    outcome = facts.outcome
    yield from (plain(text) for part, text in outcome.wrong.items() if part == "failures")
    times = Counter(failure.request_id for failure in outcome.failures)
    yield listed("a request fails twice", [f"request {name}" for name, count in times.items() if count > 1])
    executed = _executed(facts, outcome.failed)
    done = [_place(one) for one in outcome.failures if (one.request_id, one.node_id) in executed]
    yield listed("a node that failed was executed", done)
    if facts.workload is not None:
        yield listed("what failed is not in the workload", list(_strangers(facts.workload, outcome.failures)))


def find_wrong_interruptions(facts: Facts) -> Problems:
    """Find interruptions that make no sense or that the workload contradicts, and rows that ran in spite of them."""
    outcome = facts.outcome
    yield from (plain(text) for part, text in outcome.wrong.items() if part == "interruptions")
    faulty = [f"those of {_text(one)} {why}" for one in outcome.interruptions if (why := fault(one))]
    yield listed("times of interruptions make no sense", faulty)
    if facts.cluster is not None:
        count = facts.cluster.gpus
        outside = [_text(one) for one in outcome.interruptions if max(one.gpu_ids) >= count]
        yield listed(f"interrupts a GPU outside the cluster (0 to {count - 1})", outside)
    if facts.workload is not None:
        yield listed(
            "what was interrupted is not in the workload", list(_strangers(facts.workload, outcome.interruptions))
        )
    yield _overlaps(facts)


def _overlaps(facts: Facts) -> Problem:
    met: dict[int, list[Interruption]] = defaultdict(list)
    for one in facts.interruptions:
        for row in overlapping(one, facts.lanes, facts.begin, facts.log.end_time).tolist():
            met[row].append(one)
    rows = np.array(sorted(met), np.int64)
    return Problem("has a GPU that is not to be had", rows, lambda row: _text(met[int(row)][0]))


def _executed(facts: Facts, requests: frozenset[str]) -> set[tuple[str, str]]:
    """Return what the rows execute of some requests, as pairs of a request and a node."""
    request, node = facts.log.request_id, facts.log.node_id
    codes = [code for code, text in enumerate(request.values) if text in requests]
    rows = np.flatnonzero(np.isin(request.codes, codes)).tolist()
    return {(request.values[request.codes[row]], node.values[node.codes[row]]) for row in rows}


def _strangers(workload: Workload, named: Iterable[Failure | Interruption]) -> Iterator[str]:
    """Yield what of the named requests, nodes and models a workload has not, or not together."""
    named = list(named)
    wanted = {one.request_id for one in named}
    flow_of = {id: flow for id, flow in zip(workload.request_ids, workload.workflow, strict=True) if id in wanted}
    for one in named:
        nodes = [node for flow in workload.workflows for node in flow.nodes]
        if one.request_id is not None:
            nodes = list(workload.workflows[flow_of[one.request_id]].nodes) if one.request_id in flow_of else []
        if one.node_id is not None:
            nodes = [node for node in nodes if node.id == one.node_id]
        if not any(one.model_name in (None, node.model) for node in nodes):
            yield f"{_place(one)}, model {one.model_name}"


def _place(one: Failure | Interruption) -> str:
    return f"request {one.request_id}, node {one.node_id}"


def _text(one: Interruption) -> str:
    gpus = f"GPU {one.gpu_ids[0]}" if len(one.gpu_ids) == 1 else f"GPUs {one.gpu_ids[0]} to {one.gpu_ids[-1]}"
    return f"{gpus} from {one.start_time} to {one.end} ({one.reason})"
