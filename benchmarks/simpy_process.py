"""The problem solved in SimPy the ordinary way: a process a request, which waits for a GPU, loads and executes."""

from collections import deque
from collections.abc import Generator
from typing import Any

import simpy
from problem import CHAIN, CLUSTER, MODELS, Problem, Row

Process = Generator[simpy.Event, Any, None]


def simulate(problem: Problem) -> list[Row]:
    """Return the rows of the log."""
    env = simpy.Environment()
    gpus = _Gpus(env, problem)
    env.process(_source(env, problem, gpus))
    env.run()
    return gpus.rows


class _Gpus:
    """The cluster: hands idle GPUs to the nodes that asked first."""

    def __init__(self, env: simpy.Environment, problem: Problem) -> None:
        self.env = env
        self.problem = problem
        self.label = [len(MODELS)] * CLUSTER.gpus
        self.holds = [0] * len(MODELS) + [(1 << CLUSTER.gpus) - 1]  # by label, the GPUs that carry it, as a mask
        self.idle = (1 << CLUSTER.gpus) - 1
        self.ready: deque[tuple[int, float, simpy.Event]] = deque()
        self.rows: list[Row] = []

    def acquire(self, node: int) -> simpy.Event:
        """Return an event that brings the node's GPU and its switch time."""
        granted = self.env.event()
        self.ready.append((node, self.env.now, granted))
        self.dispatch()
        return granted

    def release(self, gpu: int) -> None:
        self.idle |= 1 << gpu
        self.dispatch()

    def dispatch(self) -> None:
        while self.idle and self.ready:
            node, since, granted = self.ready.popleft()
            model = self.problem.model[node]
            gpu, switch = self.place(model)
            start = self.env.now + switch
            self.rows.append((node, gpu, since, switch, start, start + self.problem.duration[node]))
            granted.succeed((gpu, switch))

    def place(self, model: int) -> tuple[int, float]:
        candidates = self.idle & self.holds[model] or self.idle
        bit = candidates & -candidates
        gpu = bit.bit_length() - 1
        label = self.label[gpu]
        self.idle ^= bit
        self.holds[label] &= ~bit
        self.holds[model] |= bit
        self.label[gpu] = model
        return gpu, self.problem.costs[label][model]


def _source(env: simpy.Environment, problem: Problem, gpus: _Gpus) -> Process:
    for request, gap in enumerate(problem.gaps):
        yield env.timeout(gap)
        env.process(_request(env, problem, gpus, request))


def _request(env: simpy.Environment, problem: Problem, gpus: _Gpus, request: int) -> Process:
    for node in range(request * CHAIN, (request + 1) * CHAIN):
        gpu, switch = yield gpus.acquire(node)
        yield env.timeout(switch)
        yield env.timeout(problem.duration[node])
        gpus.release(gpu)
