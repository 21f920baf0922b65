"""gsched run."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import executors, options
from gsched.cli.console import out, print_problems, print_table, print_verdict, stages
from gsched.cli.extras import require_extra
from gsched.cli.model_server import ModelBackend
from gsched.cli.written import write_run
from gsched.errors import Problem

if TYPE_CHECKING:
    from gsched.checker import Report
    from gsched.cluster import Cluster
    from gsched.fidelity import Fidelity
    from gsched.live.run.resume import Past
    from gsched.log import Log
    from gsched.policies import Policy
    from gsched.workload import Workload


@dataclass(frozen=True)
class Order:
    """A run as the command line asks for it.

    Args:
        config, requests: files.
        policy: decides.
        mode: when requests arrive.
        cluster: what was said of it; its number of GPUs counts only where `gpus` is given.
        gpus: how many to use; None for all.
        target: where to.
        estimator: where expected times come from.
        out_dir: folder for what is written.
        log_format: of the execution log.
        limits: retries and times, by name.
        resume: whether to go on with the log in `out_dir`.
        compare: whether to simulate the run afterwards.
        check: whether to check the log.
        json, quiet: what to print.
    """

    config: Path
    requests: Path
    policy: "Policy"
    mode: options.Mode
    cluster: "Cluster"
    gpus: int | None
    target: executors.Target
    estimator: executors.Estimator = executors.Estimator.RECORDED
    out_dir: Path = Path()
    log_format: options.LogFormat = options.LogFormat.AUTO
    limits: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    compare: bool = False
    check: bool = True
    json: bool = False
    quiet: bool = False


def run(
    config: options.ConfigPath,
    requests: options.RequestsPath,
    policy: Annotated[str, typer.Option(help="A built-in policy, or path.py:Class.", metavar="NAME")] = "baseline",
    mode: options.ModeOption = options.Mode.OFFLINE,
    gpus: Annotated[int | None, typer.Option(help="GPUs to use (default: all).", min=1, metavar="N")] = None,
    gpus_per_server: options.GpusPerServer = None,
    executor: Annotated[
        executors.ExecutorName, typer.Option(help="http: model servers; ray: a Ray cluster; fake: only pretend.")
    ] = executors.ExecutorName.HTTP,
    server_url: executors.ServerUrls = None,
    token_file: options.TokenFile = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster (default: one is started here).", metavar="ADDRESS")
    ] = None,
    backend: Annotated[ModelBackend, typer.Option(help="ray: what computes in the actors.")] = ModelBackend.EMULATED,
    time_scale: Annotated[
        float | None,
        typer.Option(help="Wall-clock seconds for each second of the workload (default: the server's).", min=1e-6),
    ] = None,
    pcie_bandwidth: options.Bandwidth = 16.0,
    switch_overhead: options.Overhead = 2.0,
    gpu_memory: options.GpuMemory = 80.0,
    residency: options.ResidencyOption = options.Residency.EXCLUSIVE,
    settings: options.Settings = None,
    estimator: executors.EstimatorOption = executors.Estimator.RECORDED,
    retries: Annotated[int, typer.Option(help="Further attempts after one that failed.", min=0, max=100)] = 2,
    call_timeout: Annotated[float, typer.Option(help="Seconds that a call may take.", min=0.001)] = 600.0,
    load_timeout: Annotated[float, typer.Option(help="Seconds that loading a model may take.", min=0.001)] = 1800.0,
    give_up: Annotated[
        float, typer.Option(help="Seconds to wait for lost servers when nothing else is left to do.", min=0)
    ] = 300.0,
    compare_simulation: Annotated[
        bool, typer.Option("--compare-simulation", help="Simulate the run afterwards, and tell how true that is.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Do what the log in --out has left undone.")] = False,
    log_format: Annotated[
        options.LogFormat, typer.Option(help="auto: JSON, for 100,000 nodes or more Parquet.")
    ] = options.LogFormat.AUTO,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Check the log against every rule.")] = True,
    out_dir: options.OutDir = Path(),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Execute a workload for real: a policy decides, model servers or Ray load the models and answer.

    Writes the same log as gsched simulate, and POLICY_answers.jsonl. Ctrl-C lets running calls end, a second one gives
    them up; --resume does the rest. Exit status 1: a request failed, the run was stopped, or the log breaks a rule.

    Example: gsched run --config examples/documents.json --requests examples/documents_requests.yaml --gpus 8
    --executor fake --time-scale 0.001
    """
    from gsched.policies import find_policy

    order = Order(
        config,
        requests,
        find_policy(policy, options.settings_of(settings)),
        mode,
        options.cluster_of(gpus or 1, gpus_per_server, pcie_bandwidth, switch_overhead, gpu_memory, residency),
        gpus,
        executors.Target(
            executor,
            tuple(server_url or (executors.DEFAULT_URL,)),
            options.token_of(token_file),
            ray_address,
            backend,
            time_scale,
        ),
        estimator,
        out_dir,
        log_format,
        {"retries": retries, "call_timeout": call_timeout, "load_timeout": load_timeout, "give_up": give_up},
        resume,
        compare_simulation,
        check,
        json,
        quiet,
    )
    return carry_out(order)


