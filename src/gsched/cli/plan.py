"""gsched plan."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import options
from gsched.cli.console import counted, out, print_problems, print_table, stages
from gsched.errors import InputError, Problem, one_line

if TYPE_CHECKING:
    from gsched.planning import Plan, Point, PolicyPlan
    from gsched.policies import Policy
    from gsched.workload import Mode


def plan(
    config: options.ConfigPath,
    requests: options.RequestsPath,
    slos: Annotated[
        list[str] | None,
        typer.Option(
            "--slo",
            help="A limit: p50, p99, p99.9, mean, max (times of requests) or makespan, in s, m or h; may be repeated.",
            metavar="NAME=TIME",
        ),
    ] = None,
    attainment: Annotated[
        float | None, typer.Option(help="At least this share of deadlines is met, such as 0.99.", metavar="SHARE")
    ] = None,
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="A built-in policy, or path.py:Class; may be repeated. By default all that work in the mode, "
            "except search, which takes minutes.",
            metavar="NAME",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of a policy; may be repeated.", metavar="POLICY.NAME=VALUE"),
    ] = None,
    mode: options.ModeOption = options.Mode.ONLINE,
    load: Annotated[float, typer.Option(help="Load, as a multiple of what was recorded.", metavar="X")] = 1.0,
    gpus_per_server: options.GpusPerServer = None,
    max_gpus: Annotated[int, typer.Option(help="The largest cluster to try.", min=1, metavar="N")] = 1024,
    pcie_bandwidth: options.Bandwidth = 16.0,
    switch_overhead: options.Overhead = 2.0,
    gpu_memory: options.GpuMemory = 80.0,
    residency: options.ResidencyOption = options.Residency.EXCLUSIVE,
    price: Annotated[
        float | None, typer.Option(help="Price of a GPU-hour, for the cost.", min=0, max=1e15, metavar="X")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write the curves of all policies (.svg, .png, .pdf).", metavar="FILE")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Find the smallest cluster that keeps an SLO, for each policy, by simulations that are all checked.

    Clusters grow by whole servers where there is --gpus-per-server. Exit status 1: no policy keeps the SLO.

    Example: gsched plan --config examples/documents.json --requests examples/documents_requests.yaml --slo p99=60s
    """
    from gsched.changes import scaled
    from gsched.load import load_workload
    from gsched.planning import smallest_clusters
    from gsched.planning.slo import parse_slos

    if plot:
        _require_picture(plot)
    step = gpus_per_server or 1
    most = max_gpus // step * step
    if not most:
        raise InputError.one("options", "", f"--max-gpus {max_gpus} is less than a server", "raise it")
    largest = options.cluster_of(most, gpus_per_server, pcie_bandwidth, switch_overhead, gpu_memory, residency)
    chosen = _chosen(policies, mode.value, settings)
    warnings: list[Problem] = []
    with stages(quiet=quiet) as progress:
        progress.stage("Reading the workload")
        workload = load_workload(config, requests, warnings=warnings)
        workload = scaled(workload, load, mode.value)
        limits = parse_slos(slos or (), attainment, workload)
        found = smallest_clusters(
            workload,
            largest,
            limits,
            chosen,
            mode.value,
            tell=lambda policy, gpus: progress.stage(f"{policy} on {counted(gpus, 'GPU')}"),
        )
    print_problems(warnings)
    if plot:
        _draw(found, plot)
    if json:
        _print_json(found, price)
    elif not quiet:
        _print_text(found, mode.value, price)
    return 0 if found.best else 1


def _require_picture(path: Path) -> None:
    """Raise an `InputError` where a picture could not be written."""
    from gsched.cli.extras import require_extra
    from gsched.files import require_folder
    from gsched.pictures import FORMATS

    if path.suffix.removeprefix(".").lower() not in FORMATS:
        raise InputError.one(path, "", "is no picture that can be drawn", f"name it .{', .'.join(FORMATS)}")
    require_extra("report", "matplotlib")
    require_folder(path.parent)


def _draw(found: "Plan", path: Path) -> None:
    from gsched.report.planning_plot import plot_plan

    if any(known.curve for known in found.policies):
        plot_plan(found, path)
    else:
        typer.echo(f"note: {path} is not written, as no size was simulated", err=True)


def _chosen(names: Sequence[str] | None, mode: "Mode", settings: Sequence[str] | None) -> "list[Policy]":
    """Return the policies, with their options."""
    from gsched.comparison import usual
    from gsched.policies import find_policy

    names = list(dict.fromkeys(names or [policy.name for policy in usual(mode)]))
    given = options.settings_by_policy(settings, names)
    return [find_policy(name, options.settings_of(given[name])) for name in names]


def _print_text(found: "Plan", mode: "Mode", price: float | None) -> None:
    from gsched.report.planning import plan_curve, plan_notes, plan_table

    console = out()
    if found.best:
        print_table(plan_table(found, price))
        console.print()
    for note in plan_notes(found, mode):
        console.print(one_line(note), markup=False)
    if found.best:
        console.print()
        for line in plan_curve(found.slos[0], found.best):
            console.print(one_line(line), markup=False)


def _print_json(found: "Plan", price: float | None) -> None:
    import json

    impossible, refused = found.impossible, found.refused
    result = {
        "slos": {slo.name: slo.limit for slo in found.slos},
        "sizes": {"first": found.sizes[0], "last": found.sizes[-1], "step": found.sizes.step} if found.sizes else None,
        "impossible": {"slo": impossible.slo.name, "reason": impossible.reason} if impossible else None,
        "too_small": {"gpus": refused[0], "slo": refused[1].slo.name, "reason": refused[1].reason} if refused else None,
        "policy": found.best.policy if found.best else None,
        "gpus": found.best.gpus if found.best else None,
        "policies": [_policy_as_json(known, found, price) for known in found.policies],
    }
    typer.echo(json.dumps(result, indent=2))


def _policy_as_json(known: "PolicyPlan", found: "Plan", price: float | None) -> dict[str, Any]:
    tried = [_point_as_json(point, found, price) for point in known.points]
    return {"policy": known.policy, "static": known.static, "gpus": known.gpus, "tried": tried}


def _point_as_json(point: "Point", found: "Plan", price: float | None) -> dict[str, Any]:
    told = {"gpus": point.gpus, "kept": not point.lack(found.slos), "problem": point.problem or None}
    if not point.figures:
        return told
    names = ("makespan", "average_utilization", "total_model_switches")
    costs = {"gpu_hours": point.gpu_hours} | ({} if price is None else {"cost": point.gpu_hours * price})
    return told | {"figures": point.figures} | {name: point.summary[name] for name in names} | costs
