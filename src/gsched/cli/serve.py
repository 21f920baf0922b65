"""gsched serve."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.cli import options
from gsched.cli.console import out, print_table, stages
from gsched.cli.extras import require_extra
from gsched.errors import InputError

if TYPE_CHECKING:
    from gsched.live.scheduler.backends import Backend
    from gsched.live.scheduler.engine import Rules
    from gsched.live.scheduler.server import Access, Server
    from gsched.policies import Policy


class BackendName(StrEnum):
    """What computes."""

    ONNX = "onnx"
    EMULATED = "emulated"
    OPENVINO = "openvino"
    TRITON = "triton"


class Size(StrEnum):
    """Variants of the built-in models."""

    FULL = "full"
    SMALL = "small"


class NonFinite(StrEnum):
    """What becomes of inputs with NaN or infinity."""

    REFUSE = "refuse"
    PASS = "pass"  # noqa: S105 (no password)


def serve(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any.", min=0, max=65535)] = 50051,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    backend: Annotated[BackendName, typer.Option(help="What computes.")] = BackendName.ONNX,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model: NAME, NAME=path.onnx, or for emulated NAME=5ms+2ms (a batch, each request).", metavar="NAME"
        ),
    ] = None,
    size: Annotated[Size, typer.Option(help="Variant of the built-in models resnet50 and vit.")] = Size.FULL,
    devices: Annotated[int, typer.Option(help="Batches that run at once.", min=1, max=1024, metavar="N")] = 1,
    device: Annotated[
        str, typer.Option(help="onnx: auto, cpu or cuda; openvino: CPU or GPU; triton: HOST:PORT.", metavar="NAME")
    ] = "",
    policy: Annotated[str, typer.Option(help="fifo, edf, tiered, or path.py:Class.", metavar="NAME")] = "tiered",
    settings: options.Settings = None,
    max_batch: Annotated[int, typer.Option(help="Requests that run together at most.", min=1, max=1024)] = 8,
    max_queue: Annotated[int, typer.Option(help="Requests that wait at most.", min=1, max=100_000)] = 512,
    admission: Annotated[
        bool, typer.Option("--admission/--no-admission", help="Refuse at once what cannot be done in time.")
    ] = True,
    drop: Annotated[
        bool, typer.Option("--drop/--no-drop", help="Give up waiting requests that can no longer be in time.")
    ] = True,
    preempt: Annotated[
        bool | None,
        typer.Option("--preempt/--no-preempt", help="Less important work gives way (default: with tiered)."),
    ] = None,
    margin_ms: Annotated[
        float, typer.Option(help="Time kept before each deadline for the answer's way.", min=0, max=10_000)
    ] = 2.0,
    non_finite: Annotated[NonFinite, typer.Option(help="Inputs with NaN or infinity.")] = NonFinite.REFUSE,
    max_message_mb: Annotated[int, typer.Option(help="Size of a request at most.", min=1, max=1024)] = 16,
    max_calls: Annotated[int, typer.Option(help="Calls open at once.", min=1, max=1_000_000)] = 4096,
    metrics_port: Annotated[int | None, typer.Option(help="Port for Prometheus; 0 for any.", min=0, max=65535)] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate (PEM); turns on TLS.", metavar="FILE")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).", metavar="FILE")] = None,
    token_file: options.TokenFile = None,
    grace: Annotated[
        float, typer.Option(help="Seconds for which requests may finish at the end.", min=0, max=3600)
    ] = 10.0,
    record: Annotated[
        Path | None, typer.Option(help="A line for each request, for --simulate (CSV).", metavar="FILE")
    ] = None,
    simulate: Annotated[
        Path | None,
        typer.Option(help="Serve nothing: repeat a record in virtual time and compare.", metavar="RECORD"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the service times that --simulate draws.", min=0)] = 0,
    log_format: options.LogForm = options.Logs.TEXT,
    log_level: options.LogLevel = options.Level.INFO,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Serve inference requests with tiers and deadlines over gRPC.

    Ctrl-C or SIGTERM ends it: requests that are there are answered first. With --simulate, prints what a run would
    have been like, with this policy and these rules, beside what it was.

    Example: gsched serve --backend emulated --metrics-port 9400
    """
    require_extra("live", "grpc", "grpc_health", "grpc_reflection", "structlog", "prometheus_client")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would write lines of its own beside the log
    from gsched.live.scheduler.engine import Rules

    chosen = _policy(policy, options.settings_of(settings))
    gives_way = chosen.name == "tiered" if preempt is None else preempt
    rules = Rules(max_batch, max_queue, admission, drop, gives_way, margin=margin_ms / 1000)
    if simulate:
        return _simulate(simulate, chosen, devices, rules, seed, json=json)
    access = _access(host, port, max_message_mb, max_calls, tls_cert, tls_key, token_file, non_finite)
    _serve(
        access,
        _models(backend, model or ["resnet50", "vit"]),
        {"backend": backend, "size": size, "devices": devices, "device": device},
        (chosen, rules),
        {"metrics_port": metrics_port, "record": record, "grace": grace},
        (log_format, log_level),
        quiet=quiet,
    )
    return 0


