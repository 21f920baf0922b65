"""gsched loadgen."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import options
from gsched.cli.console import err, out, print_table, stages
from gsched.cli.extras import require_extra
from gsched.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gsched.live.loadgen.peak import Trial
    from gsched.live.loadgen.plans import Load
    from gsched.live.loadgen.run import ClassRun


class Workload(StrEnum):
    """How the load is shared between classes."""

    BALANCED = "balanced"
    URGENT_HEAVY = "urgent_heavy"
    BATCH_HEAVY = "batch_heavy"


class Pattern(StrEnum):
    """How the rate changes over time."""

    POISSON = "poisson"
    BURST = "burst"
    SPIKE = "spike"
    RAMP = "ramp"
    TRACE = "trace"


def loadgen(
    scheduler_url: Annotated[str, typer.Option(help="The scheduler.", metavar="HOST:PORT")] = "localhost:50051",
    total_qps: Annotated[float, typer.Option(help="Requests/s of all classes together.", metavar="X")] = 30.0,
    duration_ms: Annotated[int, typer.Option(help="How long requests are sent.", min=1, metavar="MS")] = 60_000,
    workload: Annotated[Workload, typer.Option(help="How the load is shared between classes.")] = Workload.BALANCED,
    min_query_count: Annotated[
        int, typer.Option(help="LoadGen goes on until each class has as many.", min=0, metavar="N")
    ] = 100,
    output_dir: Annotated[Path, typer.Option(help="LoadGen's logs, a folder for each class.", metavar="DIR")] = Path(
        "loadgen_logs"
    ),
    metrics_csv: Annotated[Path, typer.Option(help="A line for each request.", metavar="FILE")] = Path("metrics.csv"),
    seed: Annotated[int, typer.Option(help="Of arrivals, models and inputs.", min=0, metavar="N")] = 0,
    pattern: Annotated[
        Pattern | None,
        typer.Option(help="Sent by gsched's own driver instead of LoadGen; the rate changes as the name says."),
    ] = None,
    peak: Annotated[
        float, typer.Option(help="Highest rate of burst, spike and ramp, in multiples of --total-qps.", metavar="X")
    ] = 4.0,
    trace: Annotated[
        Path | None, typer.Option(help="Arrivals for --pattern trace (CSV), such as a metrics.csv.", metavar="FILE")
    ] = None,
    find_peak: Annotated[
        bool, typer.Option("--find-peak", help="Search the highest load at which every class keeps its SLO.")
    ] = False,
    attainment: Annotated[
        float, typer.Option(help="Share of requests in time that --find-peak asks of every class.", min=0, max=1)
    ] = 0.99,
    report: Annotated[
        Path | None, typer.Option(help="A page with latencies by class and a timeline (HTML).", metavar="FILE")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds until a call is given up.", min=0.1, max=600)] = 5.0,
    max_in_flight: Annotated[
        int, typer.Option(help="Calls under way at most in each class.", min=1, metavar="N")
    ] = 1000,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the scheduler at the start.", min=0)] = 10.0,
    tls_ca: Annotated[
        Path | None, typer.Option(help="Certificate authority of the scheduler (PEM); turns on TLS.", metavar="FILE")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="Token to send.", metavar="FILE")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Load the scheduler with MLPerf LoadGen, one process for each of nine classes, and say what was kept.

    Writes METRICS_CSV and LoadGen's logs. Exit status 1: the run says little about the scheduler, and why.

    Example: gsched loadgen --total-qps 20 --duration-ms 10000
    """
    require_extra("live", "grpc", "mlperf_loadgen")
    from gsched.files import read_bytes, require_folder
    from gsched.live.loadgen.plans import Load
    from gsched.live.loadgen.reach import require_scheduler
    from gsched.live.loadgen.sut import Connection

    if report:
        require_extra("report", "matplotlib")
    for folder in (output_dir, metrics_csv.parent, *([report.parent] if report else [])):
        require_folder(folder)
    token = read_bytes(token_file).decode(errors="replace").strip() if token_file else ""
    connection = Connection(scheduler_url, token, read_bytes(tls_ca) if tls_ca else None, timeout, max_in_flight)
    kind = pattern.value if pattern else ("poisson" if find_peak else None)
    load = Load(
        connection,
        total_qps,
        duration_ms / 1000,
        workload.value,
        min_query_count,
        seed,
        kind,
        peak,
        trace,
        output_dir,
    )
    if find_peak and pattern is Pattern.TRACE:
        raise InputError.one("options", "", "--find-peak cannot change the load of a trace", "leave one out")
    require_scheduler(connection, wait)
    if find_peak:
        return _find_peak(load, attainment, json=json, quiet=quiet)
    return _run(load, metrics_csv, report, json=json, quiet=quiet)


