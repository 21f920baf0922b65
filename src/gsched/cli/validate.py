"""gsched validate."""

from pathlib import Path
from typing import Annotated

import typer

from gsched.cli import options
from gsched.cli.console import print_problems


def validate(
    config: options.ConfigPath,
    requests: Annotated[
        Path | None, typer.Option("--requests", help="Requests for it, if they are to be read too.", metavar="FILE")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="Check that every model fits so many GPUs.", min=1)] = None,
    gpus_per_server: options.GpusPerServer = None,
    quiet: options.Quiet = False,
) -> int:
    """Read a configuration and its requests and list every problem at once, with its place and a remedy.

    Exit status 2: something has to be corrected. Warnings alone are no failure.

    Example: gsched validate --config examples/pipelines.json --requests examples/pipelines_requests.yaml --gpus 8
    """
    from gsched.cluster import Cluster
    from gsched.errors import Problem
    from gsched.load import load_config, load_workload
    from gsched.simulate import require_fit

    warnings: list[Problem] = []
    if requests is None:
        found = load_config(config, warnings)
        size = f"{len(found.models)} models, {len(found.workflows)} workflows"
    else:
        workload = load_workload(config, requests, warnings=warnings)
        if gpus is not None:
            require_fit(workload, Cluster(gpus, gpus_per_server))
        size = (
            f"{len(workload.models)} models, {len(workload.workflows)} workflows, "
            f"{workload.request_count:,} requests, {workload.node_count:,} nodes"
        )
    print_problems(warnings)
    if not quiet:
        typer.echo(f"{size}: {f'{len(warnings)} warnings' if warnings else 'no problems'}")
    return 0
