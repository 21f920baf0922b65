"""Measure gsched as users start it: whole processes, from files to files, each result checked by gsched itself."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

GPUS = 64
LOAD = 0.7
SECONDS = {"small": 5.0, "medium": 10.0, "large": 15.0}  # mean execution time by model
GSCHED = Path(sys.executable).with_name("gsched")
REPEAT = 3
ROOT = Path(__file__).parents[1]
SIMPLE = ROOT / "src" / "gsched" / "sweep" / "suites" / "simple.json"
SWEPT = ("baseline", "edf", "offline", "improved", "hybrid", "static", "online")
SIZES = (4, 6, 8, 10, 12, 16, 20, 30)
PLANS = {"documents": "p99=120s", "support": "p99=60s", "studio": "p99=600s"}


@dataclass(frozen=True)
class Job:
    """A command to measure, the files that it must leave behind and what it may take."""

    name: str
    arguments: Sequence[str]
    cpu_target: float
    memory_target: float | None = None
    results: Sequence[Path] = ()
    cold: bool = False


@dataclass
class Usage:
    """What the runs of a job took: CPU seconds, and peak memory in MB."""

    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def run(self, job: Job, folder: Path) -> None:
        """Run a job once and note what it took."""
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
        if job.cold:
            environment["GSCHED_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
        for result in job.results:
            result.unlink(missing_ok=True)
        process = subprocess.Popen([GSCHED, *job.arguments], env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for: there is nothing left to reap
        missing = [str(result) for result in job.results if not result.exists()]
        if process.returncode or missing:
            raise SystemExit(f"{job.name}: exit {process.returncode}, missing files: {missing}")
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.memory.append(usage.ru_maxrss / 1024)


def main() -> None:
    """Make the inputs, run all jobs in turns and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny inputs, once: does everything work?")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = make_jobs(folder, big=300 if options.quick else 1_000_000, medium=200 if options.quick else 10_000)
        jobs += make_views(folder, seeds=1 if options.quick else 10, requests=20 if options.quick else 2000)
        usages = [Usage() for _ in jobs]
        for job in jobs:
            _say(f"{job.name}: warm up")
            Usage().run(job, folder)
        for turn in range(1 if options.quick else REPEAT):
            for job, usage in zip(jobs, usages, strict=True):
                _say(f"{job.name}: turn {turn + 1}")
                usage.run(job, folder)
    measured = list(zip(jobs, usages, strict=True))
    print(json.dumps([_as_json(*pair) for pair in measured], indent=2) if options.json else as_text(measured))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def make_jobs(folder: Path, big: int, medium: int) -> list[Job]:
    """Write the inputs and return the jobs."""
    config = folder / "config.json"
    config.write_text(json.dumps(make_config()))
    return [
        _simulation(f"simulate {big:,} requests, Parquet", config, big, "parquet", 6.0, memory_target=1000.0),
        _simulation(f"simulate {medium:,} requests, YAML to JSON", config, medium, "yaml", 1.5),
        Job("gsched --help", ["--help"], 0.3),
        _simulation("simulate 500 requests, no compiled code", config, 500, "yaml", 2.0, cold=True),
    ]


def make_views(folder: Path, seeds: int, requests: int) -> list[Job]:
    """Return the jobs that search and show: a sweep, plans, and a page of about 2.8 times so many nodes."""
    sizes = SIZES if seeds > 1 else SIZES[:1]
    options: dict[str, Any] = {"--config": SIMPLE, "--num-requests": 500, "--gpus": ",".join(map(str, sizes))}
    options |= {"--seeds": seeds, "--out": folder / "sweep"}
    sweep = ["bench", *_arguments(options), "--fresh", *(word for name in SWEPT for word in ("--policy", name))]
    name = f"sweep, {len(SWEPT)} policies, {len(sizes)} sizes, {seeds} seeds"
    plans = PLANS if seeds > 1 else {"support": "p99=600s"}
    table = [folder / "sweep" / "results.parquet"]
    return [
        Job(name, sweep, 60.0, results=table),
        Job(f"{name}, no compiled code", sweep, 60.0, results=table, cold=True),
        *(Job(f"plan {name}, {slo}", _plan(name, slo), 30.0) for name, slo in plans.items()),
        _page(folder, requests),
    ]


