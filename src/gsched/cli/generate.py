"""gsched generate."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import options
from gsched.cli.console import counted, out, print_problems, stages
from gsched.errors import InputError, Problem, one_line

if TYPE_CHECKING:
    from rich.table import Table


class Format(StrEnum):
    """Formats of the requests; both is YAML and JSON."""

    JSON = "json"
    YAML = "yaml"
    BOTH = "both"
    JSONL = "jsonl"
    PARQUET = "parquet"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffixes of the files to write."""
        return ("yaml", "json") if self is Format.BOTH else (self.value,)


class Arrivals(StrEnum):
    """How the gaps between arrivals vary."""

    POISSON = "poisson"
    UNIFORM = "uniform"
    GAMMA = "gamma"


def generate(
    config: options.ConfigPath,
    num_requests: Annotated[int, typer.Option(help="Number of requests.", metavar="N")] = 500,
    duration: Annotated[float, typer.Option(help="Minutes over which they arrive.", metavar="MINUTES")] = 20.0,
    output_prefix: Annotated[
        str, typer.Option(help="Files are named PREFIX_requests.* and PREFIX_stats.json.", metavar="PREFIX")
    ] = "generated",
    format: Annotated[  # noqa: A002
        Format, typer.Option(help="Format of the requests; both: YAML and JSON.")
    ] = Format.BOTH,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed gives the same bytes; without one, a new one is drawn.", metavar="N"),
    ] = None,
    start: Annotated[
        str, typer.Option(help="Time from which arrivals count; UTC unless it names a zone.", metavar="TIME")
    ] = "2024-01-01T10:00:00",
    arrivals: Annotated[Arrivals, typer.Option(help="How the gaps between arrivals vary.")] = Arrivals.POISSON,
    burstiness: Annotated[
        float, typer.Option(help="Coefficient of variation of gamma's gaps; 1 is like poisson.", metavar="X")
    ] = 1.0,
    profile: Annotated[
        str | None,
        typer.Option(help="Relative rate from each minute on, such as 0:1,5:4,6:1.", metavar="MINUTE:RATE,…"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Relative frequency of workflows.", metavar="WORKFLOW=WEIGHT,…")
    ] = None,
    tiers: Annotated[
        str | None, typer.Option(help="Shares of tiers, of which 1 is the most important.", metavar="TIER=SHARE,…")
    ] = None,
    deadlines: Annotated[
        str | None,
        typer.Option(
            help="Deadlines, for all or by tier: 30s, 2x the request's critical path, 10s+2x or none.",
            metavar="TIER=DEADLINE,…",
        ),
    ] = None,
    out_dir: options.OutDir = Path(),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw a synthetic workload: requests with arrivals, execution times and node configs, and statistics of it.

    Example: gsched generate --config examples/documents.json --num-requests 1000 --duration 60 --seed 42
    """
    import secrets

    from gsched.arrivals import parse_profile
    from gsched.generator import generate as draw
    from gsched.generator import parse_weights, statistics
    from gsched.load import load_config, save_requests
    from gsched.urgency import parse_deadlines, parse_tiers

    shares = None if tiers is None else parse_tiers(tiers)
    arguments: dict[str, Any] = {
        "requests": num_requests,
        "duration": duration,
        "seed": secrets.randbits(32) if seed is None else seed,
        "start": start,
        "arrivals": arrivals.value,
        "burstiness": burstiness,
        "profile": None if profile is None else parse_profile(profile),
        "weights": None if weights is None else parse_weights(weights),
        "tiers": shares,
        "deadlines": None if deadlines is None else parse_deadlines(deadlines, shares or (1,)),
    }
    if output_prefix.endswith("/") or not Path(output_prefix).name:
        message = f"{output_prefix!r} is no beginning of a file's name"
        raise InputError.one("--output-prefix", "", message, "end it with the beginning of a name")
    warnings: list[Problem] = []
    paths = [out_dir / f"{output_prefix}_requests.{suffix}" for suffix in format.suffixes]
    with stages(quiet=quiet) as progress:
        progress.stage(f"Drawing {num_requests:,} requests")
        try:
            workload = draw(load_config(config, warnings), **arguments)
        except InputError as error:  # from what was read it cannot tell which file it came from
            raise InputError(
                replace(problem, source=str(config)) if problem.source == "config" else problem
                for problem in error.problems
            ) from None
        for path in paths:
            progress.stage(f"Writing {path}")
            save_requests(workload, path)
    figures = statistics(workload, arguments)
    paths.append(out_dir / f"{output_prefix}_stats.json")
    _save(figures, paths[-1])
    print_problems(warnings)
    if json:
        typer.echo(paths[-1].read_text(), nl=False)
    elif not quiet:
        _print_report(figures, paths)


def _save(figures: dict[str, Any], path: Path) -> None:
    import json

    from gsched.files import whole_file

    with whole_file(path) as file:
        file.write(json.dumps(figures, indent=2).encode() + b"\n")


def _print_report(figures: dict[str, Any], paths: list[Path]) -> None:
    """Print the statistics, and where the files are."""
    console = out()
    seed, hours = figures["generation"]["seed"], figures["estimated_gpu_hours"]
    requests, nodes = counted(figures["total_requests"], "request"), counted(figures["total_nodes"], "node")
    console.print(f"Generated {requests} of {nodes}, seed {seed}\n")
    realised = figures["realised_rate_per_minute"]
    rates = [
        ("requested", figures["requested_duration_minutes"], figures["requested_rate_per_minute"]),
        ("realised", figures["realised_duration_minutes"], _or_dash(realised)),
    ]
    flows = [(name, flow["requests"], f"{flow['percent']:.1f}%") for name, flow in figures["workflows"].items()]
    tiers = [
        (
            name,
            tier["requests"],
            f"{tier['percent']:.1f}%",
            tier["with_deadline"],
            _or_dash(tier["median_deadline_seconds"]),
        )
        for name, tier in figures["tiers"].items()
    ]
    for header, rows in (
        (("arrivals", "minutes", "requests/minute"), rates),
        (("workflow", "requests", "share"), flows),
        (("tier", "requests", "share", "with deadline", "median (s)"), tiers),
        (("model", "GPU-hours"), [*hours["by_model"].items(), ("all", hours["total"])]),
        (("model type", "GPU-hours"), hours["by_model_type"].items()),
        (("base model", "executions"), figures["base_model_usage"].items()),
    ):
        if rows:
            console.print(_table(header, rows), "")
    console.print("Written: " + ", ".join(map(str, paths)), markup=False)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> "Table":
    """Return a table of names and figures, without lines or colour, as it may be piped."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*header[:1], box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for title in header[1:]:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*(Text(one_line(_figure(cell))) for cell in row))
    return table


def _figure(cell: float | str) -> str:
    """Return a cell's text: whole numbers whole, others to two decimals."""
    return f"{cell:,.2f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell


def _or_dash(cell: float | None) -> float | str:
    return "-" if cell is None else cell
