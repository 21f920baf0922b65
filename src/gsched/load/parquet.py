"""Requests from and to Parquet, column by column (docs/formats.md has the schema)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from gsched.arrivals import YEARS
from gsched.cluster import LARGEST
from gsched.errors import InputError, Problem, Problems
from gsched.files import read_bytes
from gsched.load.durations import LISTED, Given, resolve
from gsched.load.fields import known_names, number_complaint, show
from gsched.load.timestamps import nanoseconds
from gsched.workload import LOWEST_TIER, Config, Floats, Ints, Longs, Workload

_REQUIRED = ("request_id", "timestamp", "workflow_id")
_DETAILS = ("input_data", "node_configs", "metadata")
_TIMES = "node_execution_times"


def read_parquet(path: Path, config: Config | None, *, details: bool) -> Workload | list[Problem]:
    """Return the workload of a Parquet file of requests, or the errors found in it.

    Args:
        path: the file.
        config: models and workflows; None where they could not be read, then only what needs none is checked.
        details: whether to read the columns that do not matter to scheduling.
    """
    import pyarrow as pa

    found = _read(path, _table(path, details), config)
    pa.default_memory_pool().release_unused()  # about a fifth of what a large run takes in all
    return found


def _read(path: Path, table: Any, config: Config | None) -> Workload | list[Problem]:
    problems = Problems(str(path))
    _note_shape(table, problems)
    if problems.found:
        return problems.found
    ids = _ids(table, problems)
    timestamp = _timestamps(table["timestamp"], problems)
    given = _given(table)
    tier = _tiers(table["tier"], problems) if "tier" in table.column_names else None
    deadline = _deadlines(table["deadline"], problems) if "deadline" in table.column_names else None
    extra = {name: _details(table[name], name, problems) for name in _DETAILS if name in table.column_names}
    workflow = _workflows(table["workflow_id"], config, problems) if config else None
    if config is None or workflow is None:
        return problems.found

    def note(request: int, node: str, message: str, hint: str) -> None:
        problems.error(f"row {request}: {_TIMES}.{node}", message, hint)

    duration = resolve(config, workflow, given, note)
    return problems.found or Workload(config, ids, workflow, timestamp, duration, extra, deadline, tier)


def _table(path: Path, details: bool) -> Any:
    """Return the columns of a file that matter."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = read_bytes(path)
    if not content.startswith(b"PAR1"):
        raise InputError.one(path, "", "is no Parquet file", "rename it after what it is, or make it anew")
    try:
        names = pq.read_schema(pa.BufferReader(content)).names
        optional = (_TIMES, "tier", "deadline", *(_DETAILS if details else ()))
        if twice := [name for name in optional if names.count(name) > 1]:
            raise InputError.one(path, twice[0], "this column stands twice", "remove or rename one of them")
        wanted = [name for name in (*_REQUIRED, *optional) if names.count(name) == 1]
        table = pq.read_table(pa.BufferReader(content), columns=wanted, read_dictionary=["workflow_id"])
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        what = " ".join(str(error).split())
        raise InputError.one(path, "", f"is a damaged Parquet file ({what})", "make it anew") from None
    return table


