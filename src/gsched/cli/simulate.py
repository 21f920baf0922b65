"""gsched simulate."""

import asyncio
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import executors, options
from gsched.cli.console import out, print_problems, print_verdict, stages
from gsched.cli.run import Order, carry_out, expected
from gsched.cli.written import write_run
from gsched.errors import InputError, Problem

if TYPE_CHECKING:
    from gsched.checker import Report
    from gsched.cluster import Cluster
    from gsched.log import Log
    from gsched.workload import Mode, Workload


class Truth(StrEnum):
    """A boolean as a value."""

    TRUE = "true"
    FALSE = "false"


def simulate(
    gpus: options.Gpus,
    config: options.ConfigPath,
    requests: options.RequestsPath,
    policy: Annotated[str, typer.Option(help="A built-in policy, or path.py:Class.", metavar="NAME")] = "baseline",
    mode: options.ModeOption = options.Mode.OFFLINE,
    gpus_per_server: options.GpusPerServer = None,
    pcie_bandwidth: options.Bandwidth = 16.0,
    switch_overhead: options.Overhead = 2.0,
    gpu_memory: options.GpuMemory = 80.0,
    residency: options.ResidencyOption = options.Residency.EXCLUSIVE,
    settings: options.Settings = None,
    objective: options.Objective = None,
    budget: options.Budget = None,
    trials: options.Trials = None,
    log_format: Annotated[
        options.LogFormat, typer.Option(help="auto: JSON, for 100,000 nodes or more Parquet.")
    ] = options.LogFormat.AUTO,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Check the schedule against every rule.")] = True,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print why each model stands where it does (policy static).")
    ] = False,
    out_dir: options.OutDir = Path(),
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print every event, as in POLICY_scheduler.log.")
    ] = False,
    estimator: executors.EstimatorOption = executors.Estimator.RECORDED,
    server_url: executors.ServerUrls = None,
    simulate: Annotated[
        Truth,
        typer.Option(case_sensitive=False, help="true: really call models, as gsched run; false: virtual time."),
    ] = Truth.FALSE,
) -> int:
    """Run a scheduling policy over a workload in virtual time, check the schedule and write its log.

    Writes POLICY_execution_log.json and POLICY_scheduler.log. Exit status 1: the schedule breaks a rule.

    Example: gsched simulate --config examples/documents.json --requests examples/documents_requests.yaml --gpus 8
    """
    from gsched.checker import check as check_log
    from gsched.files import require_folder
    from gsched.load import load_workload
    from gsched.policies import find_policy
    from gsched.simulator import simulate as run

    require_folder(out_dir)
    cluster = options.cluster_of(gpus, gpus_per_server, pcie_bandwidth, switch_overhead, gpu_memory, residency)
    given = options.settings_of(settings, objective=objective, budget=budget, trials=trials)
    chosen = find_policy(policy, given)
    if explain and chosen.place is None:
        raise InputError.one(
            "", f"policy {chosen.name}", "places no models that --explain could explain", "leave it out"
        )
    target = executors.Target(urls=tuple(server_url or (executors.DEFAULT_URL,)))
    if simulate is Truth.TRUE:
        order = Order(config, requests, chosen, mode, cluster, gpus, target, estimator, out_dir, log_format)
        return carry_out(replace(order, check=check, json=json, quiet=quiet))
    warnings: list[Problem] = []
    with stages(quiet=quiet) as progress:
        progress.stage("Reading the workload")
        ask = estimator is executors.Estimator.API
        workload = load_workload(config, requests, details=ask, warnings=warnings)
        if estimator is not executors.Estimator.RECORDED:
            progress.stage("Estimating")
            workload = asyncio.run(_estimated(workload, estimator, target, cluster))
        progress.stage(f"Simulating {workload.node_count:,} nodes")
        log = run(
            workload,
            cluster,
            chosen,
            mode.value,
            progress=progress.advance,
            planning=progress.share,
            estimator=estimator.value,
        )
        report = None
        if check:
            progress.stage("Checking the schedule")
            report = check_log(log, workload, cluster)
        progress.stage("Writing the log")
        path = write_run(log, workload, out_dir, log_format)
    print_problems(warnings)
    explanation = _explanation(log, workload, cluster, mode.value) if explain else []
    if json:
        _print_json(log, report, path, explanation)
        return 1 if report and not report.valid else 0
    for line in explanation:
        out().print(line, markup=False)
    if not quiet:
        _print_report(log, workload, report, path, verbose=verbose)
    return 1 if report and not report.valid else 0


async def _estimated(
    workload: "Workload", estimator: executors.Estimator, target: executors.Target, cluster: "Cluster"
) -> "Workload":
    """Return the workload with times that its requests do not tell."""
    if estimator is executors.Estimator.PROFILE:
        return await expected(workload, estimator, None, cluster)
    executor = executors.model_servers(target)
    try:
        return await expected(workload, estimator, executor, cluster)
    finally:
        await executor.close()


def _print_json(log: "Log", report: "Report | None", path: Path, explanation: list[str]) -> None:
    """Print the summary, the findings and, where asked for, the explanation."""
    import json

    found: dict[str, Any] = {"summary": dict(log.summary), "execution_log": str(path), "check": None}
    if report:
        found["check"] = {"valid": report.valid, "violations": [violation.message for violation in report.violations]}
    if explanation:
        found["explanation"] = explanation
    typer.echo(json.dumps(found, indent=2))


def _explanation(log: "Log", workload: "Workload", cluster: "Cluster", mode: "Mode") -> list[str]:
    """Return lines that say why each model stands where it does."""
    from gsched.errors import one_line
    from gsched.placement import explain_lines
    from gsched.session import known_before

    position = {model: i for i, model in enumerate(workload.config.models)}
    placement = [(position[part["model"]], part["gpu_ids"][0]) for part in log.extra.get("placement", ())]
    return [*map(one_line, explain_lines(known_before(workload, mode), cluster, mode, placement)), ""]


def _print_report(log: "Log", workload: "Workload", report: "Report | None", path: Path, *, verbose: bool) -> None:
    """Print the metrics (before them, if asked to, every event) and whether the schedule is valid."""
    from gsched.report.text import log_lines, metrics_lines

    console = out()
    for line in log_lines(log, workload, events=True) if verbose else metrics_lines(log):
        console.print(line, markup=False)
    if report:
        print_verdict(report)
    console.print(f"\nDetailed execution log written to {path}", markup=False)
