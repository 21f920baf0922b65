"""gsched compare."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import options
from gsched.cli.console import counted, out, print_problems, print_table, stages
from gsched.cli.written import write_run
from gsched.errors import InputError, Problem, one_line

if TYPE_CHECKING:
    from gsched.cluster import Cluster
    from gsched.comparison import Outcome
    from gsched.log import Log
    from gsched.policies import Policy
    from gsched.workload import Mode, Workload


def compare(
    gpus: options.Gpus,
    config: options.ConfigPath,
    requests: options.RequestsPath,
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="A built-in policy, or path.py:Class; may be repeated. By default all that work in the mode.",
            metavar="NAME",
        ),
    ] = None,
    mode: options.ModeOption = options.Mode.OFFLINE,
    gpus_per_server: options.GpusPerServer = None,
    pcie_bandwidth: options.Bandwidth = 16.0,
    switch_overhead: options.Overhead = 2.0,
    gpu_memory: options.GpuMemory = 80.0,
    residency: options.ResidencyOption = options.Residency.EXCLUSIVE,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of a policy; may be repeated.", metavar="POLICY.NAME=VALUE"),
    ] = None,
    objective: options.Objective = None,
    budget: options.Budget = None,
    trials: options.Trials = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder for the logs; none are written without it.", metavar="DIR")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the figures as CSV, too.", metavar="FILE")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Simulate policies side by side on one workload, check every schedule, and print one table.

    The gap is that of the makespan to a proven lower bound. Exit status 1: a schedule, or a decision of a policy,
    breaks a rule; 2: no policy could run.

    Example: gsched compare --config examples/documents.json --requests examples/documents_requests.yaml --gpus 8
    """
    from gsched.comparison import attempt
    from gsched.files import require_folder
    from gsched.load import load_workload
    from gsched.session import require_fit

    for folder in (out_dir, csv and csv.parent):
        if folder:
            require_folder(folder)
    cluster = options.cluster_of(gpus, gpus_per_server, pcie_bandwidth, switch_overhead, gpu_memory, residency)
    chosen = _chosen(policies, mode.value, settings, objective=objective, budget=budget, trials=trials)
    warnings: list[Problem] = []
    outcomes: list[Outcome] = []

    def keep(log: "Log") -> None:
        if out_dir:
            write_run(log, workload, out_dir, options.LogFormat.AUTO)

    with stages(quiet=quiet) as progress:
        progress.stage("Reading the workload")
        workload = load_workload(config, requests, warnings=warnings)
        require_fit(workload.used_models, cluster)
        for i, policy in enumerate(chosen):
            progress.stage(f"{policy.name} ({i + 1} of {len(chosen)})")
            outcomes.append(
                attempt(
                    workload,
                    cluster,
                    policy,
                    mode.value,
                    progress=progress.advance,
                    planning=progress.share,
                    keep=keep,
                )
            )
    print_problems(warnings)
    if csv:
        _write_csv(outcomes, csv)
    if json:
        _print_json(outcomes)
    elif not quiet:
        _print_table(outcomes, workload, cluster, mode.value)
    if any(outcome.violations or outcome.faulty for outcome in outcomes):
        return 1
    return 2 if all(outcome.problem for outcome in outcomes) else 0


def _chosen(names: Sequence[str] | None, mode: "Mode", settings: Iterable[str] | None, **named: Any) -> "list[Policy]":
    """Return the policies to compare, with their options."""
    from gsched.comparison import working
    from gsched.policies import find_policy

    names = list(dict.fromkeys(names or [policy.name for policy in working(mode)]))
    given = options.settings_by_policy(settings, names)
    search = {option: value for option, value in named.items() if value is not None}
    if search and "search" not in given:
        option = next(iter(search))
        raise InputError.one("options", "", f"--{option} is for policy search", "add --policy search, or omit it")
    policies = [
        find_policy(name, options.settings_of(given[name], **(search if name == "search" else {}))) for name in names
    ]
    files = [policy.name for policy in policies]
    for name in files:
        if files.count(name) > 1:
            raise InputError.one("", f"policy {name}", "is the name of two policies", "rename one of the classes")
    return policies


def _print_table(outcomes: "Sequence[Outcome]", workload: "Workload", cluster: "Cluster", mode: "Mode") -> None:
    """Print what was compared, the table and what it does not say."""
    from gsched.report.tables import comparison_notes, comparison_table

    console = out()
    size = f"{counted(workload.request_count, 'request')}, {counted(workload.node_count, 'node')}"
    servers = f" in servers of {cluster.server_size}" if cluster.server_size < cluster.gpus else ""
    where = f"{counted(cluster.gpus, 'GPU')}{servers}, {cluster.residency} residency"
    console.print(f"{size}, {mode}, on {where}; times in seconds")
    ran = [outcome for outcome in outcomes if not outcome.problem]
    switching = [outcome for outcome in ran if "deployment_time_seconds" not in outcome.summary]
    if switching:
        s = switching[0].summary
        bound = f"makespan {s['lower_bound']:,.0f} ({s['lower_bound_name']})"
        mean = f"mean {s['mean_latency_lower_bound']:,.1f} ({s['mean_latency_lower_bound_name']})"
        console.print(one_line(f"No schedule can be below: {bound}, {mean}"), markup=False)
    if ran:
        console.print()
        print_table(comparison_table(outcomes))
        console.print()
    for note in comparison_notes(outcomes):
        console.print(one_line(note), markup=False)


def _print_json(outcomes: "Iterable[Outcome]") -> None:
    import json

    typer.echo(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2))


def _as_json(outcome: "Outcome") -> dict[str, Any]:
    known = {"policy": outcome.policy, "valid": outcome.valid, "violations": list(outcome.violations)}
    problem = outcome.problem or None
    return {**known, "problem": problem, "wall_seconds": outcome.seconds, "summary": dict(outcome.summary) or None}


def _write_csv(outcomes: "Sequence[Outcome]", path: Path) -> None:
    """Write a line for each policy: every figure of its summary that is one value."""
    from gsched.files import write_csv

    rows = [_as_row(outcome) for outcome in outcomes]
    write_csv(rows, dict.fromkeys(name for row in rows for name in row), path)


def _as_row(outcome: "Outcome") -> Mapping[str, Any]:
    figures = {name: value for name, value in outcome.summary.items() if not isinstance(value, list | dict)}
    verdict = {"policy": outcome.policy, "valid": outcome.valid, "problem": outcome.problem or None}
    return verdict | {"wall_seconds": outcome.seconds} | figures
