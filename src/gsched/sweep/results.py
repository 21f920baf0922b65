"""The results of a sweep as a table: Parquet with everything, CSV with what fits into cells."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsched.errors import InputError
from gsched.files import PathLike, read_bytes, whole_file, write_csv
from gsched.sweep.intervals import Run, curves

if TYPE_CHECKING:
    import pyarrow as pa

RESULTS = "results.parquet"
PERCENTILES = "latency_percentiles"
AXES = ("workload", "policy", "gpus", "load")
INTERVAL_FIGURES = (
    *("makespan", "lower_bound", "gap_percent", "throughput", "average_request_time", "median_request_time"),
    *("p90_request_time", "p99_request_time", "total_model_switches", "total_switch_time", "switch_overhead_percent"),
    *("average_utilization", "utilization_variance", "slo_attainment_percent", "goodput"),
)

_NEEDED = {"workload", "policy", "mode", "gpus", "load", "seed", "valid"}
_ABOUT_KEY = b"gsched.sweep"
_TYPES = {
    **dict.fromkeys(("workload", "policy", "policy_options", "mode", "residency"), "string"),
    **dict.fromkeys(("problem", "violations", "version"), "string"),
    **dict.fromkeys(("gpus", "gpus_per_server", "seed"), "int64"),
    **dict.fromkeys(("gpu_memory_gb", "pcie_bandwidth", "switch_overhead", "load", "wall_seconds"), "float64"),
    **dict.fromkeys(("valid", "faulty"), "bool"),
}


@dataclass(frozen=True)
class Results:
    """The runs of a sweep, in its order.

    Args:
        runs: a mapping each, all with the same columns (docs/formats.md); what a run does not have is None.
        about: the sweep as it was carried out: every setting, digests of its files, and gsched's version.
    """

    runs: Sequence[Run]
    about: Mapping[str, Any]


def write_results(results: Results, folder: Path) -> list[Path]:
    """Write `results.parquet`, `results.csv` and `intervals.csv`; return their paths.

    Raises:
        InputError: a file cannot be written.
    """
    import pyarrow.parquet as pq

    paths = [folder / name for name in (RESULTS, "results.csv", "intervals.csv")]
    with whole_file(paths[0]) as file:
        pq.write_table(_table(results), file, compression="zstd")
    cells = [{name: value for name, value in run.items() if not isinstance(value, list)} for run in results.runs]
    columns = [name for name in _columns(results.runs) if name != PERCENTILES]
    write_csv(cells, columns, paths[1])
    ends = [f"{figure}{end}" for figure in INTERVAL_FIGURES for end in ("", "_low", "_high")]
    write_csv(interval_rows(results.runs), [*AXES, "n", *ends], paths[2])
    return paths


def read_results(path: PathLike) -> Results:
    """Read what `write_results` wrote, from its folder or the Parquet file in it.

    Raises:
        InputError: there are no such results.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = Path(path)
    file = given / RESULTS if given.is_dir() else given
    if not file.exists():
        what = f"holds no {RESULTS}" if given.is_dir() else "no such file or folder"
        hint = "run gsched bench (scripts/run_benchmark.py) first, or name what it wrote"
        raise InputError.one(given, "", what, hint)
    content = read_bytes(file)
    try:
        table = pq.read_table(pa.BufferReader(content))
        about = json.loads((table.schema.metadata or {})[_ABOUT_KEY])
        runs = table.to_pylist()
        if runs and not runs[0].keys() >= _NEEDED:
            raise KeyError
    except (OSError, pa.ArrowException, ValueError, KeyError):
        hint = "name the folder, or the results.parquet in it, that gsched bench wrote"
        raise InputError.one(file, "", "does not hold the results of a sweep", hint) from None
    return Results(runs, about)


def _columns(runs: Sequence[Run]) -> list[str]:
    """Return the columns of all runs, those of the configuration first."""
    names = dict.fromkeys(name for run in runs for name in run)
    return sorted(names, key=lambda name: name not in _TYPES)


def _table(results: Results) -> "pa.Table":
    import pyarrow as pa

    columns = {}
    for name in _columns(results.runs):
        values = [run.get(name) for run in results.runs]
        columns[name] = pa.array(values, pa.type_for_alias(_TYPES[name]) if name in _TYPES else None)
    return pa.table(columns, metadata={_ABOUT_KEY: json.dumps(results.about)})


def interval_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a line for each workload, policy, GPUs and load: every figure's mean and 95% interval over the seeds."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for figure in INTERVAL_FIGURES:
        groups = curves(runs, methodcaller("get", figure), apart=("workload", "load"))
        for (workload, load), policies in groups.items():
            for policy, points in policies.items():
                for gpus, (mean, low, high, n) in points.items():
                    axes = dict(zip(AXES, (workload, policy, gpus, load), strict=True))
                    row = rows.setdefault(tuple(axes.values()), {**axes, "n": n})
                    row |= {figure: mean, f"{figure}_low": low, f"{figure}_high": high}
    return list(rows.values())
