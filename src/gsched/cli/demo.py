"""gsched demo."""

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsched.cli import options
from gsched.cli.console import out, stages

if TYPE_CHECKING:
    from gsched.checker import Report
    from gsched.cluster import Cluster
    from gsched.log import Log
    from gsched.workload import Mode, Workload

_GPUS = (8, 12, 16, 24)
_REQUESTS, _MINUTES = 400, 20


def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the workload and the logs.", metavar="DIR")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the workload.", min=0)] = 1,
    quiet: options.Quiet = False,
) -> int:
    """Show the main job on a built-in workload: generate, simulate, check, compare, with the gap to a proven bound.

    Takes a few seconds and writes everything it made into DIR.

    Example: gsched demo
    """
    from gsched.checker import check
    from gsched.cluster import Cluster
    from gsched.demo import CONFIG
    from gsched.generator import generate
    from gsched.load import save_config, save_requests
    from gsched.log_files import write_log
    from gsched.policies import BUILT_IN
    from gsched.simulator import simulate

    runs = []
    modes: tuple[Mode, ...] = ("offline", "online")
    with stages(quiet=quiet) as progress:
        progress.stage("Generating a workload")
        workload = generate(CONFIG, _REQUESTS, _MINUTES, seed=seed)
        save_config(CONFIG, out_dir / "config.json")
        save_requests(workload, out_dir / "requests.yaml")
        for policy, mode, gpus in ((p, m, g) for p in BUILT_IN for m in modes for g in _GPUS):
            progress.stage(f"Simulating {policy}, {mode}, on {gpus} GPUs")
            cluster = Cluster(gpus, gpus_per_server=8)
            log = simulate(workload, cluster, policy, mode)
            write_log(log, out_dir / f"{policy}_{mode}_{gpus}gpus.json")
            runs.append((log, cluster, check(log, workload, cluster)))
    if not quiet:
        _print(workload, runs, out_dir)
    return 0 if all(report.valid for _, _, report in runs) else 1


def _print(workload: "Workload", runs: "list[tuple[Log, Cluster, Report]]", directory: Path) -> None:
    console = out()
    arriving = f"arriving over {_MINUTES} minutes"
    console.print(f"\n[bold]1. A workload[/bold]: {workload.request_count} requests {arriving}")
    for i, flow in enumerate(workload.workflows):
        share = int((workload.workflow == i).sum())
        steps = ", ".join(f"{node.id} ({node.model})" for node in flow.nodes)
        console.print(f"   {share:4} × {flow.id}: {steps}")
    models = ", ".join(f"{model.id} {model.gpus_required}" for model in workload.models)
    console.print(f"   {workload.node_count:,} nodes in all; GPUs per model: {models}")
    console.print("\n[bold]2. Simulated, checked, compared[/bold] with what no schedule can beat (times in seconds):\n")
    console.print(_table(runs), soft_wrap=False)
    rules = len(runs[0][2].rules_checked)
    if all(report.valid for _, _, report in runs):
        console.print(
            f"\n   All {len(runs)} schedules are valid: an independent checker verified {rules} rules on each."
        )
    else:
        console.print("\n   [bold red]Some schedules are NOT valid.[/bold red]")
    binding = Counter(str(log.summary["lower_bound_name"]) for log, _, _ in runs)
    names = ", ".join(f"{name} ({count} of {len(runs)} runs)" for name, count in binding.most_common())
    console.print("   Bound: proven lower bound of the makespan. Gap: how far the schedule is above it, at most.")
    console.print(f"   What sets the bound: {names}.", markup=False)
    console.print(f"\n[bold]3. Your turn[/bold] (the files are in {directory}):\n")
    given = f"--config {directory}/config.json --requests {directory}/requests.yaml"
    program = _program()
    console.print(f"   {program} simulate {given} --gpus 10", markup=False)
    console.print(f"   {program} check {directory}/baseline_online_16gpus.json {given}", markup=False)
    console.print(f"   {program} --help\n", markup=False)


def _program() -> str:
    """Return how the reader's shell can call gsched."""
    if shutil.which("gsched"):
        return "gsched"
    path = Path(sys.executable).parent / "gsched"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _table(runs: "list[tuple[Log, Cluster, Report]]") -> object:
    from rich import box
    from rich.table import Table

    from gsched.metrics import gpu_use

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("policy", no_wrap=True)
    for name in ("GPUs", "makespan", "bound", "gap", "mean", "p99", "switches", "busy", "valid"):
        table.add_column(name, justify="right", no_wrap=True)
    for log, cluster, report in runs:
        s = log.summary
        busy = [use.utilization_percent for use in gpu_use(log, s["gpus"])]
        last = cluster.gpus == _GPUS[-1]
        table.add_row(
            {_GPUS[0]: str(s["policy"]), _GPUS[1]: f"  {s['mode']}"}.get(cluster.gpus, ""),
            str(cluster.gpus),
            *(f"{s[name]:,.0f}" for name in ("makespan", "lower_bound")),
            f"{s['gap_percent']:.1f}%",
            *(f"{s[name]:,.0f}" for name in ("average_request_time", "p99_request_time")),
            f"{s['total_model_switches']:,}",
            f"{sum(busy) / len(busy):.0f}%",
            "yes" if report.valid else "NO",
            end_section=last,
        )
    return table
