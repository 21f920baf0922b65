"""gsched plot."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsched.cli import options
from gsched.cli.console import stages
from gsched.cli.extras import require_extra
from gsched.errors import InputError

if TYPE_CHECKING:
    from gsched.report.log_plots import NamedLog
    from gsched.report.panels import Picture


class PictureFormat(StrEnum):
    """Formats of pictures."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


def plot(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="The folder that gsched bench wrote, or its results.parquet; or execution logs.",
            metavar="RESULTS|LOG…",
        ),
    ],
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help="What to draw; may be repeated. By default all that can be.", metavar="KIND"),
    ] = None,
    picture_format: Annotated[
        PictureFormat, typer.Option("--format", help="Format of the pictures.")
    ] = PictureFormat.PNG,
    out_dir: options.OutDir = Path(),
    separate: Annotated[
        bool, typer.Option("--separate", help="A file for each workload, in place of one with a panel for each.")
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(help="Cluster size of request times; by default the middle one.", min=1, metavar="N"),
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="The policy with which speed-ups compare.", metavar="NAME")
    ] = "baseline",
    quiet: options.Quiet = False,
) -> int:
    """Draw the results of a sweep, or execution logs, for papers: a file for each kind of picture.

    Of a sweep: makespan, gap, speedup, switches, latency-cdf, latency-load, utilization. Of logs: latency-cdf,
    utilization, queues. What is left out is told on standard error.

    Example: gsched plot benchmark_results --kind makespan --kind gap --format svg
    """
    require_extra("report", "matplotlib")
    from gsched.files import require_folder
    from gsched.report.log_plots import log_pictures
    from gsched.report.panels import write_pictures
    from gsched.report.plots import sweep_pictures
    from gsched.sweep.results import read_results

    require_folder(out_dir)
    with stages(quiet=quiet) as progress:
        progress.stage("Reading")
        pictures: list[Picture]
        if _is_sweep(sources):
            runs = read_results(sources[0]).runs
            pictures, notes = sweep_pictures(runs, kinds, gpus=gpus, baseline=baseline)
        else:
            if gpus is not None:
                raise InputError.one("options", f"--gpus {gpus}", "is for the results of a sweep", "omit it")
            pictures, notes = log_pictures(_named(sources), kinds)
        progress.stage("Drawing")
        paths = write_pictures(pictures, out_dir, picture_format.value, separate=separate)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if not quiet:
        for path in paths:
            typer.echo(f"{path} written")
    return 0


def _is_sweep(sources: Sequence[Path]) -> bool:
    """Return whether the results of a sweep are to be drawn, not logs."""
    from gsched.sweep.results import RESULTS

    sweeps = [source for source in sources if source.is_dir() or source.name == RESULTS or not source.suffix]
    if sweeps and len(sources) > 1:
        raise InputError.one(sweeps[0], "", "is a sweep beside other files", "plot one sweep, or logs")
    return bool(sweeps)


def _named(paths: Sequence[Path]) -> "list[NamedLog]":
    """Read logs, which are called after their policies, and where two have the same also after their files."""
    from gsched.log_files import read_log
    from gsched.report.log_plots import NamedLog

    logs = [read_log(path) for path in paths]
    policies = [str(log.summary.get("policy", path.stem)) for log, path in zip(logs, paths, strict=True)]
    names = [
        policy if policies.count(policy) == 1 else f"{policy} ({path.with_suffix('')})"
        for policy, path in zip(policies, paths, strict=True)
    ]
    if len(set(names)) < len(names):
        raise InputError.one("", "", "a log is named twice", "name each once")
    return [NamedLog(name, log) for name, log in zip(names, logs, strict=True)]
