"""How far from the optimum: tiny problems solved exactly with OR-Tools' CP-SAT, beside bounds and policies.

All durations and costs are whole seconds, so nothing is rounded. The optimal schedule is run by the engine, as a policy
of its own, and judged by the checker: if the exact model were easier than the rules, that would show; if it were
harder, some policy would beat it in time. Policies that load models before time 0 play another game and are left out.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from ortools.sat.python import cp_model

from gsched.bounds import lower_bounds
from gsched.checker import check
from gsched.cluster import Cluster
from gsched.core import WAIT
from gsched.policies import BUILT_IN, Policy, find_policy
from gsched.residency import all_idle
from gsched.simulator import simulate
from gsched.state import STARTED, Core, gang_starts
from gsched.workload import Config, Model, Node, Workflow, Workload

INSTANCES = 60
MOST_NODES = 12
PROOF_SECONDS = 120.0  # of CP-SAT's deterministic time, a count of its steps


class Optimum(NamedTuple):
    """An optimal schedule.

    Args:
        makespan: in seconds.
        nodes: in the order in which they begin to load, shape (N,).
        gangs: first GPU of each of them, shape (N,).
    """

    makespan: float
    nodes: list[int]
    gangs: list[int]


# Instances


def instance(seed: int, most: int = MOST_NODES) -> tuple[Workload, Cluster]:
    """Return a problem of at most so many nodes: 3 or 4 models on 1 to 3 GPUs, small workflows, 3 to 5 GPUs.

    There are fewer nodes, seldom by more than 4, where no workflow fills the rest.
    """
    rng = np.random.default_rng([2024, seed])
    gpus = int(rng.integers(3, 6))
    sizes = [1, 2, *rng.choice([1, 1, 2, 3], int(rng.integers(1, 3))).tolist()]
    models = {f"m{i}": _model(rng, f"m{i}", size) for i, size in enumerate(sizes)}
    flows = {f"w{i}": _workflow(rng, f"w{i}", list(models)) for i in range(3)}
    chosen: list[int] = []
    nodes, target = 0, int(rng.integers(most - 4, most + 1))
    while nodes < target:
        fitting = [i for i, flow in enumerate(flows.values()) if nodes + len(flow.nodes) <= most]
        if not fitting:
            break
        chosen.append(int(rng.choice(fitting)))
        nodes += len(flows[f"w{chosen[-1]}"].nodes)
    workload = Workload(
        Config(models, flows),
        [f"r{i}" for i in range(len(chosen))],
        np.array(chosen, np.int32),
        np.zeros(len(chosen), np.int64),
        rng.integers(1, 25, nodes).astype(np.float64),
    )
    return workload, Cluster(gpus, int(rng.integers(3, 5)) if rng.random() < 0.3 else None)


def _model(rng: np.random.Generator, model_id: str, size: int) -> Model:
    """Return a model whose loads and switches take a whole number of seconds at 16 GB/s."""
    return Model(model_id, 16.0 * int(rng.integers(0, 5)), size, float(rng.integers(0, 9)), inference_time_mean=1.0)


def _workflow(rng: np.random.Generator, flow_id: str, models: list[str]) -> Workflow:
    count = int(rng.integers(1, 5))
    nodes = tuple(Node(f"n{i}", str(rng.choice(models))) for i in range(count))
    edges = tuple((a, b) for b in range(count) for a in range(b) if rng.random() < 0.5)
    return Workflow(flow_id, nodes, edges)


# The exact model


def optimum(workload: Workload, cluster: Cluster) -> Optimum:
    """Return a schedule of the least makespan; durations and costs must be whole seconds, all requests arrive at 0.

    Raises:
        RuntimeError: CP-SAT could not prove an optimum in the time that it has.
    """
    problem = _Exact(workload, cluster)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = PROOF_SECONDS
    status = solver.solve(problem.model)
    if status != cp_model.OPTIMAL:
        raise RuntimeError(f"CP-SAT proves no optimum: {solver.status_name(status)}")
    begin = [solver.value(variable) for variable in problem.begin]
    gang = [next(g for g, chosen in choices.items() if solver.value(chosen)) for choices in problem.gang]
    nodes = sorted(range(len(begin)), key=lambda node: (begin[node], node))
    return Optimum(solver.objective_value, nodes, [gang[node] for node in nodes])


class _Exact:
    """The rules as constraints: on each GPU, nodes follow one another in a circuit, and each pays for its predecessor.

    A node occupies all GPUs of its gang from the begin of loading; loading takes the longest over these GPUs.
    """

    def __init__(self, workload: Workload, cluster: Cluster) -> None:
        self._workload, self._cluster = workload, cluster
        self.model = cp_model.CpModel()
        self._of = workload.model.tolist()
        self._models = workload.models
        costs = [self._cost(old, new) for old in (None, *range(len(self._models))) for new in range(len(self._models))]
        self._durations = durations = [_whole(seconds) for seconds in workload.duration.tolist()]
        horizon = sum(durations) + len(durations) * max(costs)
        self.begin = [self.model.new_int_var(0, horizon, f"begin {i}") for i in range(len(durations))]
        self._switch = [self.model.new_int_var(0, max(costs), f"switch {i}") for i in range(len(durations))]
        self._end = [self.model.new_int_var(0, horizon, f"end {i}") for i in range(len(durations))]
        for begin, switch, end, duration in zip(self.begin, self._switch, self._end, durations, strict=True):
            self.model.add(end == begin + switch + duration)
        self._makespan = self.model.new_int_var(0, horizon, "makespan")
        self.model.add_max_equality(self._makespan, self._end)
        self.gang = [self._choose_gang(node) for node in range(len(durations))]
        for gpu in range(cluster.gpus):
            self._add_gpu(gpu)
        self._add_edges()
        self._add_capacity()
        self.model.minimize(self._makespan)

    def _cost(self, old: int | None, new: int) -> int:
        """Return the seconds to bring a model to a GPU that holds another, or nothing."""
        this = self._models[new]
        if old is None:
            return _whole(this.load_time_seconds)
        moved = (self._models[old].memory_gb + this.memory_gb) / self._cluster.pcie_bandwidth
        return _whole(moved + self._cluster.switch_overhead)

    def _size(self, node: int) -> int:
        return self._models[self._of[node]].gpus_required

    def _choose_gang(self, node: int) -> dict[int, Any]:
        """Return a literal for each first GPU that the node's gang may have, of which exactly one holds."""
        starts = gang_starts(self._cluster, self._size(node))
        chosen = {gang: self.model.new_bool_var(f"node {node} on {gang}") for gang in starts}
        self.model.add_exactly_one(chosen.values())
        return chosen

    def _add_gpu(self, gpu: int) -> None:
        """Let the nodes on a GPU follow one another: a circuit through them and a depot, position 0."""
        uses = {node: self._uses(node, gpu) for node in range(len(self.begin))}
        arcs = [(0, 0, ~self._any(list(uses.values())))]
        busy = sum(self._durations[node] * used for node, used in uses.items())
        for node, used in uses.items():
            first = self.model.new_bool_var("first")
            arcs += [(node + 1, node + 1, ~used), (0, node + 1, first), (node + 1, 0, self.model.new_bool_var("last"))]
            paid = self._cost(None, self._of[node]) * first
            for before in uses:
                if before != node:
                    follows = self._follows(before, node)
                    arcs.append((before + 1, node + 1, follows))
                    if self._of[before] != self._of[node]:
                        paid += self._cost(self._of[before], self._of[node]) * follows
            self.model.add(self._switch[node] >= paid)
            busy += paid
        self.model.add_circuit(arcs)
        self.model.add(self._makespan >= busy)  # follows from the rest, but is hard to see
        self.model.add_no_overlap([self._occupation(node, used) for node, used in uses.items()])

    def _occupation(self, node: int, used: Any) -> Any:
        """Return the time for which a node loads and runs on a GPU that it uses."""
        length = self._switch[node] + self._durations[node]
        return self.model.new_optional_interval_var(self.begin[node], length, self._end[node], used, "occupied")

    def _uses(self, node: int, gpu: int) -> Any:
        """Return a literal that holds where the node's gang contains the GPU."""
        size = self._size(node)
        covering = [chosen for gang, chosen in self.gang[node].items() if gang <= gpu < gang + size]
        return self._any(covering)

    def _any(self, literals: Sequence[Any]) -> Any:
        """Return a literal that holds where one of the given does."""
        literal = self.model.new_bool_var("any")
        self.model.add_max_equality(literal, [0, *literals])
        return literal

    def _follows(self, before: int, after: int) -> Any:
        """Return a literal for one node right after another on a GPU; the same model on another gang is paid for."""
        follows = self.model.new_bool_var("follows")
        self.model.add(self.begin[after] >= self._end[before]).only_enforce_if(follows)
        if self._of[before] == self._of[after] and self._size(after) > 1:
            same = self.model.new_bool_var("same gang")
            for gang, chosen in self.gang[before].items():
                self.model.add(chosen == self.gang[after][gang]).only_enforce_if(same)
            cost = self._cost(self._of[before], self._of[after])
            self.model.add(self._switch[after] >= cost).only_enforce_if(follows, ~same)
        return follows

    def _add_edges(self) -> None:
        """Let nodes wait for their parents."""
        for first, flow in zip(self._workload.first_node[:-1].tolist(), self._workload.workflow.tolist(), strict=True):
            for parent, child in self._workload.workflows[flow].edges:
                self.model.add(self.begin[first + child] >= self._end[first + parent])

    def _add_capacity(self) -> None:
        """Say what follows from the rest: no more GPUs are in use than there are, at any time and on the whole."""
        sizes = [self._size(node) for node in range(len(self.begin))]
        gpus = self._cluster.gpus
        self.model.add_cumulative([self._occupation(node, True) for node in range(len(sizes))], sizes, gpus)
        seconds = [switch + duration for switch, duration in zip(self._switch, self._durations, strict=True)]
        self.model.add(gpus * self._makespan >= sum(size * time for size, time in zip(sizes, seconds, strict=True)))