def _run(load: "Load", metrics_csv: Path, report: Path | None, *, json: bool, quiet: bool) -> int:
    """Run the load once, write what came of it, and say so."""
    from gsched.live.loadgen.metrics import write_csv
    from gsched.live.loadgen.plans import class_plans
    from gsched.live.loadgen.run import run_load

    plans = class_plans(load)
    for plan in plans:
        if plan.logs:
            plan.logs.mkdir(parents=True, exist_ok=True)
    length = max(plan.sending for plan in plans)
    with stages(quiet=quiet) as progress:
        progress.stage("Starting the classes")

        def tell(seconds: float, issued: int, ended: int, in_time: int) -> None:
            share = f"{100 * in_time / ended:.1f}% in time" if ended else "none ended"
            progress.stage(f"{issued:,} requests sent, {share}")
            progress.advance(round(seconds), round(length))

        runs = run_load(plans, tell)
    records = [record for run in runs for record in run.records]
    write_csv(records, metrics_csv)
    if report:
        from gsched.live.loadgen.report import write_report

        write_report(runs, load, report)
    complaints = [f"{run.plan.name}: {complaint}" for run in runs for complaint in run.complaints()]
    if json:
        _print_json(runs, complaints)
    elif not quiet:
        _print_run(runs, metrics_csv, report)
    for complaint in complaints:
        err().print(complaint, style="red", markup=False)
    if complaints:
        err().print("The run is not usable as a measurement.", style="bold red")
    return 1 if complaints else 0


def _print_run(runs: "Sequence[ClassRun]", metrics_csv: Path, report: Path | None) -> None:
    from gsched.live.loadgen.metrics import summary_table
    from gsched.live.loadgen.tables import stimulus_table

    print_table(summary_table([record for run in runs for record in run.records]))
    out().print()
    print_table(stimulus_table(runs))
    for run in runs:
        if run.verdict and not run.verdict.valid:
            out().print(f"{run.plan.name}: LoadGen says INVALID: {'; '.join(run.verdict.reasons)}", markup=False)
    out().print(f"\nRequests written to {metrics_csv}", markup=False)
    if report:
        out().print(f"Report written to {report}", markup=False)


def _print_json(runs: "Sequence[ClassRun]", complaints: "Sequence[str]") -> None:
    import json

    from gsched.live.loadgen.tables import figures

    typer.echo(json.dumps({"usable": not complaints, "problems": complaints, "classes": figures(runs)}, indent=2))


def _find_peak(load: "Load", attainment: float, *, json: bool, quiet: bool) -> int:
    """Search the highest load that is kept; exit status 1 where not even a small one is."""
    from gsched.live.loadgen.peak import find_peak

    trials: list[dict[str, Any]] = []
    with stages(quiet=quiet) as progress:

        def tried(trial: "Trial") -> None:
            requests = sum(run.issued for run in trial.runs)
            trials.append({"qps": trial.qps, "kept": trial.kept, "worst": trial.worst, "class": trial.worst_class})
            if not quiet and not json:
                verdict = "kept" if trial.kept else "missed"
                worst = f"{100 * trial.worst:.1f}% in {trial.worst_class}"
                out().print(f"{trial.qps:9,.1f} requests/s: {verdict:6} (worst {worst}; {requests:,} requests)")

        progress.stage("Searching the highest load")
        qps = find_peak(load, attainment, tried)
    if json:
        import json as writer

        typer.echo(writer.dumps({"peak_qps": qps, "attainment": attainment, "trials": trials}, indent=2))
    elif qps:
        out().print(f"\nHighest load with {100 * attainment:g}% in time in every class: {qps:,.1f} requests/s")
    else:
        out().print(f"\nNo load that was tried keeps {100 * attainment:g}% in time in every class")
    return 0 if qps else 1
