"""Execution logs as files: JSON, one row a line, or Parquet with the same columns."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from gsched.errors import InputError
from gsched.files import PathLike, read_bytes, whole_file
from gsched.log import COLUMNS, SUMMARY_KEY, TEXTS, TIMES, Gangs, Labels, Log

if TYPE_CHECKING:
    import pyarrow

PARQUET_FROM = 100_000  # rows; larger logs are Parquet unless the user says otherwise

_PARTS = ("summary", "executions")


_Gpu = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]


class _Row(msgspec.Struct):
    """A row as found in a file: what other tools leave out is None."""

    request_id: str
    node_id: str
    model_name: str
    gpu_id: _Gpu
    start_time: float
    end_time: float
    workflow_id: str | None = None
    gpu_ids: list[_Gpu] | None = None
    execution_time: float | None = None
    estimated_time: float | None = None
    switch_time: float | None = None
    ready_time: float | None = None
    waiting_time: float | None = None


_COLUMNS = _Row.__struct_fields__
_OPTIONAL = _COLUMNS[-len(_Row.__struct_defaults__) :]


class _Document(msgspec.Struct):
    executions: list[_Row]
    summary: dict[str, Any] = msgspec.field(default_factory=dict)


def write_log(log: Log, path: PathLike) -> None:
    """Write a log to `path`, as Parquet where its suffix is `.parquet`, else as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    target = Path(path)
    with whole_file(target) as file:
        if target.suffix == ".parquet":
            _write_parquet(log, file)
        else:
            _write_json(log, file)


def read_log(path: PathLike) -> Log:
    """Read a log that gsched or another tool wrote.

    Raises:
        InputError: the file cannot be read or is not an execution log.
    """
    content = read_bytes(Path(path))
    try:
        return _read_parquet(content) if content[:4] == b"PAR1" else _read_json(content)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise InputError.one(path, "", f"is not an execution log: {what}", "see docs/formats.md") from error


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
    for name in COLUMNS:
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
    try:
        document = msgspec.json.decode(content, type=_Document)
        parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        extra = {name: msgspec.json.decode(raw) for name, raw in parts.items() if name not in _PARTS}
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        document, extra = _decode_leniently(content)
    columns: dict[str, Any] = {}
    for name in _COLUMNS:
        values = [getattr(row, name) for row in document.executions]
        missing = values.count(None)
        if 0 < missing < len(values):
            raise ValueError(f"executions[{values.index(None)}].{name} is missing, other rows have it")
        columns[name] = None if missing else _column(name, values)
    return Log(**columns, summary=document.summary, extra=extra)


def _decode_leniently(content: bytes) -> tuple[_Document, dict[str, Any]]:
    """Decode what Python's `json` writes beyond the standard: NaN and infinities, which the checker will find."""
    parts = json.loads(content)
    document = msgspec.convert(parts, _Document)
    json.dumps(parts, ensure_ascii=False).encode()  # raises for half a surrogate pair, which nobody could print
    return document, {name: part for name, part in parts.items() if name not in _PARTS}


def _column(name: str, values: list[Any]) -> Any:
    if name in TEXTS:
        return Labels.of(values)
    if name == "gpu_ids":
        sizes = np.fromiter(map(len, values), np.int64, len(values))
        gpus = [gpu for gang in values for gpu in gang]
        return Gangs(np.concatenate([[0], np.cumsum(sizes)]), np.array(gpus, np.int32))
    return np.array(values, np.int32 if name == "gpu_id" else np.float64)


def _write_parquet(log: Log, file: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    table = log.to_arrow()
    times = [name for name in table.column_names if name in TIMES]
    pq.write_table(
        table,
        file,
        compression="zstd",
        use_dictionary=["workflow_id", "node_id", "model_name"],
        use_byte_stream_split=times,
        column_encoding=None,
    )


def _read_parquet(content: bytes) -> Log:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(pa.BufferReader(content)).names
        wanted = [name for name in _COLUMNS if names.count(name) == 1]
        table = pq.read_table(pa.BufferReader(content), columns=wanted, read_dictionary=list(TEXTS))
        table.validate(full=True)
        columns = {name: _arrow_column(table, name) for name in _COLUMNS}
    except (OSError, pa.ArrowException) as error:
        raise ValueError(str(error)) from error
    head = msgspec.convert(json.loads((table.schema.metadata or {}).get(SUMMARY_KEY, b"{}")), dict[str, Any])
    summary = msgspec.convert(head.pop("summary", {}), dict[str, Any])
    return Log(**columns, summary=summary, extra=head)


def _arrow_column(table: "pyarrow.Table", name: str) -> Any:
    """Return a column of a log, or None where it is optional and missing or all empty."""
    column = table[name].combine_chunks() if name in table.column_names else None
    if name in _OPTIONAL and (column is None or (len(column) and column.null_count == len(column))):
        return None
    if column is None:
        raise ValueError(f"it has no column {name}, or two")
    if column.null_count:
        raise ValueError(f"column {name} has {column.null_count} empty cells")
    if name in TEXTS:
        return _labels(name, column)
    if name == "gpu_ids":
        return _gangs(column)
    return _numbers(name, column, np.int32 if name == "gpu_id" else np.float64)


def _labels(name: str, column: Any) -> Labels:
    import pyarrow as pa

    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    if not (pa.types.is_string(encoded.dictionary.type) or pa.types.is_large_string(encoded.dictionary.type)):
        raise ValueError(f"column {name} must hold texts, not {column.type}")
    return Labels(encoded.indices.cast("int32").to_numpy(), encoded.dictionary.to_pylist())


def _gangs(column: Any) -> Gangs:
    import pyarrow as pa

    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise ValueError(f"column gpu_ids must hold lists, not {column.type}")
    first = column.offsets.to_numpy().astype(np.int64)
    return Gangs(first, _numbers("gpu_ids", column.flatten(), np.int32))


def _numbers(name: str, column: Any, dtype: type[np.int32] | type[np.float64]) -> Any:
    """Return a column of numbers; integers may stand for floats, but not the other way round."""
    import pyarrow as pa

    kind, whole = column.type, dtype is np.int32
    if column.null_count or not (pa.types.is_integer(kind) or (pa.types.is_floating(kind) and not whole)):
        raise ValueError(f"column {name} must hold {'whole ' if whole else ''}numbers, not {kind}")
    return column.cast(pa.from_numpy_dtype(dtype), safe=whole).to_numpy()