def _serve(
    access: "Access",
    models: dict[str, str],
    where: dict[str, Any],
    decides: "tuple[Policy, Rules]",
    extras: dict[str, Any],
    logs: tuple[options.Logs, options.Level],
    *,
    quiet: bool,
) -> None:
    """Load the models, measure how long they take, and serve."""
    import structlog

    from gsched.live.logs import configure_logs
    from gsched.live.scheduler.backends.emulated import Emulated
    from gsched.live.scheduler.launch import Plan, measured_lines, run

    policy, rules = decides
    configure_logs(*logs)
    with stages(quiet=quiet) as progress:
        progress.stage("Loading the models")
        computes = _backend(models, **where)
        progress.stage("Measuring how long they take")
        if isinstance(computes, Emulated):
            lines = list(computes.profiles.values())
        else:
            lines = measured_lines(computes, rules.max_batch)
    plan = Plan(computes, where["devices"], lines, policy, rules, access, **extras)

    def ready(server: "Server", metrics_port: int | None) -> None:
        log = structlog.get_logger()
        for name, (fixed, each) in zip(models, lines, strict=True):
            log.info("model", name=name, ms_per_batch=round(1e3 * fixed, 2), ms_per_request=round(1e3 * each, 2))
        if metrics_port:
            log.info("metrics", url=f"http://{access.address(metrics_port)}/metrics")
        if not quiet:
            where = access.address(server.port)
            out().print(f"Serving {', '.join(models)} on {where}, policy {policy.name}", markup=False)
            out().file.flush()

    run(plan, ready)


def _policy(name: str, settings: dict[str, Any]) -> "Policy":
    """Return the policy; `fifo` is what the simulator calls baseline."""
    from gsched.policies import BUILT_IN, find_policy

    known = {"fifo": "baseline", "edf": "edf", "tiered": "tiered"}
    if name not in known and name != "baseline" and ":" not in name:
        reason = "does not serve single requests" if name in BUILT_IN else "is unknown"
        raise InputError.one("", f"policy {name}", reason, f"choose {', '.join(known)}, or path.py:Class of your own")
    return find_policy(known.get(name, name), settings)


def _models(backend: BackendName, texts: list[str]) -> dict[str, str]:
    """Return the names of the models, and what was said of each."""
    pairs = [text.partition("=")[::2] for text in texts]
    names = [name.strip() for name, _ in pairs]
    for name in names:
        if not name or names.count(name) > 1:
            raise InputError.one("options", "--model", f"{name!r} is no name, or is given twice", "give each once")
    if backend is BackendName.TRITON and any(given for _, given in pairs):
        raise InputError.one("options", "--model", "takes only names with --backend triton", "leave the rest out")
    return dict(zip(names, (given.strip() for _, given in pairs), strict=True))


def _backend(models: dict[str, str], *, backend: BackendName, size: Size, devices: int, device: str) -> "Backend":
    """Return the backend with its models loaded."""
    if backend is BackendName.EMULATED:
        from gsched.live.scheduler.backends.emulated import Emulated, parse_profile

        return Emulated({name: parse_profile(name, given) for name, given in models.items()})
    if backend is BackendName.TRITON:
        from gsched.live.scheduler.backends import oip

        return oip.build(device or "localhost:8001", list(models))
    files = {name: Path(given) if given else None for name, given in models.items()}
    if backend is BackendName.OPENVINO:
        require_extra("openvino", "openvino")
        from gsched.live.scheduler.backends import openvino

        return openvino.build(files, size.value, devices, device or "CPU")
    require_extra("live", "onnx", "onnxruntime")
    from gsched.live.scheduler.backends import onnx

    return onnx.build(files, size.value, devices, device or "auto")


def _access(
    host: str,
    port: int,
    max_message_mb: int,
    max_calls: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    non_finite: NonFinite,
) -> "Access":
    from gsched.files import read_bytes
    from gsched.live.scheduler.server import Access

    if (tls_cert is None) != (tls_key is None):
        raise InputError.one("options", "", "--tls-cert and --tls-key belong together", "give both")
    certificate = None
    if tls_cert and tls_key:
        certificate = read_bytes(tls_cert), read_bytes(tls_key)
        _require_pair(tls_cert, tls_key)
    token = options.token_of(token_file)
    return Access(
        host, port, max_message_mb << 20, max_calls, token, certificate, finite=non_finite is NonFinite.REFUSE
    )


def _require_pair(certificate: Path, key: Path) -> None:
    import ssl

    try:  # with a password, as it would otherwise ask for that of an encrypted key
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:
        reason = getattr(error, "reason", None) or "not PEM"
        message = f"is no certificate for the key in {key} ({reason})"
        raise InputError.one(certificate, "", message, "give both as PEM, the key not encrypted") from error


def _simulate(record: Path, policy: "Policy", devices: int, rules: "Rules", seed: int, *, json: bool) -> int:
    """Repeat a record in virtual time and print it beside what was measured."""
    from gsched.live.scheduler.comparison import compare, comparison_table
    from gsched.live.scheduler.record import read_record

    rows = compare(read_record(record), policy, devices, rules, seed)
    if json:
        import json as writer

        known = [{name: None if value != value else value for name, value in row._asdict().items()} for row in rows]
        typer.echo(writer.dumps(known, indent=2))
        return 0
    out().print(f"{sum(row.requests for row in rows):,} requests of {record}, policy {policy.name}", markup=False)
    out().print()
    print_table(comparison_table(rows))
    return 0
