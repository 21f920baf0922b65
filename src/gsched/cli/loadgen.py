"""gsched loadgen."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import options
from gsched.cli.console import err, out, print_table, stages
from gsched.cli.extras import require_extra
from gsched.errors import InputError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gsched.live.loadgen.class_process import ClassPlan
    from gsched.live.loadgen.peak import Trial
    from gsched.live.loadgen.plans import Load
    from gsched.live.loadgen.run import ClassRun
    from gsched.live.loadgen.sut import Connection


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


class ProtocolName(StrEnum):
    """What requests look like."""

    SCHEDULER = "scheduler"
    OIP = "oip"


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
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for the scheduler at the start.", min=0.1, max=86_400)
    ] = 10.0,
    protocol: Annotated[
        ProtocolName, typer.Option(help="oip: the Open Inference Protocol, for Triton or KServe instead of gsched.")
    ] = ProtocolName.SCHEDULER,
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
    uses_loadgen = pattern is None and not find_peak
    require_extra("live", "grpc", *(["mlperf_loadgen"] if uses_loadgen else []))
    from gsched.files import require_folder
    from gsched.live.loadgen.plans import Load, class_plans
    from gsched.live.loadgen.reach import require_scheduler

    if report:
        require_extra("report", "matplotlib")
    if find_peak and (report or pattern is Pattern.TRACE):
        message = "--find-peak writes no report, and cannot change the load of a trace"
        raise InputError.one("options", "", message, "leave one out")
    for path in (metrics_csv, *([report] if report else [])):
        _require_place(path)
    connection = _connection(scheduler_url, token_file, tls_ca, timeout, max_in_flight, protocol)
    kind = None if uses_loadgen else (pattern or Pattern.POISSON).value
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
    plans = class_plans(load)
    for logs in filter(None, (plan.logs for plan in plans)):
        require_folder(logs)
    require_scheduler(connection, wait)
    if find_peak:
        return _find_peak(load, attainment, json=json, quiet=quiet)
    return _run(load, plans, metrics_csv, report, json=json, quiet=quiet)


def _require_place(path: Path) -> None:
    from gsched.files import require_folder

    if path.is_dir():
        raise InputError.one(path, "", "is a folder", "name a file in it")
    require_folder(path.parent)


def _connection(
    url: str,
    token_file: Path | None,
    tls_ca: Path | None,
    timeout: float,
    max_in_flight: int,
    protocol: ProtocolName,
) -> "Connection":
    from gsched.live.loadgen.protocols import OpenInferenceProtocol, SchedulerProtocol
    from gsched.live.loadgen.sut import Connection

    if not url.strip():
        raise InputError.one("options", "--scheduler-url", "is empty", "give HOST:PORT")
    token = _token(token_file) if token_file else ""
    authority = _authority(tls_ca) if tls_ca else None
    spoken = OpenInferenceProtocol() if protocol is ProtocolName.OIP else SchedulerProtocol()
    return Connection(url, token, authority, timeout, max_in_flight, spoken)


def _token(path: Path) -> str:
    from gsched.files import read_bytes

    token = read_bytes(path).decode(errors="replace").strip()
    if not (token and token.isascii() and token.isprintable()):
        raise InputError.one(path, "", "holds no token of printable ASCII characters", "write one into it")
    return token


def _authority(path: Path) -> bytes:
    import ssl

    from gsched.files import read_bytes

    pem = read_bytes(path)
    try:
        ssl.create_default_context(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise InputError.one(path, "", "holds no certificate (PEM)", "give that of the scheduler's authority") from None
    return pem


def _run(
    load: "Load", plans: "Sequence[ClassPlan]", metrics_csv: Path, report: Path | None, *, json: bool, quiet: bool
) -> int:
    """Run the load once, write what came of it, and say so."""
    from gsched.live.loadgen.metrics import write_csv
    from gsched.live.loadgen.run import complaints, run_load

    length = max(plan.sending for plan in plans)
    with stages(quiet=quiet) as progress:
        progress.stage("Starting the classes")

        def tell(seconds: float, issued: int, ended: int, in_time: int) -> None:
            share = f"{100 * in_time / ended:.1f}% in time" if ended else "none ended"
            progress.advance(round(seconds), round(length), f"{issued:,} requests sent, {share}")

        runs = run_load(plans, tell)
    records = [record for run in runs for record in run.records]
    write_csv(records, metrics_csv)
    if report:
        from gsched.live.loadgen.report import write_report

        write_report(runs, load, report)
    problems = complaints(runs)
    if json:
        _print_json(runs, problems)
    elif not quiet:
        _print_run(runs, metrics_csv, report)
    _print_problems(problems)
    if problems:
        err().print("The run is not usable as a measurement.", style="bold red")
    return 1 if problems else 0


def _print_problems(problems: "Sequence[str]") -> None:
    for problem in problems:
        err().print(one_line(problem), style="red", markup=False)


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


def _print_json(runs: "Sequence[ClassRun]", problems: "Sequence[str]") -> None:
    import json

    from gsched.live.loadgen.tables import figures

    typer.echo(json.dumps({"usable": not problems, "problems": problems, "classes": figures(runs)}, indent=2))


def _find_peak(load: "Load", attainment: float, *, json: bool, quiet: bool) -> int:
    """Search the highest load that is kept; exit status 1 where not even a small one is."""
    from gsched.live.loadgen.peak import find_peak

    trials: list[dict[str, Any]] = []
    with stages(quiet=quiet) as progress:

        def tried(trial: "Trial") -> None:
            requests = sum(run.issued for run in trial.runs)
            told = {"qps": trial.qps, "kept": trial.kept, "worst": trial.worst, "class": trial.worst_class}
            trials.append({**told, "problems": trial.problems})
            if not quiet and not json:
                verdict = "kept" if trial.kept else "unusable" if trial.problems else "missed"
                worst = f"{100 * trial.worst:.1f}% in {trial.worst_class}"
                out().print(f"{trial.qps:9,.1f} requests/s: {verdict:8} (worst {worst}; {requests:,} requests)")
                _print_problems(trial.problems)

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
