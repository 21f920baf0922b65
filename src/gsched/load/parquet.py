"""Requests from and to Parquet, column by column (docs/formats.md has the schema)."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from gsched.errors import InputError, Problem, Problems
from gsched.files import read_bytes
from gsched.load.durations import LISTED, Given, resolve
from gsched.load.fields import known_names
from gsched.load.timestamps import nanoseconds
from gsched.workload import Config, Ints, Longs, Workload

_REQUIRED = ("request_id", "timestamp", "workflow_id")
_DETAILS = ("input_data", "node_configs", "metadata")
_TIMES = "node_execution_times"


def read_parquet(path: Path, config: Config | None, *, details: bool) -> Workload | list[Problem]:
    """Return the workload of a Parquet file of requests, or the errors found in it.

    Args:
        path: the file.
        config: models and workflows; None where they could not be read, then only the columns are checked.
        details: whether to read the columns that do not matter to scheduling.
    """
    import pyarrow as pa

    found = _read_table(path, _table(path, details), config)
    pa.default_memory_pool().release_unused()  # a large part of what reading took
    return found


def _read_table(path: Path, table: Any, config: Config | None) -> Workload | list[Problem]:
    problems = Problems(str(path))
    for name in (name for name in _REQUIRED if name not in table.column_names):
        problems.error(name, "this column is missing", "see docs/formats.md")
    if not table.num_rows:
        problems.error("", "holds no requests", "generate some with gsched generate")
    for name in (name for name in _REQUIRED if name in table.column_names):
        _note_empty(table[name], name, problems)
    if problems.errors or config is None:
        return problems.found
    ids = _ids(table, problems)
    workflow = _workflows(table["workflow_id"], config, problems)
    timestamp = _timestamps(table["timestamp"], problems)
    given = _given(table, problems)
    if problems.errors or workflow is None or timestamp is None or given is None:
        return problems.found

    def note(request: int, node: str, message: str, hint: str) -> None:
        problems.error(f"row {request}: {_TIMES}.{node}", message, hint)

    duration = resolve(config, workflow, given, note)
    if problems.errors:
        return problems.found
    extra = {name: table[name].to_pylist() for name in _DETAILS if name in table.column_names}
    return Workload(config, ids, workflow, timestamp, duration, extra)


def _table(path: Path, details: bool) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            if file.read(4) != b"PAR1":
                raise InputError.one(path, "", "is no Parquet file", "rename it after what it is, or make it anew")
        names = pq.read_schema(path).names
        wanted = [name for name in (*_REQUIRED, _TIMES, *(_DETAILS if details else ())) if name in names]
        return pq.read_table(path, columns=wanted, read_dictionary=["workflow_id"])
    except OSError as error:
        read_bytes(path)  # says it where the file cannot even be read
        raise InputError.one(path, "", f"is a damaged Parquet file ({error})", "make it anew") from None
    except pa.ArrowException as error:
        raise InputError.one(path, "", f"is a damaged Parquet file ({error})", "make it anew") from None


def _note_empty(column: Any, name: str, problems: Problems) -> None:
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        problems.error(f"row {row}: {name}", f"is empty, as in {column.null_count} rows", "fill it")


def _ids(table: Any, problems: Problems) -> Sequence[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table["request_id"]
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        problems.error("request_id", f"must be a text column, not {column.type}", "convert it")
        return []
    ids: Sequence[str] = column.to_pylist()
    if pc.count_distinct(column).as_py() < len(ids):
        seen: dict[str, int] = {}
        twice = [(row, id, seen[id]) for row, id in enumerate(ids) if seen.setdefault(id, row) != row]
        for row, id, earlier in twice[:LISTED]:
            problems.error(f"row {row}: request_id", f'"{id}" is the id of row {earlier} too', "make ids unique")
    return ids


def _workflows(column: Any, config: Config, problems: Problems) -> Ints | None:
    import pyarrow as pa

    combined = column.combine_chunks()
    if not pa.types.is_dictionary(combined.type):
        combined = combined.dictionary_encode()
    names = combined.dictionary.to_pylist()
    position = {id: i for i, id in enumerate(config.workflows)}
    codes = combined.indices.to_numpy()
    for code in sorted({int(code) for code in np.unique(codes)}):
        if names[code] not in position:
            row = int(np.argmax(codes == code))
            hint = known_names(names[code], position)
            problems.error(f"row {row}: workflow_id", f'"{names[code]}" is an unknown workflow', hint)
    if problems.errors:
        return None
    table: Ints = np.array([position.get(name, -1) for name in names], np.int32)[codes]
    return table


def _timestamps(column: Any, problems: Problems) -> Longs | None:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        try:
            moments: Longs = column.cast(pa.timestamp("ns", column.type.tz)).combine_chunks().cast("int64").to_numpy()
        except pa.ArrowInvalid as error:
            problems.error("timestamp", f"cannot be held in nanoseconds ({error})", "use the years 1678 to 2261")
            return None
        return moments.copy()
    values = []
    zones = set()
    for row, value in enumerate(column.to_pylist()):
        try:
            moment, zone = nanoseconds(value)
        except ValueError as error:
            problems.error(f"row {row}: timestamp", str(error), "write it like 2024-01-01T10:00:00.000000")
            continue
        values.append(moment)
        zones.add(zone)
        if len(zones) > 1:
            problems.error(f"row {row}: timestamp", f"is {zone}, those before it are not", "give all or none a zone")
            break
    return np.array(values, np.int64)


def _given(table: Any, problems: Problems) -> Given | None:
    import pyarrow as pa

    if _TIMES not in table.column_names:
        rows = table.num_rows
        return Given(np.zeros(rows + 1, np.int64), np.zeros(0, np.int32), [], np.zeros(0))
    column = table[_TIMES].combine_chunks()
    if not pa.types.is_map(column.type) or not pa.types.is_floating(column.type.item_type):
        problems.error(_TIMES, f"must be a column of map<text, double>, not {column.type}", "see docs/formats.md")
        return None
    first = column.offsets.to_numpy().astype(np.int64)
    keys = column.keys.slice(first[0], first[-1] - first[0]).dictionary_encode()
    items = column.items.slice(first[0], first[-1] - first[0])
    seconds = items.cast("float64").fill_null(float("nan")).to_numpy(zero_copy_only=False)
    return Given(first - first[0], keys.indices.to_numpy().astype(np.int32), keys.dictionary.to_pylist(), seconds)


def write_parquet(workload: Workload, file: IO[bytes]) -> None:
    """Write the requests of a workload as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flows = list(workload.config.workflows)
    node_ids = pa.array([node.id for flow in workload.workflows for node in flow.nodes], pa.string())
    times = pa.MapArray.from_arrays(
        pa.array(workload.first_node, pa.int32()),
        node_ids.take(pa.array(workload.template)),
        pa.array(workload.duration),
    )
    columns = {
        "request_id": pa.array(workload.request_ids, pa.string()),
        "timestamp": pa.array(workload.timestamp).cast(pa.timestamp("ns")),
        "workflow_id": pa.DictionaryArray.from_arrays(workload.workflow, pa.array(flows, pa.string())),
        _TIMES: times,
        **{name: pa.array(texts, pa.string()) for name, texts in workload.details.items()},
    }
    pq.write_table(pa.table(columns), file, compression="zstd")
