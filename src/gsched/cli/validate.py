"""gsched validate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsched.cli import options
from gsched.cli.console import print_problems
from gsched.cli.simulate import cluster_of
from gsched.errors import InputError, Problem

if TYPE_CHECKING:
    from gsched.workload import Config, Workload


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
    from gsched.load import load_config, load_workload
    from gsched.simulator import require_fit

    if gpus_per_server is not None and gpus is None:
        raise InputError.one("options", "", "--gpus-per-server says nothing without --gpus", "give both")
    warnings: list[Problem] = []
    if requests is None:
        workload = one_of_each(load_config(config, warnings))
        size = f"{len(workload.models)} models, {len(workload.workflows)} workflows"
    else:
        workload = load_workload(config, requests, warnings=warnings)
        size = (
            f"{len(workload.models)} models, {len(workload.workflows)} workflows, "
            f"{workload.request_count:,} requests, {workload.node_count:,} nodes"
        )
    if gpus is not None:
        require_fit(workload, cluster_of(gpus, gpus_per_server, pcie_bandwidth=16.0, switch_overhead=2.0))
    print_problems(warnings)
    if not quiet:
        typer.echo(f"{size}: {f'{len(warnings)} warnings' if warnings else 'no problems'}")
    return 0


def one_of_each(config: "Config") -> "Workload":
    """Return a workload of one request for each workflow."""
    import numpy as np

    from gsched.workload import Workload

    flows = config.workflows.values()
    nodes = sum(len(flow.nodes) for flow in flows)
    return Workload(
        config,
        list(config.workflows),
        np.arange(len(flows), dtype=np.int32),
        np.zeros(len(flows), np.int64),
        np.zeros(nodes),
    )
