"""gsched validate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gsched.cli import options
from gsched.cli.console import counted, print_problems
from gsched.errors import InputError, Problem


def validate(
    config: options.ConfigPath,
    requests: Annotated[
        Path | None, typer.Option("--requests", help="Requests for it, if they are to be read too.", metavar="FILE")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="Check that every model fits so many GPUs.", min=1)] = None,
    gpus_per_server: options.GpusPerServer = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Read a configuration and its requests and list every problem at once, with its place and a remedy.

    Exit status 2: something has to be corrected. Warnings alone are no failure.

    Example: gsched validate --config examples/documents.json --requests examples/documents_requests.yaml --gpus 8
    """
    if gpus_per_server is not None and gpus is None:
        raise InputError.one("options", "", "--gpus-per-server says nothing without --gpus", "give both")
    problems: list[Problem] = []
    size: dict[str, int] = {}
    tiers: dict[str, Any] = {}
    try:
        size, tiers = _read(config, requests, problems, gpus, gpus_per_server)
    except InputError as error:
        problems.extend(error.problems)
    if json:
        _print_json(size, tiers, problems)
    else:
        print_problems(problems)
        if size and not quiet:
            counts = ", ".join(counted(count, name.removesuffix("s")) for name, count in size.items())
            typer.echo(f"{counts}: {counted(len(problems), 'warning') if problems else 'no problems'}")
            for tier, figures in tiers.items():
                typer.echo(f"tier {tier}: {_described(figures)}")
    return 0 if size else 2


def _read(
    config: Path, requests: Path | None, warnings: list[Problem], gpus: int | None, gpus_per_server: int | None
) -> tuple[dict[str, int], dict[str, Any]]:
    """Return how many of each there are, and the requests of each tier, after checking everything that is asked for."""
    from gsched.load import load_config, load_workload
    from gsched.session import require_fit
    from gsched.urgency import tier_figures

    if requests is None:
        found = load_config(config, warnings)
        names = {node.model for flow in found.workflows.values() for node in flow.nodes}
        used = tuple(model for model in found.models.values() if model.id in names)
        counts, tiers = {}, {}
    else:
        workload = load_workload(config, requests, warnings=warnings)
        found, used = workload.config, workload.used_models
        counts = {"requests": workload.request_count, "nodes": workload.node_count}
        tiers = tier_figures(workload)
    if gpus is not None:
        require_fit(used, options.cluster_of(gpus, gpus_per_server))
    return {"models": len(found.models), "workflows": len(found.workflows), **counts}, tiers


def _described(figures: dict[str, Any]) -> str:
    """Return what there is to say about the requests of a tier."""
    share = f"{counted(figures['requests'], 'request')} ({figures['percent']:g}%)"
    text = f"{share}, {figures['with_deadline']:,} with a deadline"
    median = figures["median_deadline_seconds"]
    return text if median is None else f"{text} (median {median:g} s)"


def _print_json(size: dict[str, int], tiers: dict[str, Any], problems: list[Problem]) -> None:
    import json
    from dataclasses import asdict

    listed = [asdict(problem) for problem in problems]
    typer.echo(json.dumps({"valid": bool(size), **size, "tiers": tiers, "problems": listed}, indent=2))
