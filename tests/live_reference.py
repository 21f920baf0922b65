"""A slow, obvious engine for real runs: times are whatever they are, attempts fail, and GPUs go away for a while."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from reference import Gpu, Instance, SharedMemory, Task, _Engine
from strategies import Case

from gsched.log import Labels, Log
from gsched.metrics import summarize


@dataclass(eq=False)
class Attempt:
    """What has a gang from a decision until an end: a node that succeeds or fails, or (without a task) nobody."""

    task: Task | None
    gang: list[Gpu]
    begin: float
    end: float
    kind: str = ""
    succeeds: bool = False
    done: bool = False


def run_slowly(case: Case, random: Random, until: float = math.inf) -> Log:
    """Run the baseline policy where much goes wrong, and stop at a time."""
    return _Live(case, random).run_until(until)


class _Live(_Engine):
    def __init__(self, case: Case, random: Random) -> None:
        super().__init__(*case, [])
        self.random = random
        self.attempts: list[Attempt] = []  # in the order of the decisions
        self.tries: Counter[Task] = Counter()
        self.failures: dict[int, dict[str, Any]] = {}  # by request

    def run_until(self, until: float) -> Log:
        while (now := self._next_event()) is not None and now <= until:
            for attempt in [one for one in self.attempts if not one.done and one.end == now]:
                self._end(attempt, now)
            while self.to_arrive and self.arrival[self.to_arrive[0]] == now:
                self._make_ready([t for t in self.tasks[self.to_arrive.pop(0)] if not t.parents], now)
            while self._start_one(now):
                pass
        return self._told(partial=now is not None)

    def _next_event(self) -> float | None:
        ends = [one.end for one in self.attempts if not one.done]
        return min(ends + [self.arrival[request] for request in self.to_arrive], default=None)

    def _start(self, task: Task, gang: list[Gpu], now: float) -> None:
        kind, _ = self.memory.start(Instance(task.model, tuple(gpu.number for gpu in gang)))
        for gpu in gang:
            gpu.busy = True
        self.tries[task] += 1
        succeeds = self.random.random() < 0.7
        task.gang, task.decided = gang, now
        task.switch = 0.0 if kind == "warm" else self.random.randrange(16) / 4
        task.duration = self.random.randrange(12) / 4
        task.end = now + task.switch + task.duration
        end = task.end if succeeds else now + self.random.randrange(1, 12) / 4
        self.attempts.append(Attempt(task, gang, now, end, kind, succeeds))

    def _end(self, attempt: Attempt, now: float) -> None:
        attempt.done = True
        for gpu in attempt.gang:
            gpu.busy = False
        if attempt.task is None:
            return
        if attempt.succeeds:
            self._complete(attempt.task, now)
            return
        self._forget({gpu.number for gpu in attempt.gang})
        if self.random.random() < 0.3:
            for gpu in attempt.gang:
                gpu.busy = True
            self.attempts.append(Attempt(None, attempt.gang, now, now + self.random.randrange(1, 12) / 4))
        if self.random.random() < 0.2:
            self.failures.setdefault(attempt.task.request, self._named(attempt.task, tries=True))
        else:
            self.queue.insert(0, attempt.task)

    def _forget(self, gpus: set[int]) -> None:
        if isinstance(self.memory, SharedMemory):
            self.memory.instances = [one for one in self.memory.instances if not gpus & set(one.gang)]
        else:
            for gpu in gpus:
                self.memory.label[gpu] = None

    def _named(self, task: Task, *, tries: bool = False) -> dict[str, Any]:
        names = {"request_id": self.workload.request_ids[task.request], "node_id": task.node_id}
        names |= {"model_name": task.model.id, "reason": "bad luck"}
        return names | {"attempts": self.tries[task]} if tries else names

    def _told(self, *, partial: bool) -> Log:
        interruptions, good = [], []
        for one in self.attempts:
            if one.succeeds and one.done:
                good.append(one)
                continue
            names = {"reason": "gone"} if one.task is None else self._named(one.task)
            gpus = [gpu.number for gpu in one.gang]
            times = {"start_time": one.begin, "end_time": one.end if one.done else None}
            interruptions.append({"gpu_ids": gpus, **times, **names, "row": len(good)})
        self.started = [one.task for one in good]
        request = np.array([task.request for task in self.started], np.int32)
        parts = {"failures": list(self.failures.values()), "interruptions": interruptions}
        log = replace(self._log(), request_id=Labels(request, self.workload.request_ids), extra=parts)
        kinds = [one.kind for one in good]
        return summarize(
            log,
            self.workload,
            self.cluster,
            self.mode,
            "baseline",
            bounds=None,
            node=self.workload.first_node[request] + np.array([task.node for task in self.started], np.int64),
            loads=kinds.count("load"),
            switches=kinds.count("switch"),
            measured={"partial": partial, "failed_requests": len(self.failures), "executor": "slow"},
        )

    def _summary(self) -> dict[str, Any]:
        return {}
