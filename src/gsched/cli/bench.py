"""gsched bench."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import options
from gsched.cli.console import counted, out, print_problems, print_table, stages
from gsched.errors import InputError, Problem, one_line

if TYPE_CHECKING:
    from gsched.sweep.definition import Choice, Source, Sweep
    from gsched.sweep.intervals import Run
    from gsched.sweep.results import Results


class Suite(StrEnum):
    """Sweeps that come with gsched."""

    OFFLINE = "offline"


_FEW = 10  # reasons for having no valid schedule that are told

Texts = Annotated[list[str] | None, typer.Option("--policy", help="As for compare; may be repeated.", metavar="NAME")]


def bench(
    sweep: Annotated[
        Path | None, typer.Argument(help="The sweep (YAML or JSON); options change it.", show_default=False)
    ] = None,
    suite: Annotated[Suite | None, typer.Option(help="A sweep that comes with gsched.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Models and workflows, in place of the sweep's.", metavar="FILE")
    ] = None,
    requests: Annotated[
        Path | None, typer.Option("--requests", help="Requests; without, they are drawn by seed.", metavar="FILE")
    ] = None,
    num_requests: Annotated[int | None, typer.Option(help="Requests to draw (500).", min=1, metavar="N")] = None,
    duration: Annotated[float | None, typer.Option(help="Minutes over which they arrive (20).", metavar="X")] = None,
    policies: Texts = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of a policy; may be repeated.", metavar="POLICY.NAME=VALUE"),
    ] = None,
    gpus: Annotated[str | None, typer.Option(help="Cluster sizes, such as 4,8,16.", metavar="N,…")] = None,
    loads: Annotated[
        str | None,
        typer.Option(help="Arrival rates relative to the workload's own; offline, times its requests.", metavar="X,…"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds: 1 to N.", min=1, max=10_000, metavar="N")] = None,
    mode: Annotated[options.Mode | None, typer.Option("--mode", help="When requests arrive (offline).")] = None,
    gpus_per_server: options.GpusPerServer = None,
    pcie_bandwidth: Annotated[float | None, typer.Option(help="GB/s at which models load (16).", metavar="X")] = None,
    switch_overhead: Annotated[float | None, typer.Option(help="Seconds a switch takes (2).", metavar="X")] = None,
    gpu_memory: Annotated[float | None, typer.Option(help="Memory of a GPU (80).", metavar="GB")] = None,
    residency: Annotated[options.Residency | None, typer.Option(help="What a GPU keeps (exclusive).")] = None,
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for the results, and for what is done so far.", metavar="DIR")
    ] = Path("benchmark_results"),
    workers: Annotated[
        int | None, typer.Option(help="Processes; by default one for each core.", min=1, metavar="N")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Use a Ray cluster: host:port, ray://host:port, or auto.", metavar="ADDRESS")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what the folder has from before.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Simulate every policy on every workload, cluster size, load and seed; check every schedule; write one table.

    Writes results.parquet, results.csv and intervals.csv (means over the seeds with 95% intervals) into DIR. A sweep
    that was stopped goes on with the same command. Exit status 1: a schedule breaks a rule.

    Example: gsched bench --config examples/documents.json --gpus 8,12,16 --seeds 5 --policy baseline --policy improved
    """
    from gsched.cli.extras import require_extra
    from gsched.sweep import run_sweep

    if ray:
        require_extra("ray", "ray")
    warnings: list[Problem] = []
    with stages(quiet=quiet) as progress:
        progress.stage("Reading the sweep")
        given = _read(sweep, suite, warnings)
        cluster = {
            "gpus_per_server": gpus_per_server,
            "pcie_bandwidth": pcie_bandwidth,
            "switch_overhead": switch_overhead,
            "gpu_memory_gb": gpu_memory,
            "residency": residency and residency.value,
        }
        changes = {
            "sources": _source(config, requests, {"num_requests": num_requests, "duration": duration}, warnings),
            "gpus": None if gpus is None else _numbers("--gpus", gpus, int, "4,8,16"),
            "loads": None if loads is None else _numbers("--loads", loads, float, "1,1.5,2"),
            "seeds": seeds and tuple(range(1, seeds + 1)),
            "mode": mode and mode.value,
            "cluster": {
                **given.get("cluster", {}),
                **{name: value for name, value in cluster.items() if value is not None},
            },
        }
        wanted = _sweep({**given, **{name: value for name, value in changes.items() if value}}, policies, settings)
        if seeds and all(source.recorded is not None for source in wanted.sources.values()):
            raise InputError.one("", "--seeds", "is for requests that are drawn, but these are read", "leave it out")
        print_problems(warnings)
        progress.stage("Simulating")
        results = run_sweep(wanted, out_dir, processes=workers, ray=ray, fresh=fresh, progress=progress.advance)
    if json:
        _print_json(results, out_dir)
    elif not quiet:
        _print_tables(results, out_dir, claims=suite is Suite.OFFLINE and not config)
    if any(run["violations"] or run["faulty"] for run in results.runs):
        return 1
    if any(run["valid"] for run in results.runs):
        return 0
    first = results.runs[0]
    where = f"{first['workload']}, {first['policy']}, {counted(first['gpus'], 'GPU')}"
    raise InputError.one("sweep", "", "nothing could be simulated", f"{where}: {first['problem']}")


