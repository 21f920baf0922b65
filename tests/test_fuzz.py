import copy
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from broken import CONFIG, REQUESTS
from broken_logs import ROWS, SUMMARY
from hypothesis import assume, given
from hypothesis import strategies as st

from gsched.checker import check
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.load import load_workload, save_requests
from gsched.log_files import read_log, write_log
from gsched.simulator import simulate
from gsched.workload import Workload

NASTY = (None, True, False, 0, -0.0, 5e-324, -1, 1e300, 10**30, 10**400, 2**31, 2**63, math.nan, math.inf, "", "a", "b")
NASTY += ("llm", "chain", "text", "1e5", "2024-01-01", "9999-12-31", "\ud800", "\0", "x\ny", "<<", "offline", [], {})
texts = st.text(st.characters(), max_size=5)
values = st.recursive(
    st.sampled_from(NASTY) | st.floats() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def containers(value: object) -> list:
    """Every mapping and list of a document that is not empty, the document itself first."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [container for part in inner for container in containers(part)]
    return [value, *found] if inner else found


@st.composite
def mutants(draw: st.DrawFn, document: object) -> object:
    """The document with a few of its parts deleted, replaced, doubled or renamed."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        choices = containers(document)
        if not choices:
            return draw(values)
        target = draw(st.sampled_from(choices))
        key = draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
        match draw(st.sampled_from(["delete", "replace", "double"])):
            case "delete":
                del target[key]
            case "replace":
                target[key] = draw(values)
            case "double" if isinstance(target, list):
                target.append(target[key])
            case "double":
                target[draw(texts)] = target[key]
    return document


@st.composite
def spoilt(draw: st.DrawFn, text: str) -> str:
    """The text, most often as it is, else cut off or with something put in."""
    how = draw(st.sampled_from(["whole", "whole", "cut", "put in"]))
    place = draw(st.integers(0, len(text)))
    added = draw(
        st.sampled_from(["\t", "{", "]", ":", "\n", "- ", "&a ", "*a", "!x ", '"', "\\ud800", "\0", "é", "---\n"])
    )
    return {"whole": text, "cut": text[:place], "put in": text[:place] + added + text[place:]}[how]


@st.composite
def documents(draw: st.DrawFn, document: object) -> tuple[str, str]:
    """A suffix, and a mutant of the document in that format."""
    mutant = draw(mutants(document))
    suffix = draw(st.sampled_from([".json", ".yaml", ".jsonl"]))
    if suffix == ".jsonl":
        requests = mutant.get("requests") if isinstance(mutant, dict) else mutant
        rows = requests if isinstance(requests, list) else [requests]
        return suffix, draw(spoilt("".join(f"{json.dumps(row)}\n" for row in rows)))
    if suffix == ".yaml" and draw(st.booleans()):
        whole = json.loads(re.sub(r"\\ud[89a-f]..", "?", json.dumps(mutant)))  # libyaml takes no half characters
        return suffix, draw(spoilt(yaml.dump(whole, Dumper=yaml.CSafeDumper)))
    return suffix, draw(spoilt(json.dumps(mutant, indent=draw(st.none() | st.just(1)))))


def file_of(folder: Path, name: str, document: tuple[str, str]) -> Path:
    path = folder / (name + document[0])
    path.write_bytes(document[1].encode("utf-8", "surrogatepass"))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


CONFIG_VALUE = yaml.safe_load(CONFIG)
REQUESTS_VALUE = {
    "requests": [
        request | {"input_data": {"prompt": "x"}, "tier": 2, "deadline": 30.5}
        for request in yaml.safe_load(REQUESTS)["requests"]
    ]
}


def valid(value: object) -> st.SearchStrategy[tuple[str, str]]:
    return st.just((".json", json.dumps(value)))


def outcome(call: Callable, *arguments: object, **options: object) -> object:
    """What a call returns, or the problems that it raises."""
    try:
        return call(*arguments, **options)
    except InputError as error:
        return error


def is_refused(found: object) -> bool:
    """Whether it is problems, each of a line."""
    if not isinstance(found, InputError):
        return False
    assert found.problems
    assert all(str(problem).isprintable() for problem in found.problems)
    return True


@given(documents(CONFIG_VALUE) | valid(CONFIG_VALUE), documents(REQUESTS_VALUE) | valid(REQUESTS_VALUE))
def test_a_workload_is_loaded_or_refused(folder, config, requests):
    paths = file_of(folder, "c", config), file_of(folder, "r", requests)
    workload = outcome(load_workload, *paths, details=True)
    if is_refused(workload):
        return
    assert isinstance(workload, Workload)
    for suffix in (".json", ".jsonl", ".yaml", ".parquet"):
        save_requests(workload, folder / f"copy{suffix}")
    log = outcome(simulate, workload, Cluster(8), mode="online")
    if is_refused(log):
        assert "GPUs, the cluster has 8" in str(log)
        return
    assert check(log, workload).valid
    write_log(log, folder / "log.json")


def assert_checked_or_refused(path: Path, workload: Workload) -> None:
    log = outcome(read_log, path)
    if is_refused(log):
        return
    for known in (None, workload):
        assert all(violation.message for violation in check(log, known).violations)


@pytest.fixture(scope="module")
def workload(folder) -> Workload:
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "requests.yaml").write_text(REQUESTS)
    return load_workload(folder / "config.yaml", folder / "requests.yaml")


