"""How true the simulation is of real runs, and what dispatching a node costs.

Each run starts a model server of its own and executes a workload against it over HTTP: on emulated GPUs in compressed
time, and with real (small) ONNX models on one CPU thread a device. *Explained* is by how much a simulation is off that
knows the measured times, *predicted* by how much one that was made beforehand.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

GSCHED = Path(sys.executable).parent / "gsched"
EXAMPLE = Path(__file__).parents[1] / "examples" / "documents.json"
TIME_SCALE = 0.005
PASS = 0.004  # seconds that a pass is expected to take; ONNX takes what it takes
ONNX_DEVICES = 2


@dataclass
class Result:
    """A run: errors in percent, and median and p99 of the overhead of a node in ms."""

    way: str
    nodes: int
    makespan: float
    explained_makespan: float
    explained_p99: float
    predicted_makespan: float
    predicted_p99: float
    overhead: float
    overhead_p99: float
    valid: bool


@contextmanager
def model_server(*options: str) -> Iterator[str]:
    """Run a model server and yield its address."""
    words = [GSCHED, "model-server", "--port", "0", "--log-level", "warning", *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        try:
            yield found[0]
        finally:
            process.terminate()


def measure(
    way: str,
    config: Path,
    requests: Path,
    server: Sequence[str],
    policy: str,
    folder: Path,
    more: Sequence[str] = (),
) -> Result:
    """Execute a workload and return how true its simulation is."""
    with model_server("--config", str(config), *server) as url:
        words = ["--config", config, "--requests", requests, "--server-url", url, "--policy", policy, "--out", folder]
        done = subprocess.run(
            [GSCHED, "run", *words, *more, "--compare-simulation", "--json"], capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout)
    summary, totals = found["summary"], found["fidelity"]["totals"]

    def error(kind: str, figure: str) -> float:
        return float(totals[figure][f"{kind}_error_percent"])

    return Result(
        way,
        summary["total_nodes_executed"],
        summary["makespan"],
        *(error(kind, figure) for kind in ("explained", "predicted") for figure in ("makespan", "p99_latency")),
        1e3 * summary["median_dispatch_overhead_seconds"],
        1e3 * summary["p99_dispatch_overhead_seconds"],
        found["check"]["valid"],
    )


def emulated(policy: str, requests: int, folder: Path) -> Result:
    """Execute the shipped workflows on eight emulated GPUs."""
    prefix = folder / "documents"
    words = ["--num-requests", str(requests), "--duration", "60", "--seed", "3", "--output-prefix", str(prefix)]
    subprocess.run([GSCHED, "generate", "--config", EXAMPLE, *words, "--quiet"], check=True)
    server = ["--devices", "8", "--time-scale", str(TIME_SCALE)]
    return measure(f"emulated, {policy}", EXAMPLE, folder / "documents_requests.yaml", server, policy, folder)


def real(requests: int, folder: Path) -> Result:
    """Calibrate on one workload, and then execute another of which that tells what to expect.

    Both are chains of two models whose calls take as many passes through a small ONNX graph as they ask for.
    """
    config, first, second = folder / "chain.json", folder / "first.json", folder / "second.json"
    profile = {"memory_gb": 8, "gpus_required": 1, "load_time_seconds": 0.3, "type": "llm"}
    models = {name: {**profile, "tokens_per_second": 1 / PASS, "token_mean": 50} for name in ("draft", "review")}
    nodes = [
        {"id": "a", "model": "draft", "inputs": [], "outputs": ["text"]},
        {"id": "b", "model": "review", "inputs": ["text"], "outputs": []},
    ]
    flow = {"name": "chain", "nodes": nodes, "edges": [{"from": "a", "to": "b"}]}
    config.write_text(json.dumps({"models": models, "workflows": {"chain": flow}}))
    for seed, path in enumerate((first, second)):
        path.write_text(json.dumps({"requests": chains(requests, seed)}))
    server = ["--backend", "onnx", "--devices", str(ONNX_DEVICES)]
    measure("onnx, before", config, first, server, "online", folder)
    fitted = folder / "fitted.json"
    words = ["--config", config, "--requests", first, "--output", fitted, "--rescale", second, "--json"]
    done = subprocess.run(
        [GSCHED, "calibrate", folder / "online_execution_log.json", *words], capture_output=True, text=True, check=True
    )
    costs = json.loads(done.stdout)["simulate_with"]
    more = ["--pcie-bandwidth", str(costs["pcie_bandwidth"]), "--switch-overhead", str(costs["switch_overhead"])]
    return measure(
        "onnx, online, calibrated", fitted, folder / "second_calibrated.json", server, "online", folder, more
    )


def chains(requests: int, seed: int) -> list[dict[str, Any]]:
    """Return requests whose nodes ask for different numbers of passes."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(requests):
        passes = {id: int(random.integers(10, 100)) for id in ("a", "b")}
        row = {"request_id": f"r{i}", "workflow_id": "chain", "timestamp": "2026-01-01T00:00:00"}
        times = {id: count * PASS for id, count in passes.items()}
        configs = {id: {"max_length": count} for id, count in passes.items()}
        rows.append({**row, "node_execution_times": times, "node_configs": configs})
    return rows


def table(results: Sequence[Result]) -> str:
    """Return the results as Markdown."""
    head = "| run | nodes | makespan explained, p99 | predicted, p99 | overhead a node p50, p99 | valid |"
    lines = [head, "|---|---:|---:|---:|---:|---|"]
    for r in results:
        explained = f"{r.explained_makespan:+.2f}%, {r.explained_p99:+.2f}%"
        predicted = f"{r.predicted_makespan:+.1f}%, {r.predicted_p99:+.1f}%"
        overhead = f"{r.overhead:.2f} ms, {r.overhead_p99:.2f} ms"
        lines.append(f"| {r.way} | {r.nodes:,} | {explained} | {predicted} | {overhead} | {r.valid} |")
    return "\n".join(lines)


def main() -> None:
    """Run all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few requests: shows that it works, not how well")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        policies = ["improved"] if given.quick else ["improved", "online", "static", "baseline"]
        results = [emulated(policy, 20 if given.quick else 500, folder) for policy in policies]
        results.append(real(8 if given.quick else 150, folder))
    found: Any = [asdict(result) for result in results]
    print(json.dumps(found, indent=2) if given.json else table(results))


if __name__ == "__main__":
    main()