def _read(sweep: Path | None, suite: Suite | None, warnings: list[Problem]) -> dict[str, Any]:
    """Return what a file or a suite says."""
    from importlib.resources import as_file, files

    from gsched.sweep.read import read_sweep

    if sweep and suite:
        raise InputError.one("", "--suite", f"is given beside {sweep}", "choose one of them")
    if suite:
        with as_file(files("gsched.sweep") / "suites") as folder:
            return read_sweep(folder / f"{suite.value}.yaml", warnings)
    return read_sweep(sweep, warnings) if sweep else {}


def _source(
    config: Path | None, requests: Path | None, numbers: Mapping[str, Any], warnings: list[Problem]
) -> "dict[str, Source]":
    """Return the workload that options describe; none where they do not."""
    from gsched.sweep.read import drawn, drawn_arguments, recorded

    numbers = {name: value for name, value in numbers.items() if value is not None}
    number = f"--{next(iter(numbers), '').replace('_', '-')}"
    if config is None and (requests or numbers):
        raise InputError.one(
            "", "--requests" if requests else number, "is for a workload of its own", "add --config, or leave it out"
        )
    if config is None:
        return {}
    if requests and numbers:
        raise InputError.one("", number, "is for requests that are drawn", "leave out --requests")
    source = recorded(config, requests, warnings) if requests else drawn(config, drawn_arguments(**numbers), warnings)
    return {config.stem: source}


def _numbers(option: str, text: str, kind: Callable[[str], Any], example: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise InputError.one("", f"{option} {text}", "is no list of numbers", f"such as {option} {example}") from None


def _sweep(given: dict[str, Any], names: Iterable[str] | None, settings: Iterable[str] | None) -> "Sweep":
    """Return the sweep, with the policies that options name, or else the usual ones of the mode."""
    from gsched.sweep.definition import Sweep

    if "sources" not in given:
        raise InputError.one("", "sweep", "has no workload", "name a file, --suite offline, or --config and --requests")
    if "gpus" not in given:
        raise InputError.one("", "sweep", "has no cluster sizes", "add --gpus 4,8,16")
    if names or "choices" not in given:
        given["choices"] = _choices(names, settings, given.get("mode", "offline"))
    elif settings:
        raise InputError.one("", "--set", "is for policies that --policy names", "write options into the file")
    return Sweep(**given)


def _choices(names: Iterable[str] | None, settings: Iterable[str] | None, mode: Any) -> "dict[str, Choice]":
    from gsched.comparison import usual
    from gsched.sweep.definition import Choice

    listed = list(dict.fromkeys(names or [policy.name for policy in usual(mode)]))
    options_of = options.settings_by_policy(settings, listed)
    choices: dict[str, Choice] = {}
    for name in listed:
        choice = Choice(name, options.settings_of(options_of[name]))
        if (shown := choice.found.name) in choices:
            raise InputError.one(
                "", f"--policy {name}", f"is a second policy {shown}", "tell them apart in a sweep file"
            )
        choices[shown] = choice
    return choices


def _print_tables(results: "Results", folder: Path, *, claims: bool) -> None:
    from gsched.report.sweeps import claims_table, sweep_tables

    console = out()
    for title, table in sweep_tables(results):
        console.print(f"{one_line(title)}\n", markup=False, style="bold")
        print_table(table)
        console.print()
    if claims:
        console.print("[bold]What the document of the offline scheduler claims[/bold]\n")
        print_table(claims_table(results))
        console.print("\nat most: what the proven bound allows any schedule; a speed-up above it is impossible.")
        console.print("not judged: the claim is about 4 to 30 GPUs, and not all of these were simulated.\n")
    problems = Counter(map(_problem, (run for run in results.runs if not run["valid"])))
    for text, count in problems.most_common(_FEW):
        console.print(one_line(f"{text} ({counted(count, 'run')})"), markup=False)
    if len(problems) > _FEW:
        console.print(f"… and {len(problems) - _FEW:,} more such lines (results.csv has them all)")
    valid = len(results.runs) - problems.total()
    console.print(
        f"{counted(valid, 'schedule')} simulated and found valid, of {len(results.runs):,}; {_seeds(results)}"
    )
    console.print(f"Results: {folder}/results.parquet, results.csv, intervals.csv", markup=False)


def _problem(run: "Run") -> str:
    """Return why a run has no valid schedule."""
    what = run["problem"] or f"NOT valid, {run['violations']}"
    return f"{run['workload']}, {run['policy']}, {counted(run['gpus'], 'GPU')}: {what}"


def _seeds(results: "Results") -> str:
    seeds = {run["seed"] for run in results.runs} - {None}
    if len(seeds) < 2:
        return "single runs, without intervals"
    return f"means over {len(seeds)} seeds ± half of the 95% interval"


def _print_json(results: "Results", folder: Path) -> None:
    import json

    from gsched.sweep.results import interval_rows

    found = {"about": results.about, "folder": str(folder), "intervals": interval_rows(results.runs)}
    typer.echo(json.dumps(found, indent=2))
