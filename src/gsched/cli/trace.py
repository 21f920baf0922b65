"""gsched trace."""

from pathlib import Path
from typing import Annotated

import typer

from gsched.cli import options
from gsched.cli.console import counted, stages
from gsched.errors import InputError

EVENTS = (".json", ".json.gz")


def trace(
    log: Annotated[Path, typer.Argument(help="An execution log, JSON or Parquet.", metavar="LOG")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Trace events (.json, .json.gz) or a table of the rows (.csv, .parquet, .arrow, .feather).",
            metavar="FILE",
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Models and workflows of the run, for arrows along edges.", metavar="FILE"),
    ] = None,
    quiet: options.Quiet = False,
) -> int:
    """Turn an execution log into a trace for ui.perfetto.dev and chrome://tracing, or into a table.

    A trace has a track for each GPU, with what it loads and executes, arrows along the edges of the workflows, and how
    many nodes wait. What could not be shown is told on standard error.

    Example: gsched trace baseline_execution_log.json --config examples/documents.json --output trace.json.gz
    """
    from gsched.load.config import load_config
    from gsched.log_files import read_log
    from gsched.report.rows import TABLES, write_rows
    from gsched.report.trace import write_trace

    if not output.name.endswith((*EVENTS, *TABLES)):
        raise InputError.one(output, "", "has a suffix of no known format", f"use one of {', '.join(EVENTS + TABLES)}")
    if output.resolve() == log.resolve():
        raise InputError.one(output, "", "is the log itself", "write to another file")
    notes: list[str] = []
    with stages(quiet=quiet) as progress:
        progress.stage("Reading")
        found = read_log(log)
        progress.stage(f"Writing {counted(len(found), 'row')}")
        if output.name.endswith(TABLES):
            write_rows(found, output)
        else:
            notes = write_trace(found, output, load_config(config) if config else None)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if not quiet:
        typer.echo(f"{counted(len(found), 'row')} written to {output}")
    return 0
