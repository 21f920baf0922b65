"""Compare policies on streams of requests: latencies by load and size of the cluster, and the cost of deciding.

Load is the share of the cluster's GPU seconds that the requests execute; loading models comes on top. Streams are drawn
from the example configs; figures are averages over seeds. The cost of deciding is CPU time per node, compiled, the
least of several turns, as a multiple of the baseline's.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import problem as problems

from gsched import generate, load_config
from gsched.cluster import Cluster
from gsched.policies import Policy, find_policy
from gsched.simulator import execute
from gsched.workload import Workload

EXAMPLES = Path(__file__).parents[1] / "examples"
CONFIGS = ("studio", "documents")
LOADS = (0.5, 0.7, 0.9)
SECOND = 1e9  # nanoseconds


def main() -> int:
    """Run all cases and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", nargs="+", default=["online"], help="to compare with the baseline")
    parser.add_argument("--quick", action="store_true", help="tiny problems: does everything work?")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    options = parser.parse_args()
    sizes, requests, seeds = ((8,), 60, (1,)) if options.quick else ((8, 16, 30), 3000, (11, 12, 13))
    policies = [find_policy(name) for name in ["baseline", *options.policies]]
    streams = [
        stream(config, gpus, load, requests, seeds, policies) for config in CONFIGS for gpus in sizes for load in LOADS
    ]
    speeds = [speed(name, *case, policies) for name, case in large_streams(options.quick).items()]
    print(json.dumps({"streams": streams, "speeds": speeds}, indent=2) if options.json else as_text(streams, speeds))
    return 0


def stream(
    config: str, gpus: int, load: float, requests: int, seeds: tuple[int, ...], policies: list[Policy]
) -> dict[str, Any]:
    """Return the latencies of each policy, averaged over seeds."""
    print(f"{config}, {gpus} GPUs, load {load} ...", file=sys.stderr, flush=True)
    drawn = [generate(load_config(EXAMPLES / f"{config}.json"), requests, seed=seed) for seed in seeds]
    workloads = [at_load(workload, gpus, load) for workload in drawn]
    figures = {
        policy.name: dict(
            zip(("p99", "mean"), np.mean([latencies(w, gpus, policy) for w in workloads], axis=0).tolist(), strict=True)
        )
        for policy in policies
    }
    return {"config": config, "gpus": gpus, "load": load, "seconds": figures}


def at_load(workload: Workload, gpus: int, load: float) -> Workload:
    """Return the workload with its arrivals stretched until they bring that load."""
    sizes = np.array([model.gpus_required for model in workload.models])[workload.model]
    passed = workload.timestamp - workload.timestamp.min()
    seconds = (workload.duration * sizes).sum() / (gpus * load)
    return replace(workload, timestamp=(passed / passed.max() * seconds * SECOND).astype(np.int64))


def latencies(workload: Workload, gpus: int, policy: Policy) -> tuple[float, float]:
    """Return the 99th percentile and the mean of the requests' latencies, in seconds."""
    rows = execute(workload, Cluster(gpus), policy, "online", compile=True)
    done = np.zeros(workload.request_count)
    np.maximum.at(done, workload.request[rows.node], rows.time + rows.switch + workload.duration[rows.node])
    took = done - workload.arrival("online")
    return float(np.quantile(took, 0.99)), float(took.mean())


def large_streams(quick: bool) -> dict[str, tuple[Workload, Cluster]]:
    """Return what to measure the cost of deciding on: 64 GPUs with 3 and 10 models, and 1,024 GPUs with 64."""
    count = 300 if quick else 10_000
    studio = generate(load_config(EXAMPLES / "studio.json"), count // 2, seed=1)
    cases = {}
    for load in (0.7, 1.5):
        cases[f"64 GPUs, 3 models, load {load}"] = (problems.small_cluster(count, load).workload, problems.CLUSTER)
        cases[f"64 GPUs, 10 models, load {load}"] = (at_load(studio, 64, load), Cluster(64, 8))
        cases[f"1,024 GPUs, 64 models, load {load}"] = problems.large_cluster(5 * count, load)
    return cases


def speed(name: str, workload: Workload, cluster: Cluster, policies: list[Policy]) -> dict[str, Any]:
    """Return the CPU seconds per node of each policy."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    seconds: dict[str, list[float]] = {policy.name: [] for policy in policies}
    for turn in range(4):
        for policy in policies:
            fresh = replace(workload)  # lacks the columns that an earlier run derived
            begin = time.process_time()
            execute(fresh, cluster, policy, "online", compile=True)
            if turn > 0:  # the first compiles
                seconds[policy.name].append(time.process_time() - begin)
    nodes = workload.node_count
    return {"case": name, "nodes": nodes, "seconds": {key: min(took) / nodes for key, took in seconds.items()}}


def as_text(streams: list[dict[str, Any]], speeds: list[dict[str, Any]]) -> str:
    """Return the measurements as tables."""
    lines = ["p99 and mean latency in seconds; in brackets, as a multiple of the baseline's"]
    for case in streams:
        base = case["seconds"]["baseline"]
        cells = [
            f"{name} " + ", ".join(f"{value:.0f} ({value / base[figure]:.2f})" for figure, value in figures.items())
            for name, figures in case["seconds"].items()
        ]
        lines.append(f"{case['config']:<10}{case['gpus']:>3} GPUs, load {case['load']}  " + "   ".join(cells))
    lines += ["", "CPU microseconds per node; in brackets, as a multiple of the baseline's"]
    for case in speeds:
        base = case["seconds"]["baseline"]
        cells = [f"{name} {1e6 * took:.2f} ({took / base:.1f})" for name, took in case["seconds"].items()]
        lines.append(f"{case['case']:<36}{case['nodes']:>9,} nodes  " + "   ".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