def _note_shape(table: Any, problems: Problems) -> None:
    """Note columns that are missing, of the wrong type or with empty cells, and a table without rows."""
    for name in _REQUIRED:
        if name not in table.column_names:
            problems.error(name, "this column is missing or stands twice", "see docs/formats.md")
            continue
        column = table[name]
        if name != "timestamp" and not _is_text(column.type):
            problems.error(name, f"must be a text column, not {column.type}", "convert it")
        elif column.null_count:
            row = column.is_null().to_pylist().index(True)
            problems.error(f"row {row}: {name}", f"is empty, as in {column.null_count} rows", "fill it")
    if _TIMES in table.column_names and not _are_times(table[_TIMES].type):
        problems.error(_TIMES, f"must be a map<text, double> column, not {table[_TIMES].type}", "see docs/formats.md")
    if not table.num_rows:
        problems.error("", "holds no requests", "generate some with gsched generate")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _are_times(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_map(kind) and _is_text(kind.key_type) and bool(pa.types.is_floating(kind.item_type))


def _ids(table: Any, problems: Problems) -> Sequence[str]:
    import pyarrow.compute as pc

    column = table["request_id"].cast("string")
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
    unknown = [code for code in np.unique(codes).tolist() if names[code] not in position]
    for code in unknown:
        row = int(np.argmax(codes == code))
        hint = known_names(names[code], position)
        problems.error(f"row {row}: workflow_id", f'"{names[code]}" is an unknown workflow', hint)
    if unknown:
        return None
    table: Ints = np.array([position.get(name, -1) for name in names], np.int32)[codes]
    return table


def _timestamps(column: Any, problems: Problems) -> Longs:
    import pyarrow as pa

    if not pa.types.is_timestamp(column.type):
        return _parsed(column.to_pylist(), problems)
    try:
        moments: Longs = column.cast(pa.timestamp("ns", column.type.tz)).combine_chunks().cast("int64").to_numpy()
    except pa.ArrowInvalid:
        moments = np.full(len(column), -1)
    if moments.min() < 0:
        problems.error("timestamp", f"lies outside the years {YEARS}", "correct it")
    return moments.copy()


def _parsed(values: Sequence[object], problems: Problems) -> Longs:
    """Return timestamps given as texts or numbers."""
    moments = np.zeros(len(values), np.int64)
    zones: set[str] = set()
    faults = 0
    for row, value in enumerate(values):
        try:
            moments[row], zone = nanoseconds(value)
        except ValueError as error:
            problems.error(f"row {row}: timestamp", str(error), "write it like 2024-01-01T10:00:00.000000")
            faults += 1
        else:
            zones.add(zone)
        if len(zones) > 1:
            problems.error(f"row {row}: timestamp", f"is {zone}, those before it are not", "give all or none a zone")
        if len(zones) > 1 or faults == LISTED:
            break
    return moments


def _given(table: Any) -> Given:
    if _TIMES not in table.column_names:
        rows = table.num_rows
        return Given(np.zeros(rows + 1, np.int64), np.zeros(0, np.int32), [], np.zeros(0))
    column = table[_TIMES].combine_chunks()
    first = column.offsets.to_numpy().astype(np.int64)
    keys = column.keys.slice(first[0], first[-1] - first[0]).cast("string").dictionary_encode()
    items = column.items.slice(first[0], first[-1] - first[0])
    seconds = items.cast("float64").fill_null(float("nan")).to_numpy(zero_copy_only=False)
    return Given(first - first[0], keys.indices.to_numpy().astype(np.int32), keys.dictionary.to_pylist(), seconds)


def _tiers(column: Any, problems: Problems) -> Ints | None:
    """Return the tiers of all requests, or None where all are 1; an empty cell means 1."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type) and not pa.types.is_null(column.type):
        problems.error("tier", f"must be a column of whole numbers, not {column.type}", "convert it")
        return None
    tiers = column.cast("int64", safe=False).fill_null(1).to_numpy()
    for row in np.flatnonzero((tiers < 1) | (tiers > LOWEST_TIER))[:LISTED].tolist():
        message = f"must be a whole number from 1 to {LOWEST_TIER}, not {column[row].as_py()}"
        problems.error(f"row {row}: tier", message, "correct it")
    return None if (tiers == 1).all() else tiers.astype(np.int32)


def _deadlines(column: Any, problems: Problems) -> Floats | None:
    """Return the deadlines of all requests, infinity for an empty cell, or None where all are empty."""
    import pyarrow as pa

    if not any(test(column.type) for test in (pa.types.is_floating, pa.types.is_integer, pa.types.is_null)):
        problems.error("deadline", f"must be a column of numbers, not {column.type}", "convert it")
        return None
    seconds = column.cast("float64", safe=False).to_numpy()
    given = column.is_valid().to_numpy()
    for row in np.flatnonzero(given & ~((seconds >= 0) & (seconds <= LARGEST)))[:LISTED].tolist():
        complaint = number_complaint(float(seconds[row])) or ("", "")
        problems.error(f"row {row}: deadline", *complaint)
    return np.where(given, seconds, np.inf) if given.any() else None


def _details(column: Any, name: str, problems: Problems) -> list[str]:
    """Return a column of texts of JSON, `{}` where a cell is empty."""
    if not _is_text(column.type):
        problems.error(name, f"must be a text column with JSON, not {column.type}", "see docs/formats.md")
        return []
    texts = [text or "{}" for text in column.to_pylist()]
    for row, text in enumerate(texts):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            problems.error(f"row {row}: {name}", f"is not valid JSON: {show(text)}", "see docs/formats.md")
            break
    return texts


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
        **_urgency(workload),
        **{name: pa.array(texts, pa.string()) for name, texts in workload.details.items()},
    }
    pq.write_table(pa.table(columns), file, compression="zstd")


def _urgency(workload: Workload) -> dict[str, Any]:
    """Return the columns of tiers and deadlines, where there are any."""
    import pyarrow as pa

    columns = {}
    if workload.tier is not None:
        columns["tier"] = pa.array(workload.tier)
    if workload.deadline is not None:
        columns["deadline"] = pa.array(workload.deadline, mask=np.isinf(workload.deadline))
    return columns
