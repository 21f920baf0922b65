"""Workloads from files and to files."""

from pathlib import Path

from gsched.errors import InputError, Problem
from gsched.files import PathLike
from gsched.load.config import load_config, read_config
from gsched.load.documents import Document
from gsched.load.parquet import read_parquet
from gsched.load.requests import read_requests
from gsched.load.save import save_config, save_requests
from gsched.workload import Config, Workload

__all__ = ["load_config", "load_requests", "load_workload", "save_config", "save_requests"]


def load_workload(
    config_path: PathLike, requests_path: PathLike, *, details: bool = False, warnings: list[Problem] | None = None
) -> Workload:
    """Return the workload of a configuration and a file of requests (YAML, JSON, JSON Lines or Parquet).

    Args:
        config_path: models and workflows.
        requests_path: requests for them.
        details: whether to keep what does not matter to scheduling (prompts and such).
        warnings: gets what gsched worked around.

    Raises:
        InputError: a file is not valid; every problem of both is listed.
    """
    problems: list[Problem] = []
    config: Config | None = None
    document: Document | None = None
    found: list[Problem] = [] if warnings is None else warnings
    try:
        document = Document(Path(config_path))
        config = read_config(document, found)
    except InputError as error:
        problems.extend(error.problems)
    try:
        workload = load_requests(Path(requests_path), config, details=details, warnings=found)
    except InputError as error:
        problems.extend(error.problems)
    if problems or document is None or workload is None:
        raise InputError(problems)
    found.extend(_missing_load_times(document, workload))
    return workload


def load_requests(
    path: Path, config: Config | None, *, details: bool = False, warnings: list[Problem] | None = None
) -> Workload | None:
    """Return the workload of a file of requests; None without a config, for which only what needs none is checked.

    Raises:
        InputError: the file is not valid; every problem of it is listed.
    """
    if path.suffix.lower() == ".parquet":
        found = read_parquet(path, config, details=details)
        if isinstance(found, Workload):
            return found
        problems, workload = found, None
    else:
        document = Document(path)
        workload = read_requests(document, config, details=details)
        problems = document.problems()
    if any(problem.severity == "error" for problem in problems):
        raise InputError(problems)
    if warnings is not None:
        warnings.extend(problems)
    return workload


def _missing_load_times(document: Document, workload: Workload) -> list[Problem]:
    """Return a warning for each model that requests use and whose load time has to be derived."""
    before = len(document.findings)
    message = "is missing, so a first load takes memory_gb / pcie_bandwidth + switch_overhead"
    for model in workload.used_models:
        if model.load_time_seconds is None:
            document.warn(("models", model.id, "load_time_seconds"), message, "add it if you know it")
    return document.problems(before)