LOG_VALUE = {"summary": SUMMARY, "executions": ROWS, "more": [1]}


@given(mutants(LOG_VALUE).flatmap(lambda value: spoilt(json.dumps(value))))
def test_a_json_log_is_checked_or_refused(folder, workload, text):
    path = folder / "log"
    path.write_text(text)
    assert_checked_or_refused(path, workload)


@given(mutants(ROWS), mutants({"summary": SUMMARY}), st.integers(-60, 0))
def test_a_parquet_log_is_checked_or_refused(folder, workload, rows, head, cut):
    assume(isinstance(rows, list))
    try:
        table = pa.Table.from_pylist([row for row in rows if isinstance(row, dict)])
        metadata = {b"gsched.summary": json.dumps(head).encode()}
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), buffer)
    except (pa.ArrowException, ValueError, OverflowError, TypeError, AttributeError):
        assume(False)  # no Parquet file can hold that
    path = folder / "log.parquet"
    path.write_bytes(buffer.getvalue()[: cut or None] if cut < -50 else buffer.getvalue())
    assert_checked_or_refused(path, workload)


COLUMN_TYPES = (pa.string(), pa.int32(), pa.uint64(), pa.float32(), pa.date32(), pa.bool_(), pa.null(), pa.binary())
COLUMN_TYPES += (pa.list_(pa.int64()), pa.large_list(pa.float64()), pa.list_(pa.int8(), 1), pa.struct({"b": pa.int8()}))
COLUMN_TYPES += (
    pa.dictionary(pa.int8(), pa.string()),
    pa.timestamp("us", "UTC"),
    pa.decimal128(5, 2),
    pa.large_string(),
)
COLUMN_TYPES += (pa.map_(pa.string(), pa.float32()), pa.map_(pa.int8(), pa.float64()), pa.map_(pa.string(), pa.int8()))


@st.composite
def parquet_tables(draw: st.DrawFn, columns: dict[str, pa.Array]) -> pa.Table:
    """Two rows, one or two columns of another type, missing, doubled or with empty cells."""
    names, arrays = list(columns), list(columns.values())
    for _ in range(draw(st.integers(1, 2))):
        i = draw(st.integers(0, len(names) - 1))
        kind = draw(st.sampled_from(COLUMN_TYPES))
        arrays[i] = draw(
            st.sampled_from([pa.nulls(2, kind), pa.concat_arrays([arrays[i][:1], pa.nulls(1, arrays[i].type)])])
            | st.sampled_from(VALUES[kind]).map(lambda value, kind=kind: pa.array([value, value], kind))
            if kind in VALUES
            else st.just(pa.nulls(2, kind))
        )
        names[i] = draw(st.just(names[i]) | st.sampled_from([*columns, "other"]))
    return pa.Table.from_arrays(arrays, names)


VALUES = {
    pa.string(): ["r0", "chain", "", "2024-01-01"],
    pa.int32(): [0, -1, 2**31 - 1],
    pa.uint64(): [0, 2**64 - 1],
    pa.float32(): [0.0, math.nan, -math.inf],
    pa.bool_(): [True],
    pa.binary(): [b"\xff"],
    pa.list_(pa.int64()): [[], [0], [None], [2**40]],
    pa.large_list(pa.float64()): [[0.5]],
    pa.dictionary(pa.int8(), pa.string()): ["chain", "r0"],
    pa.large_string(): ["chain", "r0"],
    pa.map_(pa.string(), pa.float32()): [[("b", 1.0)], [("b", None)], [("x", math.nan)], [("b", 1.0), ("b", 2.0)]],
}
REQUEST_COLUMNS = {
    "request_id": pa.array(["r0", "r1"]),
    "timestamp": pa.array([0, 1], pa.timestamp("ns")),
    "workflow_id": pa.array(["chain", "chain"]),
    "node_execution_times": pa.array([[("b", 2.5)], [("b", 2.5)]], pa.map_(pa.string(), pa.float64())),
    "metadata": pa.array(["{}", '{"a": 1}']),
}
LOG_COLUMNS = {name: pa.array([row[name] for row in ROWS]) for name in ROWS[0]}


@given(parquet_tables(REQUEST_COLUMNS))
def test_parquet_requests_are_loaded_or_refused(folder, workload, table):
    path = folder / "requests.parquet"
    pq.write_table(table, path)
    found = outcome(load_workload, folder / "config.yaml", path, details=True)
    if not is_refused(found):
        assert found.request_count == 2
        save_requests(found, folder / "copy.json")


@given(parquet_tables(LOG_COLUMNS))
def test_a_parquet_log_of_other_types_is_checked_or_refused(folder, workload, table):
    path = folder / "typed.parquet"
    pq.write_table(table, path)
    assert_checked_or_refused(path, workload)
