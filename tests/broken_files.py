"""The corpus of broken workloads, continued: files that are broken as files, and Parquet files."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from broken import REQUESTS, Broken, lines, other, other_config

FILES: dict[str, Broken] = {
    "no such file": other("absent.yaml", None, "no such file; check the path"),
    "no such config": other_config("absent.json", None, "no such file; check the path"),
    "a folder": other("folder.yaml", Path.mkdir, "is a folder; name a file in it"),
    "a folder without a suffix": other("folder", Path.mkdir, "is a folder; name a file in it"),
    "a folder named parquet": other("folder.parquet", Path.mkdir, "is a folder; name a file in it"),
    "unreadable: a link to itself": other(
        "loop.yaml",
        lambda path: path.symlink_to(path),
        "cannot be read (Too many levels of symbolic links); check the file",
    ),
    "unknown suffix": other(
        "requests.csv",
        "request_id\nr0\n",
        'has an unknown suffix ".csv"; use .json, .jsonl, .yaml, .yml',
    ),
    "no suffix": other("requests", REQUESTS, 'has an unknown suffix ""; use .json, .jsonl, .yaml, .yml'),
    "Windows path": other("C:\\data\\r.yaml", None, "no such file; check the path"),
    "empty": other("r.yaml", "", "is empty; name another file"),
    "blank": other("r.json", " \r\n\n", "is empty; name another file"),
    "byte order mark alone": other("r.json", b"\xef\xbb\xbf", "is empty; name another file"),
    "only a comment": other(
        "r.yaml", "# nothing here\n", "must be a list of requests, not nothing; see docs/formats.md"
    ),
    "UTF-16": other("r.yaml", REQUESTS.encode("utf-16"), "byte 0: is not UTF-8 text; save the file as UTF-8"),
    "UTF-16 without a mark": other(
        "r.yaml",
        REQUESTS.encode("utf-16-le"),
        "holds zero bytes, so it is no UTF-8 text; save the file as",
    ),
    "Latin-1": other("r.json", b'{"requests": "\xe9"}', "byte 14: is not UTF-8 text; save the file as UTF-8"),
    "half a surrogate pair": lines(
        ('"r1"', '"r\\\\\\ud83d"'),
        expected="3: \\ud83d is half a character; write both halves",
    ),
    "the other half": other(
        "r.json",
        '{"requests":\n["\\ud83d\\ude00\\ude00"]}',
        "2: \\ude00 is half a character; write both halves",
    ),
    "control character in YAML": other(
        "r.yaml",
        "requests: \x01\n",
        "cannot be parsed: unacceptable character #x0001: control characters",
    ),
    "JSON cut off": other(
        "r.json",
        '{"requests": [\n {"request_id": "r0", "times',
        "2: is not valid JSON: Unterminated string starting at (column 23); the file seems to be cut off",
    ),
    "JSON with a trailing comma": other(
        "r.json",
        '{"requests": [\n1,\n]}',
        "3: is not valid JSON: Expecting value (column 1); correct that line",
    ),
    "JSON with single quotes": other(
        "r.json",
        "{'requests': []}",
        "1: is not valid JSON: Expecting property name enclosed in double quotes",
    ),
    "JSON, two documents": other(
        "r.json", '{"requests": []}\n{}', "2: is not valid JSON: Extra data (column 1); correct that line"
    ),
    "JSON nested deeply": other("r.json", "[" * 100_000, "is nested too deeply; see docs/formats.md"),
    "YAML nested deeply": other(
        "r.yaml",
        f"requests:\n  {'[' * 200_000}",
        "2: is not valid YAML: is nested more than 200 levels deep",
    ),
    "YAML cut off": other(
        "r.yaml",
        'requests:\n  - {request_id: "r0',
        "2: is not valid YAML: found unexpected end of stream; check indentation (no tabs), quotes",
    ),
    "YAML cut off in a key": other(
        "r.yaml",
        REQUESTS[:-20].replace("{a: 0.5, b: 2.5", "{a: 0.5, b"),
        "10: is not valid YAML: did not find expected node content; check indentation",
    ),
    "YAML with tabs": other(
        "r.yaml",
        "requests:\n\t- request_id: r0\n",
        "2: is not valid YAML: found character that cannot start any token; check indentation (no tabs)",
    ),
    "YAML badly indented": other(
        "r.yaml",
        "requests:\n  - request_id: r0\n   timestamp: 1\n",
        "3: is not valid YAML: ",
    ),
    "YAML with a tag": other(
        "r.yaml",
        "requests:\n  - !!python/object/apply:os.system [ls]\n",
        "2: is not valid YAML: tag tag:yaml.org,2002:python/object/apply:os.system is not supported",
    ),
    "YAML with a tagged value": other(
        "r.yaml",
        "requests: !set {a}\n",
        "1: is not valid YAML: tag !set is not supported; check indentation",
    ),
    "YAML, two documents": other(
        "r.yaml",
        f"{REQUESTS}---\n{REQUESTS}",
        "10: is not valid YAML: a second document begins here; check",
    ),
    "YAML with an unknown alias": other(
        "r.yaml",
        "requests:\n  - *nobody\n",
        "2: is not valid YAML: alias *nobody refers to nothing complete",
    ),
    "YAML with an alias to what it stands in": other(
        "r.yaml",
        "requests: &all\n  - *all\n",
        "2: is not valid YAML: alias *all refers to nothing complete",
    ),
    "YAML with a list as a key": other(
        "r.yaml", "requests:\n  - {[a, b]: 1}\n", "2: is not valid YAML: a key must be a text; check"
    ),
    "YAML merging a list": other(
        "r.yaml",
        "requests:\n  - {<<: [1, 2]}\n",
        "2: is not valid YAML: << can only merge mappings; check",
    ),
}


def parquet(*changes: str, **columns: object) -> Callable[[Path], None]:
    """Write two requests to Parquet, without the columns `changes` and with others."""
    times = pa.array([[("b", 2.5)], [("b", 2.5)]], pa.map_(pa.string(), pa.float64()))
    table = {
        "request_id": ["r0", "r1"],
        "timestamp": pa.array([0, 1], pa.timestamp("ns")),
        "workflow_id": ["chain", "chain"],
        "node_execution_times": times,
    }
    kept = {name: column for name, column in (table | columns).items() if name not in changes}
    return lambda path: pq.write_table(pa.table(kept), path)


def cut(write_file: Callable[[Path], None]) -> Callable[[Path], None]:
    """Write a file and cut it off."""

    def write_part(path: Path) -> None:
        write_file(path)
        path.write_bytes(path.read_bytes()[:-100])

    return write_part


def _twice(path: Path) -> None:
    columns = [pa.array(["r0"]), pa.array(["r0"]), pa.array([0], pa.timestamp("ns")), pa.array(["chain"])]
    pq.write_table(pa.Table.from_arrays(columns, ["request_id", "request_id", "timestamp", "workflow_id"]), path)


def _deadline_twice(path: Path) -> None:
    columns = [pa.array(["r0"]), pa.array(["t"]), pa.array(["chain"]), pa.array([1.0]), pa.array([2.0])]
    names = ["request_id", "timestamp", "workflow_id", "deadline", "deadline"]
    pq.write_table(pa.Table.from_arrays(columns, names), path)


def _not_utf8(path: Path) -> None:
    ids = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0"), pa.py_buffer(b"\xff\xfer1"))
    parquet(request_id=ids)(path)


def _map(items: object, kind: pa.DataType) -> pa.Array:
    return pa.array([[("b", items)], [("b", 2.5)]], pa.map_(pa.string(), kind))


PARQUET: dict[str, Broken] = {
    "under a yaml name": other("r.yaml", parquet(), "is a Parquet file; rename it to .parquet"),
    "under an unknown name": other("r.pq", parquet(), "is a Parquet file; rename it to .parquet"),
    "config": other_config("config.json", parquet(), "is a Parquet file; rename it to .parquet"),
    "YAML under a parquet name": other(
        "r.parquet", REQUESTS, "is no Parquet file; rename it after what it is, or make it anew"
    ),
    "empty": other("r.parquet", "", "is no Parquet file; rename it after what it is"),
    "absent": other("r.parquet", None, "no such file; check the path"),
    "cut off": other("r.parquet", cut(parquet()), "is a damaged Parquet file ("),
    "its first bytes alone": other("r.parquet", b"PAR1", "is a damaged Parquet file ("),
    "garbage": other("r.parquet", b"PAR1" + bytes(range(256)) + b"PAR1", "is a damaged Parquet file ("),
    "no rows": other(
        "r.parquet",
        lambda path: pq.write_table(
            pa.table({"request_id": pa.array([], "string"), "timestamp": pa.array([], "string")}), path
        ),
        (
            "workflow_id: this column is missing or stands twice; see docs/formats.md",
            "holds no requests; generate some with gsched generate",
        ),
    ),
    "columns missing": other(
        "r.parquet",
        parquet("timestamp", "workflow_id"),
        (
            "timestamp: this column is missing or stands twice; see docs/formats.md",
            "workflow_id: this column is missing or stands twice; see docs/formats.md",
        ),
    ),
    "column twice": other(
        "r.parquet", _twice, "request_id: this column is missing or stands twice; see docs/formats.md"
    ),
    "null cells": other(
        "r.parquet",
        parquet(request_id=["r0", None], timestamp=pa.array([None, None], pa.timestamp("us"))),
        (
            "row 1: request_id: is empty, as in 1 rows; fill it",
            "row 0: timestamp: is empty, as in 2 rows; fill it",
        ),
    ),
    "ids are numbers": other(
        "r.parquet",
        parquet(request_id=[1, 2]),
        "request_id: must be a text column, not int64; convert it",
    ),
    "workflows are lists": other(
        "r.parquet",
        parquet(workflow_id=[["chain"], ["chain"]]),
        "workflow_id: must be a text column, not list<element: string>; convert it",
    ),
    "times are a struct": other(
        "r.parquet",
        parquet(node_execution_times=[{"b": 2.5}, {"b": 2.5}]),
        "node_execution_times: must be a map<text, double> column, not struct<b: double>; see docs",
    ),
    "times are texts": other(
        "r.parquet",
        parquet(node_execution_times=["{}", "{}"]),
        "node_execution_times: must be a map<text, double> column, not string; see docs/formats.md",
    ),
    "id twice, unknown workflow, odd timestamp": other(
        "r.parquet",
        parquet(request_id=["r0", "r0"], workflow_id=["chain", "chains"], timestamp=["2024-01-01", "today"]),
        (
            'row 1: request_id: "r0" is the id of row 0 too; make ids unique',
            'row 1: timestamp: "today" is no ISO 8601 timestamp; write it like 2024-01-01T10',
            'row 1: workflow_id: "chains" is an unknown workflow; did you mean chain?',
        ),
    ),
    "timestamps with and without a zone": other(
        "r.parquet",
        parquet(timestamp=["2024-01-01T10:00:00", "2024-01-01T10:00:00+01:00"]),
        "row 1: timestamp: is zoned, those before it are not; give all or none a zone",
    ),
    "timestamps are dates": other(
        "r.parquet",
        parquet(timestamp=pa.array([1, 2], pa.date32())),
        (
            "row 0: timestamp: must be an ISO 8601 text or seconds since 1970; write it like",
            "row 1: timestamp: must be an ISO 8601 text or seconds since 1970; write it like",
        ),
    ),
    "timestamps beyond nanoseconds": other(
        "r.parquet",
        parquet(timestamp=pa.array([0, 2**60], pa.timestamp("us"))),
        "timestamp: lies outside the years 1970 to 2262; correct it",
    ),
    "timestamps before 1970": other(
        "r.parquet",
        parquet(timestamp=pa.array([-1, 0], pa.timestamp("ns"))),
        "timestamp: lies outside the years 1970 to 2262; correct it",
    ),
    "time null": other(
        "r.parquet",
        parquet(node_execution_times=_map(None, pa.float64())),
        "row 0: node_execution_times.b: must be finite, not nan; give a finite number",
    ),
    "time negative": other(
        "r.parquet",
        parquet(node_execution_times=_map(-1, pa.float64())),
        "row 0: node_execution_times.b: must be at least 0, not -1.0; correct the sign or the value",
    ),
    "time twice": other(
        "r.parquet",
        parquet(
            node_execution_times=pa.array(
                [[("b", 1.0)], [("b", 1.0), ("a", 1.0), ("b", 2.0)]], pa.map_(pa.string(), pa.float64())
            )
        ),
        "row 1: node_execution_times.b: is given twice; remove one of them",
    ),
    "tiers out of range": other(
        "r.parquet",
        parquet(tier=pa.array([0, 2**64 - 1], pa.uint64())),
        (
            "row 0: tier: must be a whole number from 1 to 100, not 0; correct it",
            "row 1: tier: must be a whole number from 1 to 100, not 18446744073709551615; correct it",
        ),
    ),
    "tiers are not whole": other(
        "r.parquet", parquet(tier=[1.0, 2.0]), "tier: must be a column of whole numbers, not double; convert it"
    ),
    "deadlines out of range": other(
        "r.parquet",
        parquet(deadline=pa.array([-1.0, float("nan")])),
        (
            "row 0: deadline: must be at least 0, not -1.0; correct the sign or the value",
            "row 1: deadline: must be finite, not nan; give a finite number",
        ),
    ),
    "deadlines are times": other(
        "r.parquet",
        parquet(deadline=pa.array([1, 2], pa.timestamp("ms"))),
        "deadline: must be a column of numbers, not timestamp[ms]; convert it",
    ),
    "deadlines twice": other(
        "r.parquet", _deadline_twice, "deadline: this column stands twice; remove or rename one of them"
    ),
    "time missing and unknown": other(
        "r.parquet",
        parquet(node_execution_times=pa.array([[], [("x", 1.0), ("b", 1.0)]], pa.map_(pa.string(), pa.float64()))),
        (
            "row 1: node_execution_times.x: is no node of chain; known: a, b, c",
            "row 0: node_execution_times.b: has no execution time; give it, or give big",
        ),
    ),
    "ids are not UTF-8": other("r.parquet", _not_utf8, "is a damaged Parquet file ("),
}
