"""What the scheduler keeps of its promises: overhead, and attainment under overload, beside first-in first-out.

Each run starts a scheduler of its own with real (small) ONNX models on one CPU thread and offers it the same arrivals.
The capacity is what first-in first-out does at the load at which its queue begins to grow. Then the twin repeats each
run in virtual time, and the last column says by how many points its attainment is off where it is off the most.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gsched.live.loadgen.class_process import ClassPlan
from gsched.live.loadgen.plans import class_seeds
from gsched.live.loadgen.run import run_load
from gsched.live.loadgen.schedule import draw_schedule
from gsched.live.loadgen.sut import Connection
from gsched.live.loadgen.workload_config import TIERS, WORKLOAD_DISTRIBUTIONS
from gsched.live.scheduler.comparison import compare
from gsched.live.scheduler.engine import Outcome, Rules
from gsched.live.scheduler.record import Served, read_record
from gsched.policies import find_policy

GSCHED = Path(sys.executable).parent / "gsched"
ONNX = ["--backend", "onnx", "--size", "small"]
NULL = ["--backend", "emulated", "--model", "resnet50=0ms", "--model", "vit=0ms"]
PLAIN = ["--no-admission", "--no-drop"]
WAYS = {
    "fifo, plain": ["--policy", "fifo", *PLAIN],
    "fifo": ["--policy", "fifo"],
    "edf": ["--policy", "edf"],
    "tiered": ["--policy", "tiered"],
}
TIER_SHARES = {1.5: (0.3, 0.35, 0.35), 2.0: (0.2, 0.4, 0.4)}  # tier 1 asks for less than half of the capacity


@dataclass
class Result:
    """A run: offered and in-time requests/s, share in time by tier, largest error of the twin in points."""

    way: str
    load: float
    offered: float
    goodput: float
    attainment: dict[int, float]
    unanswered: int
    twin_error: float


@contextmanager
def scheduler(words: Sequence[str], record: Path) -> Iterator[str]:
    """Run a scheduler; yield where it listens, and end it with all of its record written."""
    command = [GSCHED, "serve", "--port", "0", "--record", record, "--log-level", "warning", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        try:
            yield line.split(" on ")[1].split(",")[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def offer(url: str, qps: float, seconds: float, tiers: Sequence[float]) -> list[Any]:
    """Offer a load with the given shares of tiers and, within each, the balanced shares of SLOs; return the runs."""
    balanced = WORKLOAD_DISTRIBUTIONS["balanced"]
    seeds = class_seeds(1)
    plans = []
    for (tier, slo), share in balanced.items():
        rate = qps * tiers[tier - 1] * share / sum(balanced[tier, other] for other in ("urgent", "normal", "relaxed"))
        schedule = draw_schedule("poisson", rate, seconds, 1.0, seeds[tier, slo][0])
        plans.append(ClassPlan(tier, slo, rate, seconds, Connection(url), seeds[tier, slo], schedule=schedule))
    return run_load(plans)


def run(way: str, words: Sequence[str], load: float, qps: float, seconds: float) -> tuple[Result, list[Served]]:
    """Offer a load to a scheduler and say what it kept; return that and its record."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.csv"
        with scheduler(words, record) as url:
            runs = offer(url, qps, seconds, TIER_SHARES.get(load, TIER_SHARES[1.5]))
        served = read_record(record)
    records = [entry for run in runs for entry in run.records]
    shares = {}
    for tier in TIERS:
        met = [entry["slo_met"] for entry in records if entry["tier"] == tier]
        shares[tier] = sum(met) / len(met)
    unanswered = sum(run.issued - len(run.records) for run in runs)
    unanswered += sum(entry["outcome"] not in ("done", "expired", "rejected") for entry in records)
    goodput = sum(entry["slo_met"] for entry in records) / seconds
    return Result(way, load, len(records) / seconds, goodput, shares, unanswered, float("nan")), served


def twin_error(way: str, served: Sequence[Served]) -> float:
    """Return by how many points of attainment the twin is off where it is off the most."""
    plain = way.endswith("plain")
    policy = {"fifo": "baseline"}.get(way.split(",")[0], way)
    rules = Rules(admission=not plain, drop=not plain, preempt=policy == "tiered", margin=0.002)
    rows = compare(served, find_policy(policy), 1, rules, seed=1)
    return max(abs(row.attainment - row.simulated_attainment) for row in rows)


def overhead_ms(seconds: float) -> tuple[float, float]:
    """Return p50 and p99 of the time from arrival to answer where the model takes no time."""
    _, served = run("null", NULL, 0.0, 50.0, seconds)
    p50, p99 = np.percentile([1e3 * entry.latency for entry in served], [50, 99]).tolist()
    return p50, p99


def capacity(seconds: float) -> float:
    """Return how many requests/s are done at the lowest load, in steps of a fifth, at which a queue builds up."""
    offered = 60.0
    while True:
        _, served = run("flood", [*ONNX, *WAYS["fifo, plain"], "--max-queue", "5000"], 0.0, offered, seconds)
        began = served[0].arrival
        ends = [entry.arrival + entry.latency for entry in served if entry.outcome is Outcome.DONE]
        done = sum(end <= began + seconds for end in ends) / seconds
        if done < 0.93 * offered:
            return done
        offered *= 1.2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs: does everything work?")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loads", type=float, nargs="*", default=[0.7, 1.5, 2.0], help="multiples of the capacity")
    arguments = parser.parse_args()
    seconds = 1.5 if arguments.quick else 20.0
    loads = [1.5] if arguments.quick else arguments.loads
    p50, p99 = overhead_ms(seconds)
    limit = capacity(min(seconds, 6.0))
    results = []
    for load in loads:
        for way, words in WAYS.items():
            result, served = run(way, [*ONNX, *words], load, load * limit, seconds)
            result.twin_error = twin_error(way, served)
            results.append(result)
    if arguments.json:
        known = {"overhead_ms": {"p50": p50, "p99": p99}, "capacity": limit}
        print(json.dumps({**known, "runs": [asdict(result) for result in results]}, indent=2))
        return
    print(f"overhead of the scheduler, no model: p50 {p50:.2f} ms, p99 {p99:.2f} ms; capacity {limit:.0f} requests/s\n")
    print("load  policy       offered/s  in time/s  tier 1  tier 2  tier 3  no answer  twin off by")
    for r in results:
        tiers = "  ".join(f"{r.attainment[tier]:6.1%}" for tier in TIERS)
        head = f"{r.load:3.1f}x  {r.way:12} {r.offered:9.1f}  {r.goodput:9.1f}"
        print(f"{head}  {tiers}  {r.unanswered:9}  {r.twin_error:6.1f} points")


if __name__ == "__main__":
    main()
