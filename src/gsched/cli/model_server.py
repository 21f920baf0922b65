"""gsched model-server."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsched.cli import options
from gsched.cli.console import counted, out, print_problems
from gsched.cli.extras import require_extra
from gsched.errors import InputError, Problem

if TYPE_CHECKING:
    from gsched.cluster import Cluster
    from gsched.live.model_server.backends import Backend
    from gsched.live.model_server.profiles import Profiles
    from gsched.live.model_server.service import Service


class ModelBackend(StrEnum):
    """What computes."""

    EMULATED = "emulated"
    ONNX = "onnx"
    HF = "hf"


def model_server(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    backend: Annotated[ModelBackend, typer.Option(help="What computes.")] = ModelBackend.EMULATED,
    time_scale: Annotated[
        float, typer.Option(help="emulated: wall-clock seconds for each second of a profile.", min=1e-6, max=1000.0)
    ] = 1.0,
    config: Annotated[
        Path | None, typer.Option(help="Models that are known by name (JSON or YAML).", metavar="FILE")
    ] = None,
    devices: Annotated[int, typer.Option(help="GPUs, cuda:0 to cuda:N-1.", min=0, max=1024, metavar="N")] = 1,
    gpu_memory: options.GpuMemory = 80.0,
    dram: Annotated[
        float | None, typer.Option(help="Memory for the CPU, in GB (default: not counted).", min=0, metavar="GB")
    ] = None,
    pcie_bandwidth: options.Bandwidth = 16.0,
    switch_overhead: options.Overhead = 2.0,
    model: Annotated[
        list[str] | None,
        typer.Option(help="onnx: NAME=path.onnx; hf: NAME=folder. May be repeated.", metavar="NAME=PATH"),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder for images (default: a temporary one).", metavar="DIR")
    ] = None,
    max_queue: Annotated[int, typer.Option(help="Calls that wait at most.", min=0, max=100_000)] = 512,
    token_file: options.TokenFile = None,
    grace: Annotated[
        float, typer.Option(help="Seconds for which calls may finish at the end.", min=0, max=86_400)
    ] = 10.0,
    log_format: options.LogForm = options.Logs.TEXT,
    log_level: options.LogLevel = options.Level.INFO,
    quiet: options.Quiet = False,
) -> int:
    """Serve models over HTTP: load them onto devices, call them, unload them.

    Ctrl-C or SIGTERM ends it: calls that are there are answered first.

    Example: gsched model-server --port 8000 --devices 4 --config models.json --time-scale 0.005
    """
    require_extra("live", "fastapi", "uvicorn", "httptools", "structlog")
    from gsched.live.logs import configure_logs
    from gsched.live.model_server.devices import Devices
    from gsched.live.model_server.launch import Access, run
    from gsched.live.model_server.service import Service

    cluster = options.cluster_of(max(devices, 1), None, pcie_bandwidth, switch_overhead, gpu_memory)
    configure_logs(log_format, log_level)
    profiles = _profiles(config)
    computes = backend_of(backend, time_scale, cluster, _files(model), output_dir)
    access = Access(host, port, options.token_of(token_file), grace)

    def new_service() -> "Service":
        memory = Devices(devices, gpu_memory, dram)
        return Service(computes, memory, profiles, time_scale=time_scale, max_queue=max_queue)

    def ready(bound: int) -> None:
        if not quiet:
            where = f"http://{access.address(bound)}"
            out().print(
                f"Serving model server on {where}, backend {computes.name}, {counted(devices, 'GPU')}", markup=False
            )
            out().file.flush()

    if not run(new_service, access, ready):
        sys.stdout.flush()
        os._exit(0)  # a thread that computes cannot be stopped, and would keep the process from ending
    return 0


def _profiles(config: Path | None) -> "Profiles":
    from gsched.live.model_server.profiles import Profiles
    from gsched.load import load_config

    warnings: list[Problem] = []
    models = load_config(config, warnings).models.values() if config else ()
    print_problems(warnings)
    return Profiles(models)


def _files(texts: list[str] | None) -> dict[str, Path]:
    """Return the path that `--model` gives for each name."""
    files: dict[str, Path] = {}
    for text in texts or ():
        name, _, path = (part.strip() for part in text.partition("="))
        if not (name and path) or name in files:
            raise InputError.one("options", f"--model {text}", "is not NAME=PATH, or is given twice", "give each once")
        files[name] = Path(path)
    return files


def backend_of(
    backend: ModelBackend,
    time_scale: float,
    cluster: "Cluster",
    files: dict[str, Path],
    output_dir: Path | None = None,
) -> "Backend":
    """Return what computes.

    Raises:
        InputError: an extra is missing, or an option does not go with the backend.
    """
    from gsched.files import require_folder
    from gsched.live.model_server.images import ImageFolder

    if output_dir is not None:
        require_folder(output_dir)
    images = ImageFolder(output_dir)
    if backend is ModelBackend.EMULATED:
        from gsched.live.model_server.backends.emulated import Emulated

        if files:
            raise InputError.one("options", "--model", "has no use with --backend emulated", "describe it in --config")
        return Emulated(time_scale, cluster.pcie_bandwidth, cluster.switch_overhead, images)
    if time_scale != 1:
        hint = "leave it out, or choose --backend emulated"
        raise InputError.one("options", "--time-scale", f"real work takes its own time with --backend {backend}", hint)
    if backend is ModelBackend.ONNX:
        require_extra("live", "onnx", "onnxruntime")
        from gsched.live.model_server.backends.onnx import OnnxBackend

        return OnnxBackend(files, images)
    require_extra("hf", "torch", "transformers", "diffusers", "accelerate", "safetensors")
    from gsched.live.model_server.backends.hf import HuggingFace

    return HuggingFace(files, images)
