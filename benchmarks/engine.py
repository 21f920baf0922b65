"""Compare gsched's engine with a C++ program and two SimPy programs that solve the same problem, in one run.

Engines take turns, so that a slow moment of the machine hits all of them; each is timed in CPU seconds; and all must
give the same log, bit for bit. Read the ratios: the absolute figures are those of this machine.
"""

import argparse
import gc
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import problem as problems
import simpy_lean
import simpy_process
from problem import CHAIN, ROW, Problem, Row, Rows

from gsched import state
from gsched.cluster import Cluster
from gsched.log import Log
from gsched.policies import find_policy
from gsched.simulator import execute, simulate
from gsched.workload import Workload

LOADS = {"stable": 0.7, "overloaded": 1.5}
TURN = 0.1  # CPU seconds that a turn lasts at least
PATIENCE = 20.0  # CPU seconds that an engine may spend on a case
SMALL = "64 GPUs"
SOURCE = Path(__file__).with_name("engine.cpp")

Run = Callable[[], float]
"""Solves the problem once and returns the CPU seconds that it took."""


@dataclass
class Engine:
    """A way to solve a problem: how to run it and how to get the rows of the last run."""

    run: Run
    rows: Callable[[], Rows]


@dataclass
class Timing:
    """What was measured of an engine: CPU seconds a run, one value a turn."""

    engine: str
    nodes: int
    seconds: list[float] = field(default_factory=list)
    identical: bool | None = None

    @property
    def best(self) -> float:
        """Nodes per CPU second in the best turn."""
        return self.nodes / min(self.seconds)

    @property
    def median(self) -> float:
        """Nodes per CPU second in the median turn."""
        return self.nodes / statistics.median(self.seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the values and what they amount to."""
        return asdict(self) | {"best": self.best, "median": self.median}


@dataclass
class Case:
    """One problem and what the engines made of it, gsched's first."""

    cluster: str
    load: str
    requests: int
    timings: list[Timing]

    @property
    def engines(self) -> list[str]:
        """The engines that took part: SimPy leaves out what would take too long."""
        return [timing.engine for timing in self.timings]

    def median(self, engine: str) -> float:
        """Return the median nodes per CPU second of an engine that took part."""
        return self.timings[self.engines.index(engine)].median


def main() -> int:
    """Run all cases and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny problems: does everything work?")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    options = parser.parse_args()
    sizes, large, turns = ([300, 1000], 300, 1) if options.quick else ([10_000, 100_000, 1_000_000], 333_333, 7)
    with tempfile.TemporaryDirectory() as folder:
        program = build_cpp(Path(folder))
        cases = []
        for load in LOADS:
            costs: dict[str, float] = {}
            for requests in sizes:
                _say(f"64 GPUs, {load}, {requests:,} requests ...")
                cases.append(small_case(requests, load, turns, program, costs))
        for load in LOADS:
            _say(f"1,024 GPUs, {load}, {large:,} requests ...")
            cases.append(large_case(large, load, turns))
    print(as_json(cases) if options.json else as_text(cases))
    return 0 if all(timing.identical is not False for case in cases for timing in case.timings) else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def build_cpp(folder: Path) -> Path | None:
    """Compile engine.cpp and return the program, or None where there is no compiler."""
    compiler = shutil.which("g++")
    if compiler is None:
        _say("There is no g++ on this machine: no comparison with C++.")
        return None
    program = folder / "engine"
    subprocess.run([compiler, "-std=c++17", "-O3", "-march=native", "-o", program, SOURCE], check=True)
    return program


def small_case(requests: int, load: str, turns: int, program: Path | None, costs: dict[str, float]) -> Case:
    """Measure all engines on the problem that all of them solve.

    `costs` keeps CPU seconds per node from one size to the next, to foresee which engine would take too long.
    """
    problem = problems.small_cluster(requests, LOADS[load])
    with ExitStack() as stack:
        engines = {
            "gsched": gsched_engine(problem.workload, problems.CLUSTER),
            "gsched simulate": gsched_simulate(problem.workload, problems.CLUSTER),
        }
        if program is not None:
            engines["C++"] = stack.enter_context(cpp(program, problem))
        for name, module in (("SimPy lean", simpy_lean), ("SimPy ordinary", simpy_process)):
            if costs.get(name, 0.0) * problem.nodes < PATIENCE:
                engines[name] = simpy_engine(module.simulate, problem)
        timings = measure(engines, problem.nodes, turns)
        expected = engines["gsched"].rows()
        for timing in timings:
            timing.identical = same(expected, engines[timing.engine].rows())
            costs[timing.engine] = min(timing.seconds) / timing.nodes
    return Case(SMALL, load, requests, timings)


def large_case(requests: int, load: str, turns: int) -> Case:
    """Measure gsched alone on many GPUs, many models and gangs of mixed size."""
    workload, cluster = problems.large_cluster(requests, LOADS[load])
    engines = {"gsched": gsched_engine(workload, cluster), "gsched simulate": gsched_simulate(workload, cluster)}
    return Case("1,024 GPUs", load, requests, measure(engines, workload.node_count, turns))


def measure(engines: dict[str, Engine], nodes: int, turns: int) -> list[Timing]:
    """Let the engines take turns, after one run each to warm up; who has used up the patience sits out."""
    timings = {name: Timing(name, nodes) for name in engines}
    spent = {name: engine.run() for name, engine in engines.items()}
    for _ in range(turns):
        for name, engine in engines.items():
            seconds = timings[name].seconds
            if not seconds or spent[name] + max(seconds) < PATIENCE:
                seconds.append(_turn(engine.run))
                spent[name] += seconds[-1]
    return list(timings.values())


def _turn(run: Run) -> float:
    """Return the mean CPU seconds of runs until the turn is over: short runs alone would be measured cold."""
    gc.collect()
    seconds = [run()]
    while sum(seconds) < TURN:
        seconds.append(run())
    return statistics.fmean(seconds)


def same(expected: Rows, rows: Rows) -> bool:
    """Tell whether two logs agree in every bit."""
    return len(expected) == len(rows) and all((expected[name] == rows[name]).all() for name in ROW.names or ())


def gsched_engine(workload: Workload, cluster: Cluster) -> Engine:
    """Return gsched's engine, from a workload to the facts about every node, which the peers record too."""
    policy = find_policy("baseline")

    def run(fresh: Workload) -> state.Rows:
        return execute(fresh, cluster, policy, "online", compile=True)

    def rows(facts: state.Rows) -> Rows:
        start = facts.time + facts.switch
        end = start + workload.duration[facts.node]
        return problems.rows((facts.node, facts.gang, facts.ready, facts.switch, start, end))

    return _timed(lambda: replace(workload), run, rows)  # a copy lacks the columns that an earlier run derived


def gsched_simulate(workload: Workload, cluster: Cluster) -> Engine:
    """Return what users call: the engine, then the log, its metrics and the lower bounds."""

    def run(fresh: Workload) -> Log:
        return simulate(fresh, cluster, "baseline", "online", compile=True)

    def rows(log: Log) -> Rows:
        local = np.array([int(name.removeprefix("n")) for name in log.node_id.values])
        node = log.request_id.codes * CHAIN + local[log.node_id.codes]
        return problems.rows((node, log.gpu_id, log.ready_time, log.switch_time, log.start_time, log.end_time))

    return _timed(lambda: replace(workload), run, rows)


def simpy_engine(solve: Callable[[Problem], list[Row]], problem: Problem) -> Engine:
    """Return one of the SimPy programs."""
    return _timed(lambda: problem, solve, lambda facts: problems.rows(tuple(zip(*facts, strict=True))))


def _timed(prepare: Callable[[], Any], solve: Callable[[Any], Any], rows: Callable[[Any], Rows]) -> Engine:
    """Return an engine that runs in this process; preparation and conversion to rows are not timed."""
    first: list[Rows] = []

    def run() -> float:
        prepared = prepare()
        begin = time.process_time()
        result = solve(prepared)
        seconds = time.process_time() - begin
        if not first:
            first.append(rows(result))
        return seconds

    return Engine(run, lambda: first[0])


@contextmanager
def cpp(program: Path, problem: Problem) -> Iterator[Engine]:
    """Yield the C++ program, which stays alive between runs and measures itself."""
    with tempfile.TemporaryDirectory() as folder:
        data, output = Path(folder) / "problem", Path(folder) / "rows"
        problem.write(data)
        with subprocess.Popen([program, data, output], stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as process:

            def run() -> float:
                print(file=process.stdin)
                assert process.stdout
                return float(process.stdout.readline())

            def rows() -> Rows:
                process.communicate()
                return np.fromfile(output, ROW)

            yield Engine(run, rows)


def as_json(cases: list[Case]) -> str:
    """Return the measurements as JSON."""
    machine = {"cpu": _cpu_name(), "cores": os.cpu_count(), "python": platform.python_version()}
    shown = [asdict(case) | {"timings": [timing.as_json() for timing in case.timings]} for case in cases]
    return json.dumps({"machine": machine, "cases": shown}, indent=2)


def as_text(cases: list[Case]) -> str:
    """Return the measurements as tables."""
    head = (
        f"{'cluster':<11}{'load':<12}{'nodes':>10}  {'engine':<16}{'best':>9}{'median':>9}{'gsched is':>12}  identical"
    )
    lines = [f"{_cpu_name()}, Python {platform.python_version()}; million nodes per CPU second", "", head]
    for case in cases:
        place = f"{case.cluster:<11}{case.load:<12}{case.requests * CHAIN:>10,}"
        for timing in case.timings:
            ratio = f"{case.median('gsched') / timing.median:.3g} x"
            same_rows = {None: "", True: "yes", False: "NO"}[timing.identical]
            speeds = f"{timing.best / 1e6:>9.3f}{timing.median / 1e6:>9.3f}"
            lines.append(f"{place}  {timing.engine:<16}{speeds}{ratio:>12}  {same_rows}")
            place = " " * len(place)
        lines.append("")
    return "\n".join([*lines, *flatness(cases)])


def flatness(cases: list[Case]) -> Iterator[str]:
    """Yield how much more a node costs at the largest size than at the smallest, by load and engine."""
    for load in LOADS:
        small, *_, large = [case for case in cases if case.load == load and case.cluster == SMALL]
        for engine in ("gsched", "gsched simulate", "C++"):
            if engine in small.engines:
                growth = small.median(engine) / large.median(engine)
                sizes = f"{large.requests * CHAIN:,} nodes is {growth:.2f} x that at {small.requests * CHAIN:,}"
                yield f"{load}, {engine}: cost of a node at {sizes}"


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
