"""What a run looks like at a moment, for whoever watches it."""

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from gsched.live.run.loop import Loop
from gsched.state import LOAD, NONE, STARTED, SWITCH
from gsched.workload import Workload


class GpuState(StrEnum):
    """What a GPU does."""

    EMPTY = "empty"
    IDLE = "idle"
    LOADING = "loading"
    RUNNING = "running"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: the model that it was last loaded for, and what it does."""

    model: str
    state: GpuState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at a moment; `time` and `left`, what is probably left of it, in seconds of the workload."""

    time: float
    left: float
    requests: int
    done: int
    failed: int
    nodes: int
    executed: int
    loads: int
    switches: int
    lost: list[str]
    gpus: list[Gpu]


def snapshot(loop: Loop, workload: Workload) -> Snapshot:
    """Return what a run looks like now."""
    core, record = loop.core, loop.record
    kinds = Counter(core.rows.kind[: core.count[STARTED]])
    share = loop.work_done / loop.work if loop.work else 0.0
    now = loop.now()
    failed = len(loop.failed_requests)
    return Snapshot(
        time=now,
        left=(1 / share - 1) * now if share else math.inf,
        requests=workload.request_count,
        done=workload.request_count - loop.open_requests - failed,
        failed=failed,
        nodes=workload.node_count,
        executed=len(record.rows),
        loads=record.earlier_loads + kinds[LOAD],
        switches=record.earlier_switches + kinds[SWITCH],
        lost=loop.outages.lost,
        gpus=_gpus(loop, workload),
    )


def _gpus(loop: Loop, workload: Workload) -> list[Gpu]:
    labels = loop.core.gpus.label_model
    at_work = {}
    for attempt, _ in loop.under_way.values():
        state = GpuState.LOADING if math.isnan(attempt.started) else GpuState.RUNNING
        at_work.update(dict.fromkeys(attempt.gpus, state))
    gpus = []
    for gpu, label in enumerate(labels):
        state = at_work.get(gpu, GpuState.EMPTY if label == NONE else GpuState.IDLE)
        name = "" if label == NONE else workload.models[label].id
        gpus.append(Gpu(name, GpuState.AWAY if gpu in loop.outages.away else state))
    return gpus
