"""The part of a run that was stopped: what it has done, and when the rest goes on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gsched.checker import check
from gsched.checker.outcome import Interruption as Told
from gsched.checker.outcome import read_outcome
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.live.run.record import Interruption, Row
from gsched.log import Log
from gsched.metrics import options_for_json
from gsched.policies import Policy
from gsched.workload import Mode, Workload

STOPPED = "stopped, and later resumed"


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier parts of a run have done.

    Args:
        rows: executed nodes, in the order of the decisions.
        interruptions: of those parts, and one of all GPUs for the pause, in which they lost what they held.
        begin: when the run goes on.
        loads: starts that loaded.
        switches: starts that switched.
        answers: what executed nodes have answered.
    """

    rows: Sequence[Row] = ()
    interruptions: Sequence[Interruption] = ()
    begin: float = 0.0
    loads: int = 0
    switches: int = 0
    answers: Mapping[int, str] = field(default_factory=dict)


FRESH_START = Past()


def past_of(
    log: Log, path: Path, answers: Path, workload: Workload, cluster: Cluster, mode: Mode, policy: Policy
) -> Past:
    """Return what a log of a run that did not do all of its work says.

    Args:
        log: the earlier part.
        path: its file, for messages.
        answers: file of the answers; there must be one of each node of the earlier part.
        workload: the same as then.
        cluster: the same as then.
        mode: the same as then.
        policy: the same as then.

    Raises:
        InputError: it is the log of another run, or of one that has nothing left to do, or breaks a rule.
    """
    hint = "give the same options and files, or run without --resume"
    if log.summary.get("simulate") is not True:
        raise InputError.one(path, "", "is not the log of a run for real", hint)
    if log.summary.get("policy") != policy.name:
        raise InputError.one(path, "policy", f"is {log.summary.get('policy')}, not {policy.name}", hint)
    if log.summary.get("policy_options", {}) != options_for_json(policy.options):
        raise InputError.one(path, "policy_options", f"are {log.summary.get('policy_options')}, not those given", hint)
    report = check(log, workload, cluster, mode)
    if not report.valid:
        raise InputError.one(path, "", f"does not fit this run: {report.violations[0].message}", hint)
    if len(log) == workload.node_count:
        raise InputError.one(path, "", "has nothing left to do", "run without --resume to begin anew")
    node_of = _positions(workload)
    rows = [_row(log, i, node_of) for i in range(len(log))]
    interruptions = [
        _interruption(part, len(rows), node_of) for part in read_outcome(log.summary, log.extra).interruptions
    ]
    begin = max(
        float(log.summary.get("stopped_at", 0.0)),
        *(row.ended for row in rows),
        *(max(part.start, part.end or 0.0) for part in interruptions),
        0.0,
    )
    for part in interruptions:
        part.end = begin if part.end is None else part.end
    interruptions.append(Interruption(range(cluster.gpus), begin, begin, STOPPED, 0))
    switches, loads = log.summary["total_model_switches"], log.summary["total_model_loads"]
    found = _answers(answers, node_of)
    if lost := [row.node for row in rows if row.node not in found]:
        place = "request {}, node {}".format(*next(name for name, node in node_of.items() if node == lost[0]))
        raise InputError.one(answers, place, "has no answer here, though it was executed", "run without --resume")
    return Past(rows, interruptions, begin, loads, switches, found)


def _positions(workload: Workload) -> dict[tuple[str, str], int]:
    """Return the position of each node, by the ids of its request and of itself."""
    positions = {}
    for request, flow in enumerate(workload.workflow.tolist()):
        first = int(workload.first_node[request])
        for i, node in enumerate(workload.workflows[flow].nodes):
            positions[workload.request_ids[request], node.id] = first + i
    return positions


def _row(log: Log, i: int, node_of: Mapping[tuple[str, str], int]) -> Row:
    assert log.switch_time is not None
    assert log.ready_time is not None
    request, node = log.request_id, log.node_id
    position = node_of[request.values[request.codes[i]], node.values[node.codes[i]]]
    started, ended = float(log.start_time[i]), float(log.end_time[i])
    return Row(
        position, int(log.gpu_id[i]), float(log.ready_time[i]), started - float(log.switch_time[i]), started, ended
    )


def _interruption(told: Told, rows: int, node_of: Mapping[tuple[str, str], int]) -> Interruption:
    """Return an interruption as the record has it, the decisions of the earlier part counted backwards."""
    gpus = range(told.gpu_ids[0], told.gpu_ids[-1] + 1)
    node = node_of[told.request_id, told.node_id] if told.request_id and told.node_id else None
    return Interruption(gpus, told.start_time, told.end_time, told.reason, (told.row or 0) - rows, node)


def _answers(path: Path, node_of: Mapping[tuple[str, str], int]) -> dict[int, str]:
    """Return the answers of a file; a last line that was cut off does not count."""
    answers = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError.one(
            path, "", "no such file, and later nodes need its answers", "run without --resume"
        ) from None
    for line in lines:
        try:
            row = json.loads(line)
            answers[node_of[row["request_id"], row["node_id"]]] = str(row["output"])
        except (ValueError, KeyError, TypeError):
            continue
    return answers
