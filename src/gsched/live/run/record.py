"""What happened in a run, and the log of it."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gsched.bounds import Bounds, lower_bounds
from gsched.cluster import Cluster
from gsched.log import Log
from gsched.metrics import summarize
from gsched.session import Session, log_of
from gsched.state import LOAD, SWITCH, WARM, Rows
from gsched.workload import Floats, Ints, Mode, Workload


@dataclass(slots=True)
class Interruption:
    """GPUs that were not to be had, and held nothing afterwards.

    Args:
        gpus: which.
        start: in seconds of the workload.
        end: likewise; None while it lasts.
        reason: why, in a sentence.
        number: of the decision of the attempt that failed, or of the first decision afterwards.
        node: whose attempt failed; None if it is none's.
    """

    gpus: range
    start: float
    end: float | None
    reason: str
    number: int
    node: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was given up: at which node, why, and after how many attempts."""

    node: int
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Row:
    """An executed node; times in seconds of the workload.

    Args:
        node: position in the workload.
        gang: first GPU.
        ready: when it became ready.
        began: when loading began, or else the execution.
        started: when the execution began.
        ended: when it ended.
        kind: WARM, LOAD or SWITCH.
        overhead: seconds of the execution in which the model did not compute; NaN where that is not known.
    """

    node: int
    gang: int
    ready: float
    began: float
    started: float
    ended: float
    kind: int = WARM
    overhead: float = float("nan")


@dataclass
class Record:
    """Collects what happens; rows in the order of the decisions."""

    rows: dict[int, Row] = field(default_factory=dict)
    """By number of the decision; earlier parts of a resumed run have negative numbers."""
    failures: list[Failure] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)
    earlier_loads: int = 0
    earlier_switches: int = 0

    def interrupt(self, gpus: range, start: float, reason: str, number: int, node: int | None = None) -> Interruption:
        """Note that GPUs are away from now on."""
        interruption = Interruption(gpus, start, None, reason, number, node)
        self.interruptions.append(interruption)
        return interruption

    def log(self, workload: Workload, cluster: Cluster, mode: Mode, session: Session, facts: Mapping[str, Any]) -> Log:
        """Return the log of the run, with its summary.

        Args:
            workload: what was to be executed, with the times that were expected.
            cluster: where.
            mode: how requests arrived.
            session: the run.
            facts: further fields of the summary; `partial` among them says whether it was stopped before its end.
        """
        numbers = sorted(self.rows)
        rows = [self.rows[number] for number in numbers]
        executed = np.array([row.ended - row.started for row in rows])
        columns = Rows(
            np.array([row.node for row in rows], np.int32),
            np.array([row.gang for row in rows], np.int32),
            np.array([row.ready for row in rows]),
            np.array([row.began for row in rows]),
            np.array([row.started - row.began for row in rows]),
            np.array([row.kind for row in rows], np.int8),
        )
        log = log_of(workload, columns, executed)
        extra = {
            "failures": [self._failure(failure, workload) for failure in self.failures],
            "interruptions": [
                self._interruption(one, bisect_left(numbers, one.number), workload) for one in self.interruptions
            ],
        }
        failed_attempts = sum(interruption.node is not None for interruption in self.interruptions)
        kinds = np.bincount(columns.kind, minlength=3)
        return summarize(
            replace(log, extra={name: part for name, part in extra.items() if part}),
            workload,
            cluster,
            mode,
            session.policy.name,
            bounds=self._bounds(workload, cluster, mode, columns.node, executed),
            node=columns.node,
            loads=self.earlier_loads + int(kinds[LOAD]),
            switches=self.earlier_switches + int(kinds[SWITCH]),
            placement=session.placement,
            options=session.policy.options,
            measured={
                "failed_requests": len(self.failures),
                "failed_attempts": failed_attempts,
                **_spread("dispatch_overhead", [row.overhead for row in rows]),
                **facts,
            },
        )

    def _bounds(self, workload: Workload, cluster: Cluster, mode: Mode, node: Ints, executed: Floats) -> Bounds | None:
        """Return the bounds for what executed as long as it did, however models came onto GPUs; none for a part."""
        if len(node) < workload.node_count:
            return None
        duration = np.empty(len(node))
        duration[node] = executed
        return lower_bounds(replace(workload, duration=duration), cluster, mode, preloaded=True)

    def _failure(self, failure: Failure, workload: Workload) -> dict[str, Any]:
        return {**_names(workload, failure.node), "reason": failure.reason, "attempts": failure.attempts}

    def _interruption(self, interruption: Interruption, row: int, workload: Workload) -> dict[str, Any]:
        return {
            "gpu_ids": list(interruption.gpus),
            "start_time": interruption.start,
            "end_time": interruption.end,
            "reason": interruption.reason,
            "row": row,
            **({} if interruption.node is None else _names(workload, interruption.node)),
        }


def _names(workload: Workload, node: int) -> dict[str, str]:
    """Return what a log calls a node."""
    request, step = workload.step(node)
    return {"request_id": workload.request_ids[request], "node_id": step.id, "model_name": step.model}


def _spread(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile of what is known; nothing where nothing is."""
    known = np.array(seconds)[~np.isnan(seconds)]
    if not len(known):
        return {}
    median, p99 = np.percentile(known, [50, 99]).tolist()
    return {f"median_{name}_seconds": median, f"p99_{name}_seconds": p99}
