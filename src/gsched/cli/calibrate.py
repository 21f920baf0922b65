"""gsched calibrate."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsched.cli import options
from gsched.cli.console import out, print_problems, print_table, stages
from gsched.errors import InputError, Problem, one_line

if TYPE_CHECKING:
    from gsched.calibration import Calibration
    from gsched.cluster import Cluster
    from gsched.log import Log
    from gsched.workload import Config


def calibrate(
    logs: Annotated[list[Path], typer.Argument(help="Logs of measured runs, JSON or Parquet.", metavar="LOG...")],
    config: options.ConfigPath,
    requests: Annotated[
        list[Path],
        typer.Option("--requests", help="Requests of the runs: one file for all, or one for each.", metavar="FILE"),
    ],
    output: Annotated[
        Path, typer.Option("--output", help="Where to write the fitted configuration.", metavar="FILE")
    ] = Path("calibrated.json"),
    rescale: Annotated[
        list[Path] | None,
        typer.Option(help="Requests to be written anew with the times to be expected; repeatable.", metavar="FILE"),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Fit execution times, load times and switch costs to measured runs, so that simulations foretell the next one.

    Writes the configuration with what was measured; what was not keeps its value, and is named. Requests that state
    their own times are written anew by --rescale FILE, as FILE_calibrated beside the output.

    Example: gsched calibrate online_execution_log.json --config c.json --requests r.yaml --rescale next.yaml
    """
    from gsched.calibration import calibrate as fit
    from gsched.files import require_folder
    from gsched.load import load_workload, save_config, save_requests
    from gsched.log_files import read_log

    require_folder(output.parent)
    targets = _targets(rescale or [], output)
    if len(requests) not in (1, len(logs)):
        message = f"{len(requests)} are given for {len(logs)} logs"
        raise InputError.one("options", "--requests", message, "give one for all logs, or one for each")
    warnings: list[Problem] = []
    with stages(quiet=quiet) as progress:
        progress.stage("Reading")
        found = [read_log(log) for log in logs]
        cluster, *_ = [_cluster(log, path) for log, path in zip(found, logs, strict=True)]
        read = {path: load_workload(config, path, warnings=warnings) for path in dict.fromkeys(requests)}
        others = [load_workload(config, path, details=True, warnings=warnings) for path in targets]
        pairs = list(zip(found, [read[path] for path in requests * (len(logs) // len(requests))], strict=True))
        progress.stage("Fitting")
        calibration = fit(pairs, cluster, logs)
        save_config(calibration.config(pairs[0][1].config), output)
        for workload, target in zip(others, targets.values(), strict=True):
            save_requests(calibration.workload(workload), target)
    print_problems(dict.fromkeys(warnings))
    written = [output, *targets.values()]
    if json:
        _print_json(calibration, cluster, written)
    elif not quiet:
        _print_report(calibration, pairs[0][1].config, cluster, written)
    return 0


def _targets(sources: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Return where rescaled requests are written, by the file they are read from."""
    from gsched.load.documents import TEXT_SUFFIXES

    targets = {path: output.with_name(f"{path.stem}_calibrated{path.suffix}") for path in sources}
    for path, target in targets.items():
        if path.suffix.lower() not in (*TEXT_SUFFIXES, ".parquet"):
            known = ", ".join((*TEXT_SUFFIXES, ".parquet"))
            raise InputError.one(path, "", f'has an unknown suffix "{path.suffix}"', f"use {known}")
        if [output, *targets.values()].count(target) > 1:
            raise InputError.one(path, "", f"would be written to {target}, as another file", "rename one of them")
    return targets


def _cluster(log: "Log", path: Path) -> "Cluster":
    """Return the cluster of a measured log, and refuse one that was simulated, says of no cluster, or holds nothing."""
    if log.summary.get("simulate") is not True:
        hint = "calibrate with a log that gsched run wrote"
        raise InputError.one(path, "summary.simulate", "is not true, so nothing was measured", hint)
    if not len(log):
        raise InputError.one(path, "executions", "are none, so nothing was measured", "leave the log out")
    try:
        cluster = log.cluster
    except (TypeError, ValueError) as error:
        raise InputError.one(path, "summary", str(error), "correct it") from None
    if cluster is None:
        raise InputError.one(path, "summary.gpus", "is missing", "give a log that gsched run wrote")
    return cluster


def _print_json(calibration: "Calibration", cluster: "Cluster", written: Sequence[Path]) -> None:
    import json

    from gsched.report.fidelity import calibration_json

    fitted = calibration.cluster(cluster)
    costs = {"pcie_bandwidth": fitted.pcie_bandwidth, "switch_overhead": fitted.switch_overhead}
    found = {"calibration": calibration_json(calibration), "simulate_with": costs, "written": [*map(str, written)]}
    typer.echo(json.dumps(found, indent=2))


def _print_report(calibration: "Calibration", config: "Config", cluster: "Cluster", written: Sequence[Path]) -> None:
    """Print the table, what it does not say, and how to go on."""
    from gsched.report.fidelity import calibration_lines, calibration_table

    console, fitted = out(), calibration.cluster(cluster)
    print_table(calibration_table(calibration, config, cluster))
    console.print()
    for line in calibration_lines(calibration, cluster):
        console.print(line, markup=False)
    console.print(one_line(f"Written: {', '.join(map(str, written))}"), markup=False)
    costs = f"--pcie-bandwidth {fitted.pcie_bandwidth:.6g} --switch-overhead {fitted.switch_overhead:.6g}"
    console.print(one_line(f"Simulate with: --config {written[0]} {costs}"), markup=False)
