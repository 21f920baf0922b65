"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Mode(StrEnum):
    """When requests arrive."""

    OFFLINE = "offline"
    ONLINE = "online"


class LogFormat(StrEnum):
    """Formats of the execution log."""

    AUTO = "auto"
    JSON = "json"
    PARQUET = "parquet"


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
ModeOption = Annotated[
    Mode, typer.Option("--mode", help="offline: all requests arrive at 0; online: at their timestamps.")
]
OutDir = Annotated[Path, typer.Option("--out", help="Folder for the files that are written.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no report.")]
