"""The problem solved in SimPy, lean: one event a node, with a callback, and no process."""

from collections import deque
from heapq import heappush
from itertools import islice
from typing import Any

import simpy
from problem import CHAIN, CLUSTER, MODELS, Problem, Row
from simpy.events import NORMAL


def simulate(problem: Problem) -> list[Row]:
    """Return the rows of the log."""
    simulation = _Simulation(problem)
    simulation.env.run()
    return simulation.rows


class _At(simpy.Event):
    """A timeout that ends at a given time: adding a delay, as `Timeout` does, would round to a neighbouring float."""

    def __init__(self, env: simpy.Environment, time: float, value: Any, callback: Any) -> None:
        self.env = env
        self.callbacks = [callback]
        self._value = value
        self._ok = True
        heappush(env._queue, (time, NORMAL, next(env._eid), self))


class _Simulation:
    def __init__(self, problem: Problem) -> None:
        self.env = simpy.Environment()
        self.model, self.duration, self.costs = problem.model, problem.duration, problem.costs
        self.label = [len(MODELS)] * CLUSTER.gpus
        self.holds = [0] * len(MODELS) + [(1 << CLUSTER.gpus) - 1]  # by label, the GPUs that carry it, as a mask
        self.idle = (1 << CLUSTER.gpus) - 1
        self.ready: deque[tuple[int, float]] = deque()
        self.rows: list[Row] = []
        self.gaps = enumerate(problem.gaps)
        self.await_arrival()

    def await_arrival(self) -> None:
        for request, gap in islice(self.gaps, 1):
            self.env.timeout(gap, request * CHAIN).callbacks.append(self.arrive)

    def arrive(self, event: Any) -> None:
        self.ready.append((event.value, self.env.now))
        self.await_arrival()
        self.dispatch()

    def complete(self, event: Any) -> None:
        node, bit = event.value
        self.idle |= bit
        if node % CHAIN != CHAIN - 1:
            self.ready.append((node + 1, self.env.now))
        self.dispatch()

    def dispatch(self) -> None:
        while self.idle and self.ready:
            node, since = self.ready.popleft()
            model = self.model[node]
            candidates = self.idle & self.holds[model] or self.idle
            bit = candidates & -candidates
            gpu = bit.bit_length() - 1
            self.idle ^= bit
            switch = self.costs[self.label[gpu]][model]
            if switch:
                self.relabel(gpu, bit, model)
            start = self.env.now + switch
            end = start + self.duration[node]
            _At(self.env, end, (node, bit), self.complete)
            self.rows.append((node, gpu, since, switch, start, end))

    def relabel(self, gpu: int, bit: int, model: int) -> None:
        self.holds[self.label[gpu]] ^= bit
        self.holds[model] |= bit
        self.label[gpu] = model