def _whole(seconds: float | None) -> int:
    if seconds is None or seconds != int(seconds):
        raise ValueError(f"the exact model needs whole seconds, not {seconds}")
    return int(seconds)


# The optimal schedule as a policy


def follow(best: Optimum) -> Policy:
    """Return the policy that starts the nodes of a schedule on their gangs, in that order, each as early as it can."""
    turn = {node: i for i, node in enumerate(best.nodes)}

    def choose(core: Core, _table: Any) -> tuple[int, int]:
        started = core.count[STARTED]
        if started == len(best.nodes):
            return WAIT
        node, gang = best.nodes[started], best.gangs[started]
        model = core.graph.model[core.graph.template[node]]
        ready = core.pending[node] == 0 and core.ready_time[node] == core.ready_time[node]
        idle = all_idle(core.gpus, gang, core.models.gpus[model])
        return (model, gang) if ready and idle else WAIT

    return Policy("optimum", choose, lambda _core, _table, node: float(turn[node]))


# The comparison


class Result(NamedTuple):
    """What one problem showed: the optimum in seconds, and bounds and policies as multiples of it."""

    seed: int
    nodes: int
    gpus: int
    optimum: float
    bound: float
    policies: dict[str, float]


def compare(seed: int, policies: Sequence[str], most: int = MOST_NODES) -> Result:
    """Solve one problem and run policies on it.

    Raises:
        RuntimeError: no optimum is proved, it is no valid schedule, or a bound or a policy contradicts it.
    """
    workload, cluster = instance(seed, most)
    best = optimum(workload, cluster)
    log = simulate(workload, cluster, follow(best))
    if not check(log, workload, cluster).valid or log.summary["makespan"] != best.makespan:
        raise RuntimeError(f"problem {seed}: the engine or the checker disagrees with the optimal schedule")
    bound = lower_bounds(workload, cluster, "offline").makespan.value
    if bound > best.makespan:
        raise RuntimeError(f"problem {seed}: the bound {bound} is above the optimum {best.makespan}")
    spans = {name: simulate(workload, cluster, name).summary["makespan"] for name in policies}
    for name, span in spans.items():
        if span < best.makespan:
            raise RuntimeError(f"problem {seed}: {name} takes {span} s, the optimum is {best.makespan}")
    ratios = {name: span / best.makespan for name, span in spans.items()}
    return Result(seed, workload.node_count, cluster.gpus, best.makespan, bound / best.makespan, ratios)


