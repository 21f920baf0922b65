"""gsched validate."""

from pathlib import Path
from typing import Annotated

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
    try:
        size = _read(config, requests, problems, gpus, gpus_per_server)
    except InputError as error:
        problems.extend(error.problems)
    if json:
        _print_json(size, problems)
    else:
        print_problems(problems)
        if size and not quiet:
            counts = ", ".join(counted(count, name.removesuffix("s")) for name, count in size.items())
            typer.echo(f"{counts}: {counted(len(problems), 'warning') if problems else 'no problems'}")
    return 0 if size else 2


def _read(
    config: Path, requests: Path | None, warnings: list[Problem], gpus: int | None, gpus_per_server: int | None
) -> dict[str, int]:
    """Return how many of each there are, after checking everything that is asked for."""
    from gsched.load import load_config, load_workload
    from gsched.simulator import require_fit

    if requests is None:
        found = load_config(config, warnings)
        names = {node.model for flow in found.workflows.values() for node in flow.nodes}
        used = tuple(model for model in found.models.values() if model.id in names)
        counts = {}
    else:
        workload = load_workload(config, requests, warnings=warnings)
        found, used = workload.config, workload.used_models
        counts = {"requests": workload.request_count, "nodes": workload.node_count}
    if gpus is not None:
        require_fit(used, options.cluster_of(gpus, gpus_per_server))
    return {"models": len(found.models), "workflows": len(found.workflows), **counts}


def _print_json(size: dict[str, int], problems: list[Problem]) -> None:
    import json
    from dataclasses import asdict

    typer.echo(
        json.dumps({"valid": bool(size), **size, "problems": [asdict(problem) for problem in problems]}, indent=2)
    )