def carry_out(order: Order) -> int:
    """Run a workload for real, write its log, and print what came of it; return the exit status."""
    from gsched.checker import check as check_log
    from gsched.fidelity import compare_with_simulation
    from gsched.files import require_folder
    from gsched.load import load_workload

    require_folder(order.out_dir)
    warnings: list[Problem] = []
    with stages(quiet=order.quiet) as progress:
        progress.stage("Reading the workload")
        workload = load_workload(order.config, order.requests, details=True, warnings=warnings)
    print_problems(warnings)
    log, workload, cluster = asyncio.run(_execute(order, workload))
    with stages(quiet=order.quiet) as progress:
        progress.stage("Checking the log")
        report = check_log(log, workload, cluster) if order.check else None
        progress.stage("Writing the log")
        path = write_run(log, workload, order.out_dir, order.log_format)
        fidelity = None
        if order.compare and log.summary["completed_requests"]:
            progress.stage("Simulating what was measured")
            fidelity = compare_with_simulation(log, workload, cluster, order.policy, order.mode.value)
    _print(order, log, report, path, fidelity)
    undone = log.summary["completed_requests"] < log.summary["total_requests"]
    return 1 if undone or (report and not report.valid) else 0


async def _execute(order: Order, workload: "Workload") -> "tuple[Log, Workload, Cluster]":
    """Return the log of a run, the workload with the times that were expected, and the cluster."""
    from gsched.cli.run_view import shown
    from gsched.live.run.attempts import Limits
    from gsched.live.run.launch import Plan, UnfinishedError, execute, prepare

    limits: Limits = Limits(**order.limits)
    target = replace(order.target, shares=_shares(order, workload))
    executor, cluster, scale = await executors.connect(target, order.cluster, order.gpus)
    try:
        workload = await expected(workload, order.estimator, executor, cluster)
        answers = order.out_dir / f"{order.policy.name}_answers.jsonl"
        past = _past(order, workload, cluster, answers)
        facts = executors.facts_of(order.target, order.estimator)
        plan = Plan(workload, cluster, order.mode.value, order.policy, limits, scale, past, answers, facts)
        with stages(quiet=order.quiet) as progress:
            progress.stage("Planning")
            session, loop = prepare(plan, executor, progress.share)
    except BaseException:
        await executor.close()
        raise
    async with shown(loop, workload, scale, quiet=order.quiet):
        try:
            return await execute(plan, session, loop), workload, cluster
        except UnfinishedError as error:  # hours of work are not to be lost with the policy
            write_run(error.log, workload, order.out_dir, order.log_format)
            raise


def _shares(order: Order, workload: "Workload") -> bool:
    """Return whether models share GPUs; on Ray, a static deployment does where each of its models needs one only.

    Raises:
        InputError: they would have to, and cannot.
    """
    shared = order.cluster.residency == "shared"
    if order.target.kind is not executors.ExecutorName.RAY:
        return shared
    require_extra("ray", "ray")
    from gsched.live.run.executors.ray import require_shareable

    if shared:
        require_shareable(workload.used_models)
    return shared or (order.policy.place is not None and all(m.gpus_required == 1 for m in workload.used_models))


async def expected(
    workload: "Workload", estimator: executors.Estimator, executor: Any, cluster: "Cluster"
) -> "Workload":
    """Return the workload with the times that nodes are expected to take."""
    if estimator is executors.Estimator.PROFILE:
        from gsched.load.durations import by_profile

        return by_profile(workload)
    if estimator is executors.Estimator.API:
        from gsched.live.run.estimates import asked

        return await asked(workload, executor, cluster)
    return workload


def _past(order: Order, workload: "Workload", cluster: "Cluster", answers: Path) -> "Past":
    """Return what the log in the folder has done already."""
    from gsched.live.run.resume import FRESH_START, past_of
    from gsched.log_files import read_log

    if not order.resume:
        return FRESH_START
    names = [order.out_dir / f"{order.policy.name}_execution_log.{suffix}" for suffix in ("json", "parquet")]
    path = max((name for name in names if name.is_file()), key=lambda name: name.stat().st_mtime, default=names[0])
    return past_of(read_log(path), path, answers, workload, cluster, order.mode.value, order.policy)


def _print(order: Order, log: "Log", report: "Report | None", path: Path, fidelity: "Fidelity | None") -> None:
    """Print what came of a run."""
    if order.json:
        _print_json(log, report, path, fidelity)
        return
    if order.quiet:
        return
    from gsched.report.text import metrics_lines

    console = out()
    for line in metrics_lines(log):
        console.print(line, markup=False)
    if report:
        print_verdict(report)
    if fidelity:
        _print_fidelity(fidelity)
    elif order.compare:
        console.print("\nNo request completed, so there is nothing to compare with a simulation.")
    console.print(f"\nDetailed execution log written to {path}", markup=False)
    if log.summary["partial"]:
        console.print("The run was stopped before its end; the same command with --resume does the rest.")


def _print_fidelity(fidelity: "Fidelity") -> None:
    from gsched.report.fidelity import fidelity_lines, gpus_table, models_table, totals_table

    out().print("\nMeasured, and simulated with what was measured (explained) and with what was expected (predicted)\n")
    for table in (totals_table(fidelity), models_table(fidelity), gpus_table(fidelity)):
        print_table(table)
    for line in fidelity_lines(fidelity):
        out().print(line, markup=False)


def _print_json(log: "Log", report: "Report | None", path: Path, fidelity: "Fidelity | None") -> None:
    import json

    from gsched.report.fidelity import fidelity_json

    found: dict[str, Any] = {"summary": dict(log.summary), **log.extra, "execution_log": str(path), "check": None}
    if report:
        found["check"] = {"valid": report.valid, "violations": [violation.message for violation in report.violations]}
    if fidelity:
        found["fidelity"] = fidelity_json(fidelity)
    typer.echo(json.dumps(found, indent=2))
