"""gsched whatif."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import options
from gsched.cli.console import counted, out, print_problems, print_table, stages
from gsched.errors import InputError, Problem, one_line

if TYPE_CHECKING:
    from gsched.scenarios import Change, Scenario


def whatif(
    gpus: options.Gpus,
    config: options.ConfigPath,
    requests: options.RequestsPath,
    policy: Annotated[
        str, typer.Option(help="Today's policy: built in, or path.py:Class.", metavar="NAME")
    ] = "baseline",
    settings: options.Settings = None,
    add_gpus: Annotated[
        list[int] | None, typer.Option("--add-gpus", help="More GPUs, or fewer where negative.", metavar="N")
    ] = None,
    load: Annotated[
        list[float] | None, typer.Option("--load", help="Load, as a multiple of today's.", metavar="X")
    ] = None,
    drop_model: Annotated[
        list[str] | None,
        typer.Option("--drop-model", help="Without a model and the requests that need it.", metavar="MODEL"),
    ] = None,
    with_policy: Annotated[
        list[str] | None, typer.Option("--with-policy", help="Another policy.", metavar="NAME")
    ] = None,
    mode: options.ModeOption = options.Mode.ONLINE,
    gpus_per_server: options.GpusPerServer = None,
    pcie_bandwidth: options.Bandwidth = 16.0,
    switch_overhead: options.Overhead = 2.0,
    gpu_memory: options.GpuMemory = 80.0,
    residency: options.ResidencyOption = options.Residency.EXCLUSIVE,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Show what changes would do: today's run, each change alone and, where there are several, all together.

    The options for changes may be repeated. Differences are those to today, in percent, or in percentage points where
    the figure is a percentage. Every schedule is checked. Exit status 1: one breaks a rule; 2: today's did
    not run, or no other.

    Example: gsched whatif --config examples/documents.json --requests examples/documents_requests.yaml --gpus 10
    --add-gpus 2 --load 2
    """
    from gsched.load import load_workload
    from gsched.policies import find_policy
    from gsched.scenarios import Situation, what_if

    changes = list(_changes(add_gpus, load, drop_model, with_policy))
    if not changes:
        hint = "add --add-gpus 2, --load 2, --drop-model MODEL or --with-policy NAME"
        raise InputError.one("options", "", "there is nothing to change", hint)
    cluster = options.cluster_of(gpus, gpus_per_server, pcie_bandwidth, switch_overhead, gpu_memory, residency)
    chosen = find_policy(policy, options.settings_of(settings))
    warnings: list[Problem] = []
    with stages(quiet=quiet) as progress:
        progress.stage("Reading the workload")
        workload = load_workload(config, requests, warnings=warnings)
        if not workload.request_count:
            raise InputError.one(requests, "", "has no requests", "name a file that has some")
        scenarios = what_if(Situation(workload, cluster, chosen, mode.value), changes, tell=progress.stage)
    print_problems(warnings)
    if json:
        _print_json(scenarios)
    elif not quiet:
        _print_text(scenarios)
    if any(known.outcome.violations or known.outcome.faulty for known in scenarios):
        return 1
    today, *others = (bool(known.outcome.problem) for known in scenarios)
    return 2 if today or all(others) else 0


def _changes(
    add_gpus: Sequence[int] | None,
    load: Sequence[float] | None,
    drop_model: Sequence[str] | None,
    with_policy: Sequence[str] | None,
) -> "Iterator[Change]":
    """Yield the changes that options tell."""
    from gsched.policies import find_policy
    from gsched.scenarios import dropped_model, more_gpus, more_load, other_policy

    yield from map(more_gpus, add_gpus or ())
    yield from map(more_load, load or ())
    yield from map(dropped_model, dict.fromkeys(drop_model or ()))
    yield from (other_policy(find_policy(name)) for name in dict.fromkeys(with_policy or ()))


def _print_text(scenarios: "Sequence[Scenario]") -> None:
    from gsched.report.scenarios import scenario_notes, scenario_table

    console = out()
    today = scenarios[0]
    assert today.situation
    size = f"{counted(today.situation.workload.request_count, 'request')}, {today.situation.mode}"
    console.print(one_line(f"Today: {size}, {today.situation.policy.name}; times in seconds"), markup=False)
    if not today.outcome.problem:
        console.print()
        print_table(scenario_table(scenarios))
        console.print()
    for note in scenario_notes(scenarios):
        console.print(one_line(note), markup=False)


def _print_json(scenarios: "Sequence[Scenario]") -> None:
    import json

    typer.echo(json.dumps([_as_json(known, scenarios) for known in scenarios], indent=2))


def _as_json(known: "Scenario", scenarios: "Sequence[Scenario]") -> dict[str, Any]:
    from gsched.report.scenarios import difference, scenario_columns

    situation, outcome = known.situation, known.outcome
    columns = scenario_columns(scenarios)
    return {
        "scenario": known.name,
        "policy": situation.policy.name if situation else None,
        "gpus": situation.cluster.gpus if situation else None,
        "requests": situation.workload.request_count if situation else None,
        "valid": outcome.valid,
        "violations": list(outcome.violations),
        "problem": outcome.problem or None,
        "summary": dict(outcome.summary) or None,
        "difference": {column.figure: difference(column, known, scenarios[0]) for column in columns},
    }
