"""Options that several commands share."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsched.errors import InputError

if TYPE_CHECKING:
    from gsched.cluster import Cluster


class Mode(StrEnum):
    """When requests arrive."""

    OFFLINE = "offline"
    ONLINE = "online"


class Residency(StrEnum):
    """What a GPU keeps."""

    EXCLUSIVE = "exclusive"
    SHARED = "shared"


class LogFormat(StrEnum):
    """Formats of the execution log."""

    AUTO = "auto"
    JSON = "json"
    PARQUET = "parquet"


class Logs(StrEnum):
    """Forms of the log."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """What is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


ConfigPath = Annotated[Path, typer.Option("--config", help="Models and workflows (JSON or YAML).", metavar="FILE")]
RequestsPath = Annotated[
    Path, typer.Option("--requests", help="Requests (YAML, JSON, JSON Lines or Parquet).", metavar="FILE")
]
Gpus = Annotated[int, typer.Option(help="Number of GPUs.", min=1, metavar="N")]
GpusPerServer = Annotated[
    int | None, typer.Option(help="GPUs in a server; gangs stay inside one if they fit.", min=1, metavar="N")
]
Bandwidth = Annotated[float, typer.Option("--pcie-bandwidth", help="Speed of loading models, in GB/s.", metavar="X")]
Overhead = Annotated[float, typer.Option("--switch-overhead", help="Fixed seconds of a model switch.", metavar="X")]
GpuMemory = Annotated[float, typer.Option("--gpu-memory", help="Memory of a GPU, in GB.", metavar="GB")]
ResidencyOption = Annotated[
    Residency,
    typer.Option("--residency", help="exclusive: a GPU keeps one model; shared: as many as its memory holds."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="An option of the policy; may be repeated.", metavar="NAME=VALUE")
]
Objective = Annotated[
    str | None, typer.Option(help="What the policy search minimizes, such as makespan, mean or p99.", metavar="NAME")
]
Budget = Annotated[float | None, typer.Option(help="Seconds for which the policy search tries.", metavar="SECONDS")]
Trials = Annotated[int | None, typer.Option(help="Times that the policy search tries.", metavar="N")]
ModeOption = Annotated[
    Mode, typer.Option("--mode", help="offline: all requests arrive at 0; online: at their timestamps.")
]
OutDir = Annotated[Path, typer.Option("--out", help="Folder for the files that are written.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no report.")]
LogForm = Annotated[Logs, typer.Option("--log-format", help="Form of the log on standard error.")]
LogLevel = Annotated[Level, typer.Option("--log-level", help="What is logged.")]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="Token that clients must send.", metavar="FILE")]


def cluster_of(
    gpus: int,
    gpus_per_server: int | None,
    pcie_bandwidth: float = 16.0,
    switch_overhead: float = 2.0,
    gpu_memory: float = 80.0,
    residency: Residency = Residency.EXCLUSIVE,
) -> "Cluster":
    """Return the cluster that options describe."""
    from gsched.cluster import Cluster

    try:
        return Cluster(gpus, gpus_per_server, gpu_memory, pcie_bandwidth, switch_overhead, residency.value)
    except ValueError as error:
        raise InputError.one("options", "", str(error), "correct the option") from None


def settings_of(texts: Iterable[str] | None, **named: Any) -> dict[str, Any]:
    """Return the options of a policy that `--set` and options of the same name tell."""
    settings: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InputError.one("", f"--set {text}", "is not of the form NAME=VALUE", "such as --set patience=3")
        settings[name.strip().replace("-", "_")] = value
    for name, value in named.items():
        if value is not None and name in settings:
            raise InputError.one("options", "", f"--{name} and --set both give {name}", "keep one")
        if value is not None:
            settings[name] = value
    return settings


def settings_by_policy(texts: Iterable[str] | None, policies: Sequence[str]) -> dict[str, list[str]]:
    """Return what `--set POLICY.NAME=VALUE` tells, by policy and as NAME=VALUE."""
    settings: dict[str, list[str]] = {policy: [] for policy in policies}
    for text in texts or ():
        name, equals, value = text.partition("=")
        policy, dot, option = name.rpartition(".")
        if not (policy and dot and option and equals):
            hint = f"such as --set {policies[0]}.NAME=VALUE"
            raise InputError.one("", f"--set {text}", "is not of the form POLICY.NAME=VALUE", hint)
        if policy not in settings:
            raise InputError.one("", f"--set {text}", f"{policy} is not compared", f"choose {', '.join(policies)}")
        settings[policy].append(f"{option}={value}")
    return settings


def token_of(path: Path | None) -> str:
    """Return the token that a file holds; empty where no file is named."""
    from gsched.files import read_bytes

    token = read_bytes(path).decode(errors="replace").strip() if path else ""
    if path and not (token and token.isascii() and token.isprintable()):
        raise InputError.one(path, "", "holds no token", "write one line of plain letters and digits into it")
    return token