def policies_compared() -> list[str]:
    """Return the policies that plan for the same rules as the exact model."""
    policies = [find_policy(name) for name in BUILT_IN]
    return [policy.name for policy in policies if "offline" in policy.modes and policy.place is None]


def _table(results: Sequence[Result]) -> Iterator[str]:
    sizes = [result.nodes for result in results]
    yield f"{len(results)} problems of {min(sizes)} to {max(sizes)} nodes; makespan above the proven optimum:"
    yield f"{'':12}{'mean':>8}{'median':>8}{'worst':>8}{'optimal':>9}"
    columns = {"bound": [result.bound for result in results]}
    columns |= {name: [result.policies[name] for result in results] for name in results[0].policies}
    for name, ratios in columns.items():
        percent = 100 * (np.array(ratios) - 1)
        worst = percent[np.argmax(np.abs(percent))]
        optimal = f"{(np.abs(percent) < 1e-6).sum()}/{len(results)}"
        yield f"{name:12}{percent.mean():>7.1f}%{np.median(percent):>7.1f}%{worst:>7.1f}%{optimal:>9}"


def main() -> int:
    """Solve, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two problems only")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    policies = policies_compared()
    results = []
    for seed in range(2 if args.quick else INSTANCES):
        results.append(compare(seed, policies, 6 if args.quick else MOST_NODES))
        print(f"{seed + 1} solved", end="\r", file=sys.stderr)
    if args.json:
        print(json.dumps([result._asdict() for result in results]))
    else:
        print("\n".join(_table(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
