"""gsched report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsched.cli import options
from gsched.cli.console import counted, print_problems, stages
from gsched.errors import InputError, Problem

if TYPE_CHECKING:
    from gsched.report.page import PageRun
    from gsched.sweep.results import Results
    from gsched.workload import Workload


def report(
    logs: Annotated[
        list[Path] | None, typer.Argument(help="Execution logs, JSON or Parquet, of any tool.", metavar="LOG...")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Models and workflows of the logs.", metavar="FILE")
    ] = None,
    requests: Annotated[Path | None, typer.Option("--requests", help="Requests of the logs.", metavar="FILE")] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", help="What gsched bench wrote: its folder or Parquet file.", metavar="PATH"),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.", metavar="FILE")] = Path("report.html"),
    quiet: options.Quiet = False,
) -> int:
    """Write one HTML page about schedules or a sweep, to be opened or sent anywhere: it needs no network.

    It compares the logs, draws who ran where and when, queues, latencies and use of the GPUs, and says what the checker
    found: with the configuration and the requests by all rules, without them by those that the logs show. Exit status
    1: a log breaks a rule; the page is written all the same.

    Example: gsched report baseline_execution_log.json improved_execution_log.json --output report.html
    """
    from gsched.files import require_folder
    from gsched.load import load_workload
    from gsched.report.page import write_page

    if not logs and results is None:
        raise InputError.one("options", "", "there is nothing to report", "name logs, or --results of a sweep")
    if (config is None) != (requests is None):
        raise InputError.one("options", "", "--config and --requests belong together", "give both or neither")
    if output.resolve() in {path.resolve() for path in (*(logs or ()), config, requests, results) if path}:
        raise InputError.one(output, "", "is what the page is about", "write to another file")
    require_folder(output.parent)
    warnings: list[Problem] = []
    with stages(quiet=quiet) as progress:
        progress.stage("Reading")
        workload = load_workload(config, requests, warnings=warnings) if config and requests else None
        sweep = _sweep(results)
        runs = []
        for i, path in enumerate(logs or ()):
            progress.stage(f"{path.name} ({i + 1} of {len(logs or ())})")
            runs.append(_checked(path, workload))
        progress.stage("Writing the page")
        write_page(output, runs, sweep, workload=workload)
    print_problems(warnings)
    wrong = [run for run in runs if not run.report.valid]
    if not quiet:
        typer.echo(f"{output} written{_verdict(len(runs), len(wrong))}")
    return 1 if wrong else 0


def _sweep(path: Path | None) -> "Results | None":
    from gsched.sweep.results import read_results

    return read_results(path) if path else None


def _checked(path: Path, workload: "Workload | None") -> "PageRun":
    """Return a log with what the checker found in it."""
    from gsched.checker import check
    from gsched.log_files import read_log
    from gsched.report.page import PageRun

    log = read_log(path)
    return PageRun(log, check(log, workload), path.name)


def _verdict(count: int, wrong: int) -> str:
    if not count:
        return ""
    if wrong == count == 1:
        return "; the schedule is NOT valid"
    if wrong:
        return f"; {wrong} of {counted(count, 'schedule')} {'is' if wrong == 1 else 'are'} NOT valid"
    return f"; {counted(count, 'schedule')} checked: valid"
