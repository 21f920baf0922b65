"""The files that a run leaves."""

from pathlib import Path
from typing import TYPE_CHECKING

from gsched.cli import options

if TYPE_CHECKING:
    from gsched.log import Log
    from gsched.workload import Workload


def write_run(log: "Log", workload: "Workload", directory: Path, log_format: options.LogFormat) -> Path:
    """Write the execution log and the text log; return the former's path."""
    from gsched.files import whole_file
    from gsched.log_files import PARQUET_FROM, write_log
    from gsched.report.text import log_lines

    name = str(log.summary["policy"])
    large = len(log) >= PARQUET_FROM
    parquet = log_format is options.LogFormat.PARQUET or (log_format is options.LogFormat.AUTO and large)
    path = directory / f"{name}_execution_log.{'parquet' if parquet else 'json'}"
    with whole_file(directory / f"{name}_scheduler.log") as file:
        write_log(log, path)
        file.writelines(f"{line}\n".encode() for line in log_lines(log, workload, events=not large))
    return path
