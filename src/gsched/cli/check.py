"""gsched check."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsched.cli import options
from gsched.cli.console import print_problems, print_verdict, stages

if TYPE_CHECKING:
    from gsched.checker import Report
    from gsched.cluster import Cluster
    from gsched.log import Log


def check(
    log: Annotated[Path, typer.Argument(help="An execution log, JSON or Parquet.", metavar="LOG")],
    config: Annotated[
        Path | None, typer.Option("--config", help="Models and workflows of the run.", metavar="FILE")
    ] = None,
    requests: Annotated[Path | None, typer.Option("--requests", help="Requests of the run.", metavar="FILE")] = None,
    gpus: Annotated[int | None, typer.Option(help="Number of GPUs.", min=1, metavar="N")] = None,
    gpus_per_server: options.GpusPerServer = None,
    pcie_bandwidth: Annotated[float | None, typer.Option(help="Speed of loading models, in GB/s.", metavar="X")] = None,
    switch_overhead: Annotated[float | None, typer.Option(help="Fixed seconds of a switch.", metavar="X")] = None,
    gpu_memory: Annotated[float | None, typer.Option(help="Memory of a GPU, in GB.", metavar="GB")] = None,
    residency: Annotated[options.Residency | None, typer.Option(help="What a GPU keeps.")] = None,
    mode: Annotated[options.Mode | None, typer.Option(help="When requests arrived.")] = None,
    save_report: Annotated[bool, typer.Option("--save-report", help="Write LOG_check_report.txt beside LOG.")] = False,
    json: options.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only PASS or FAIL.")] = False,
) -> int:
    """Check an execution log, of gsched or of another tool, against the rules of a schedule.

    With the configuration and the requests, every rule is checked; without them, what the log itself shows. What could
    not be checked is said. Cluster and mode are those of the log's summary; options tell what it leaves out, and where
    it says otherwise, that is a finding. Exit status 1: a rule is broken.

    Example: gsched check baseline_execution_log.json --config examples/documents.json --requests
    examples/documents_requests.yaml
    """
    from gsched.checker import check as check_log
    from gsched.errors import InputError, Problem
    from gsched.load import load_workload
    from gsched.log_files import read_log

    warnings: list[Problem] = []
    if (config is None) != (requests is None):
        raise InputError.one("options", "", "--config and --requests belong together", "give both or neither")
    with stages(quiet=quiet) as progress:
        progress.stage("Reading")
        found = read_log(log)
        workload = load_workload(config, requests, warnings=warnings) if config and requests else None
        cluster = _cluster(
            found,
            gpus=gpus,
            gpus_per_server=gpus_per_server,
            pcie_bandwidth=pcie_bandwidth,
            switch_overhead=switch_overhead,
            gpu_memory_gb=gpu_memory,
            residency=residency.value if residency else None,
        )
        progress.stage(f"Checking {len(found):,} rows")
        report = check_log(found, workload, cluster, mode.value if mode else None)
    print_problems(warnings)
    if save_report:
        _save(report, log)
    if json:
        _print_json(report)
    elif quiet:
        typer.echo("PASS" if report.valid else "FAIL")
    else:
        print_verdict(report)
    return 0 if report.valid else 1


def _cluster(log: "Log", **told: float | str | None) -> "Cluster | None":
    """Return the cluster that options describe, and the log where they do not; None without options."""
    from gsched.cluster import Cluster
    from gsched.errors import InputError

    given = {name: value for name, value in told.items() if value is not None}
    known = log.cluster_fields | given
    if not given:
        return None
    if "gpus" not in known:
        name = next(iter(given)).removesuffix("_gb").replace("_", "-")
        raise InputError.one("options", "", f"--{name} says nothing without --gpus, which the log leaves out", "add it")
    try:
        return Cluster(**known)
    except (TypeError, ValueError) as error:
        raise InputError.one("options", "", str(error), "correct the options, or override the summary") from None


def _save(report: "Report", log: Path) -> None:
    """Write what was found beside the log."""
    from gsched.errors import one_line
    from gsched.files import whole_file

    with whole_file(log.with_name(f"{log.stem}_check_report.txt")) as file:
        lines = [f"{log.name}: {'valid' if report.valid else 'NOT valid'}"]
        lines += [f"{violation.rule}: {violation.message}" for violation in report.violations]
        lines += [*report.unchecked, f"Rules checked: {', '.join(report.rules_checked)}"]
        file.writelines(f"{one_line(line)}\n".encode() for line in lines)


def _print_json(report: "Report") -> None:
    import json
    from dataclasses import asdict

    typer.echo(json.dumps({"valid": report.valid, **asdict(report)}, indent=2))
