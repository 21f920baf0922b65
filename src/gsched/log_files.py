"""Execution logs as files: JSON, one row a line, or Parquet with the same columns."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import numpy as np

from gsched.errors import InputError
from gsched.files import read_bytes, whole_file
from gsched.log import Gangs, Labels, Log

if TYPE_CHECKING:
    import pyarrow

PARQUET_FROM = 100_000  # rows; larger logs are Parquet unless the user says otherwise

_TEXTS = ("request_id", "workflow_id", "node_id", "model_name")
_TIMES = ("start_time", "end_time", "execution_time", "estimated_time", "switch_time", "ready_time", "waiting_time")
_SUMMARY_KEY = b"gsched.summary"
_CHUNK = 4096


class _Row(msgspec.Struct):
    """A row as found in a file: what other tools leave out is None."""

    request_id: str
    node_id: str
    model_name: str
    gpu_id: int
    start_time: float
    end_time: float
    workflow_id: str | None = None
    gpu_ids: list[int] | None = None
    execution_time: float | None = None
    estimated_time: float | None = None
    switch_time: float | None = None
    ready_time: float | None = None
    waiting_time: float | None = None


class _Document(msgspec.Struct):
    summary: dict[str, Any]
    executions: list[_Row]


def write_log(log: Log, path: Path) -> None:
    """Write a log to `path`, as Parquet where its suffix is `.parquet`, else as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    with whole_file(path) as file:
        if path.suffix == ".parquet":
            _write_parquet(log, file)
        else:
            _write_json(log, file)


def read_log(path: Path) -> Log:
    """Read a log that gsched or another tool wrote.

    Raises:
        InputError: the file cannot be read or is not an execution log.
    """
    content = read_bytes(path)
    try:
        return _read_parquet(path) if content[:4] == b"PAR1" else _read_json(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, KeyError, OverflowError) as error:
        raise InputError.one(path, "", f"is not an execution log: {error}", "see docs/formats.md") from error


def _write_json(log: Log, file: IO[bytes]) -> None:
    head = {"summary": dict(log.summary), **log.extra}
    text = json.dumps(head, indent=2, allow_nan=False)
    file.write(text.removesuffix("\n}").encode() + b',\n  "executions": [')
    separator = b"\n    "
    encoder = msgspec.json.Encoder()
    for row in _rows(log):
        file.write(separator + encoder.encode(row))
        separator = b",\n    "
    file.write(b"\n  ]\n}\n")


def _rows(log: Log) -> Iterable[dict[str, Any]]:
    """Yield the rows as they stand in a JSON file, without the columns that the log lacks."""
    columns: dict[str, list[Any]] = {}
    for name in (*_TEXTS, "gpu_id", "gpu_ids", *_TIMES):
        column = getattr(log, name)
        if isinstance(column, Labels):
            columns[name] = column.texts()
        elif isinstance(column, Gangs):
            first, gpus = column.first.tolist(), column.gpus.tolist()
            columns[name] = [gpus[a:b] for a, b in itertools.pairwise(first)]
        elif column is not None:
            columns[name] = column.tolist()
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _read_json(content: bytes) -> Log:
    document = msgspec.json.decode(content, type=_Document)
    rows = document.executions
    columns: dict[str, Any] = {}
    for name in _Row.__struct_fields__:
        values = [getattr(row, name) for row in rows]
        if missing := values.count(None):
            if missing < len(values):
                raise ValueError(f"executions[{values.index(None)}].{name} is missing, other rows have it")
            columns[name] = None
        else:
            columns[name] = _column(name, values)
    return Log(**columns, summary=document.summary, extra=_extra(content))


def _column(name: str, values: list[Any]) -> Any:
    if name in _TEXTS:
        return Labels.of(values)
    if name == "gpu_ids":
        sizes = np.fromiter(map(len, values), np.int64, len(values))
        gpus = [gpu for gang in values for gpu in gang]
        return Gangs(np.concatenate([[0], np.cumsum(sizes)]), np.array(gpus, np.int32))
    return np.array(values, np.int32 if name == "gpu_id" else np.float64)


def _extra(content: bytes) -> dict[str, Any]:
    parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    return {name: msgspec.json.decode(raw) for name, raw in parts.items() if name not in ("summary", "executions")}


def to_arrow(log: Log) -> "pyarrow.Table":
    """Return the rows of a log as an Arrow table, with the summary in its metadata."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in (*_TEXTS, "gpu_id", "gpu_ids", *_TIMES):
        column = getattr(log, name)
        if isinstance(column, Labels):
            columns[name] = pa.DictionaryArray.from_arrays(column.codes, pa.array(column.values, pa.string()))
        elif isinstance(column, Gangs):
            columns[name] = pa.ListArray.from_arrays(pa.array(column.first, pa.int32()), column.gpus)
        elif column is not None:
            columns[name] = column
    return pa.table(columns, metadata={_SUMMARY_KEY: json.dumps({"summary": dict(log.summary), **log.extra})})


def _write_parquet(log: Log, file: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    table = to_arrow(log)
    times = [name for name in table.column_names if name in _TIMES]
    pq.write_table(
        table,
        file,
        compression="zstd",
        use_dictionary=["workflow_id", "node_id", "model_name"],
        use_byte_stream_split=times,
        column_encoding=None,
    )


def _read_parquet(path: Path) -> Log:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path, read_dictionary=list(_TEXTS))
    head = json.loads((table.schema.metadata or {}).get(_SUMMARY_KEY, b"{}"))
    columns: dict[str, Any] = {}
    for name in _Row.__struct_fields__:
        if name not in table.column_names:
            if name in ("request_id", "node_id", "model_name", "gpu_id", "start_time", "end_time"):
                raise ValueError(f"it has no column {name}")
            columns[name] = None
            continue
        column = table[name].combine_chunks()
        if column.null_count:
            raise ValueError(f"column {name} has {column.null_count} empty values")
        if name in _TEXTS:
            encoded = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
            columns[name] = Labels(encoded.indices.to_numpy().astype(np.int32), encoded.dictionary.to_pylist())
        elif name == "gpu_ids":
            columns[name] = Gangs(column.offsets.to_numpy().astype(np.int64), column.values.to_numpy())
        else:
            columns[name] = column.to_numpy().astype(np.int32 if name == "gpu_id" else np.float64)
    return Log(**columns, summary=head.pop("summary", {}), extra=head)