def _plan(name: str, slo: str) -> list[str]:
    files = sorted((ROOT / "examples").glob(f"{name}_requests.*"))
    return ["plan", "--config", str(ROOT / "examples" / f"{name}.json"), "--requests", str(files[0]), "--slo", slo]


def _page(folder: Path, requests: int) -> Job:
    """Simulate, and return the job that makes the page."""
    config = ROOT / "examples" / "documents.json"
    options: dict[str, Any] = {"--config": config, "--num-requests": requests, "--duration": requests / 10, "--seed": 1}
    drawn = folder / "page_requests.parquet"
    generated = _arguments(options | {"--format": "parquet", "--output-prefix": folder / "page"})
    simulated = ["--config", str(config), "--requests", str(drawn), "--gpus", "16", "--out", str(folder)]
    for words in (["generate", *generated], ["simulate", *simulated]):
        subprocess.run([GSCHED, *words], check=True, stdout=subprocess.DEVNULL)
    log, page = folder / "baseline_execution_log.json", folder / "page.html"
    given = ["--config", str(config), "--requests", str(drawn), "--output", str(page)]
    return Job(f"page of a log of {requests:,} requests", ["report", str(log), *given], 10.0, results=[page])


def make_config() -> dict[str, Any]:
    """Return chains through three models, in every order."""
    models = {
        model: {"name": model, "type": "image_generation", "memory_gb": 4 * 2**i, "gpus_required": 1}
        | {"load_time_seconds": 5, "inference_time_mean": mean, "inference_time_std": mean / 4}
        for i, (model, mean) in enumerate(SECONDS.items())
    }
    workflows = {
        "-".join(chain): {
            "name": " to ".join(chain),
            "nodes": [
                {"id": f"n{i}", "model": model, "inputs": [f"text{i}"], "outputs": [f"text{i + 1}"]}
                for i, model in enumerate(chain)
            ],
            "edges": [{"from": "n0", "to": "n1"}, {"from": "n1", "to": "n2"}],
        }
        for chain in permutations(SECONDS)
    }
    return {"models": models, "workflows": workflows}


def _simulation(
    name: str,
    config: Path,
    requests: int,
    suffix: str,
    cpu_target: float,
    memory_target: float | None = None,
    *,
    cold: bool = False,
) -> Job:
    """Generate requests and return the job that simulates and checks them."""
    prefix = config.with_name(f"r{requests}")
    minutes = requests * sum(SECONDS.values()) / (LOAD * GPUS) / 60
    options = {"--config": config, "--num-requests": requests, "--duration": f"{minutes:.3f}", "--seed": 1}
    options |= {"--format": suffix, "--output-prefix": prefix}
    subprocess.run([GSCHED, "generate", *_arguments(options)], check=True, stdout=subprocess.DEVNULL)
    out = config.with_name(f"out{requests}")
    source = prefix.with_name(f"{prefix.name}_requests.{suffix}")
    log = out / f"baseline_execution_log.{'parquet' if suffix == 'parquet' else 'json'}"
    options = {"--policy": "baseline", "--gpus": GPUS, "--mode": "online", "--config": config}
    options |= {"--requests": source, "--out": out, "--log-format": log.suffix[1:]}
    return Job(name, ["simulate", *_arguments(options)], cpu_target, memory_target, [log], cold)


def _arguments(options: dict[str, Any]) -> list[str]:
    return [str(part) for option in options.items() for part in option]


def as_text(measured: Sequence[tuple[Job, Usage]]) -> str:
    """Return a table with the target beside each figure."""
    lines = [f"{'job':<52}{'CPU s':>8}{'best':>8}{'target':>8}{'peak MB':>10}{'target':>8}"]
    for job, usage in measured:
        cpu = f"{statistics.median(usage.cpu):>8.2f}{min(usage.cpu):>8.2f}{job.cpu_target:>8.1f}"
        target = "" if job.memory_target is None else f"{job.memory_target:.0f}"
        lines.append(f"{job.name:<52}{cpu}{max(usage.memory):>10.0f}{target:>8}")
    return "\n".join(lines)


def _as_json(job: Job, usage: Usage) -> dict[str, Any]:
    targets = {"cpu_target": job.cpu_target, "memory_target": job.memory_target}
    return {"name": job.name, **targets, **asdict(usage)}


if __name__ == "__main__":
    main()
