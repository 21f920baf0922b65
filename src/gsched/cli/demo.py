"""gsched demo."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsched.cli import options
from gsched.cli.console import counted, out, print_table, stages

if TYPE_CHECKING:
    from gsched.comparison import Outcome
    from gsched.log import Log
    from gsched.policies import Policy
    from gsched.workload import Mode, Workload

_GPUS, _SERVER = 16, 8
_REQUESTS, _MINUTES = 400, 20
_PAGE = "report.html"
_TITLES: "dict[Mode, str]" = {
    "offline": "Offline[/bold]: all requests are there at time 0, as in a batch",
    "online": f"Online[/bold]: requests arrive over {_MINUTES} minutes, and policies cannot see the future",
}
_HIDDEN: "dict[Mode, tuple[str, ...]]" = {"offline": ("SLO", "good/s", "wall"), "online": ("wall",)}


def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the workload and the logs.", metavar="DIR")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the workload.", min=0)] = 1,
    quiet: options.Quiet = False,
) -> int:
    """Compare all policies on a built-in workload, with the gap to a proven bound; every schedule is checked.

    Takes a few seconds and writes everything it made into DIR.

    Example: gsched demo
    """
    from gsched.checker import check
    from gsched.cluster import Cluster
    from gsched.comparison import attempt
    from gsched.demo import CONFIG, DEADLINES, TIERS
    from gsched.generator import generate
    from gsched.load import save_config, save_requests
    from gsched.log_files import write_log
    from gsched.report.page import PageRun, write_page

    cluster = Cluster(_GPUS, _SERVER)
    outcomes: dict[Mode, list[Outcome]] = {}
    with stages(quiet=quiet) as progress:
        progress.stage("Generating a workload")
        workload = generate(CONFIG, _REQUESTS, _MINUTES, seed=seed, tiers=TIERS, deadlines=DEADLINES)
        save_config(CONFIG, out_dir / "config.json")
        save_requests(workload, out_dir / "requests.yaml")
        shown: list[PageRun] = []
        for mode in _TITLES:
            outcomes[mode] = []
            for policy in _policies(mode):

                def keep(log: "Log", name: str = f"{policy.name}_{mode}.json") -> None:
                    write_log(log, out_dir / name)
                    shown.append(PageRun(log, check(log, workload, cluster), name))

                progress.stage(f"{policy.name}, {mode}")
                found = attempt(workload, cluster, policy, mode, planning=progress.share, keep=keep)
                outcomes[mode].append(found)
        progress.stage("Writing the page")
        write_page(out_dir / _PAGE, shown, workload=workload)
    if not quiet:
        _print(workload, outcomes, out_dir)
    return 0 if all(outcome.valid for runs in outcomes.values() for outcome in runs) else 1


def _policies(mode: "Mode") -> "Iterable[Policy]":
    """Yield the policies to show, of which search tries so few things that nobody has to wait."""
    from gsched.comparison import working
    from gsched.policies import find_policy

    return (find_policy("search", {"trials": 20}) if p.name == "search" else p for p in working(mode))


def _print(workload: "Workload", outcomes: "dict[Mode, list[Outcome]]", directory: Path) -> None:
    from gsched.report.tables import comparison_notes, comparison_table

    console = out()
    _print_workload(workload)
    console.print(f"\n[bold]2. Policies on {_GPUS} GPUs in servers of {_SERVER}[/bold] (times in seconds)")
    for mode, runs in outcomes.items():
        console.print(f"\n[bold]{_TITLES[mode]}\n")
        print_table(comparison_table(runs, without=_HIDDEN[mode]))
        for note in comparison_notes(runs):
            console.print(note, markup=False)
    _print_verdict([outcome for runs in outcomes.values() for outcome in runs])
    console.print("\n[bold]3. See it[/bold]: who runs where and when, queues, latencies. Open in a browser:\n")
    console.print(f"   {directory / _PAGE}", markup=False)
    console.print(f"\n[bold]4. Your turn[/bold] (the files are in {directory}):\n")
    given = f"--config {directory}/config.json --requests {directory}/requests.yaml"
    program = _program()
    for words in (f"compare {given} --gpus 12", f"check {directory}/baseline_online.json {given}", "--help"):
        console.print(f"   {program} {words}", markup=False)
    console.print()


def _print_workload(workload: "Workload") -> None:
    console = out()
    arriving = f"{workload.node_count:,} nodes in all, arriving over {_MINUTES} minutes"
    console.print(f"\n[bold]1. A workload[/bold]: {counted(workload.request_count, 'request')}, {arriving}")
    for i, flow in enumerate(workload.workflows):
        share = int((workload.workflow == i).sum())
        steps = ", ".join(f"{node.id} ({node.model})" for node in flow.nodes)
        console.print(f"   {share:4} × {flow.id}: {steps}")
    models = ", ".join(f"{model.id} {model.gpus_required}" for model in workload.models)
    console.print(f"   GPUs per model: {models}")


def _print_verdict(outcomes: "Sequence[Outcome]") -> None:
    console = out()
    if all(outcome.valid for outcome in outcomes):
        verdict = (
            f"All {len(outcomes)} schedules are valid: a checker that shares no code with the simulator replayed them."
        )
    else:
        verdict = "[bold red]Not all schedules are valid.[/bold red]"
    console.print(f"\n{verdict}")
    console.print(
        "gap: how far the makespan is above a proven lower bound, at most. SLO: share of deadlines that were met."
    )
    console.print(
        "ovhd: seconds of switching per second of makespan, over all GPUs. good/s: requests done in time a second."
    )


def _program() -> str:
    """Return how the reader's shell can call gsched."""
    if shutil.which("gsched"):
        return "gsched"
    path = Path(sys.executable).parent / "gsched"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
