import importlib.util
import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken_logs import ROWS, SUMMARY
from hypothesis import given
from hypothesis import strategies as st
from strategies import cases

from gsched.checker import check
from gsched.errors import InputError
from gsched.files import read_bytes, whole_file
from gsched.log import Gangs, Labels, Log
from gsched.log_files import read_log, write_log
from gsched.simulator import simulate

COLUMNS = [field.name for field in fields(Log) if field.name not in ("summary", "extra")]
OPTIONAL = [field.name for field in fields(Log) if field.default is None] + ["workflow_id"]
NASTY = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("logs")


def content(log: Log) -> dict[str, object]:
    """The columns of a log in a form that compares bit by bit."""
    found: dict[str, object] = {}
    for name in COLUMNS:
        column = getattr(log, name)
        if isinstance(column, Labels):
            found[name] = column.texts()
        elif isinstance(column, Gangs):
            found[name] = (column.first.tolist(), column.gpus.tolist())
        else:
            found[name] = None if column is None else (str(column.dtype), column.tobytes())
    return found


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Logs with odd floats, odd names and gangs of any size, or without rows; some without optional columns."""
    rows = draw(st.integers(0, 4))
    columns: dict[str, object] = {}
    for name in COLUMNS:
        if name in ("request_id", "workflow_id", "node_id", "model_name"):
            columns[name] = Labels.of(draw(st.lists(NASTY, min_size=rows, max_size=rows)))
        elif name == "gpu_ids":
            sizes = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
            gpus = draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=sum(sizes), max_size=sum(sizes)))
            columns[name] = Gangs(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), np.array(gpus, np.int32))
        elif name == "gpu_id":
            columns[name] = np.array(draw(st.lists(st.integers(0, 9), min_size=rows, max_size=rows)), np.int32)
        else:
            finite = st.floats(allow_nan=False, allow_infinity=False)
            columns[name] = np.array(draw(st.lists(finite, min_size=rows, max_size=rows)), np.float64)
    if rows:
        columns |= dict.fromkeys(draw(st.sets(st.sampled_from(OPTIONAL))))
    scalars = (
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    )
    parts = st.dictionaries(NASTY, scalars | NASTY | st.lists(scalars, max_size=2), max_size=3)
    extra = draw(st.dictionaries(NASTY.filter(lambda name: name not in ("summary", "executions")), parts, max_size=2))
    return Log(**columns, summary=draw(parts), extra=extra)


@pytest.mark.parametrize("suffix", ["json", "parquet"])
@given(logs())
def test_what_is_written_is_read_bit_by_bit(folder, suffix, log):
    path = folder / f"log.{suffix}"
    write_log(log, path)
    found = read_log(path)
    assert content(found) == content(log)
    assert found.summary == log.summary
    assert found.extra == log.extra


@pytest.mark.parametrize("suffix", ["json", "parquet"])
@given(cases())
def test_a_run_is_read_as_it_was_written(folder, suffix, case):
    log = simulate(case.workload, case.cluster, mode=case.mode)
    path = folder / f"run.{suffix}"
    write_log(log, path)
    found = read_log(path)
    assert content(found) == content(log)
    assert found.summary == log.summary
    assert found.cluster == case.cluster
    assert check(found, case.workload).valid


def test_json_is_standard_and_holds_a_row_a_line(folder, tmp_path):
    log = _log()
    write_log(log, tmp_path / "log.json")
    text = (tmp_path / "log.json").read_text()
    document = json.loads(text)
    assert list(document) == ["summary", "gpu_assignments", "executions"]
    assert list(document["executions"][0]) == [*ROWS[0]]
    assert document["executions"] == ROWS
    assert sum('"request_id"' in line for line in text.splitlines()) == len(ROWS)
    assert text.endswith("}\n")


def _log() -> Log:
    columns = {name: [row[name] for row in ROWS] for name in COLUMNS}
    for name in ("request_id", "workflow_id", "node_id", "model_name"):
        columns[name] = Labels.of(columns[name])
    columns["gpu_ids"] = Gangs(np.arange(3), np.array([0, 1], np.int32))
    columns["gpu_id"] = np.array(columns["gpu_id"], np.int32)
    times = {name: np.array(column, np.float64) for name, column in columns.items() if name.endswith("_time")}
    return Log(**(columns | times), summary=SUMMARY, extra={"gpu_assignments": {"0": ["llm"]}})


def test_a_suffix_decides_what_is_written_and_the_content_what_is_read(tmp_path):
    write_log(_log(), tmp_path / "a.parquet")
    write_log(_log(), tmp_path / "b.json")
    (tmp_path / "a.parquet").rename(tmp_path / "a.json")
    (tmp_path / "b.json").rename(tmp_path / "b.parquet")
    assert content(read_log(tmp_path / "a.json")) == content(read_log(tmp_path / "b.parquet")) == content(_log())


def test_arrow_holds_the_rows():
    table = _log().to_arrow()
    assert table.column_names == [*ROWS[0]]
    assert table.to_pylist() == ROWS
    assert json.loads(table.schema.metadata[b"gsched.summary"])["summary"] == SUMMARY


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_pandas_holds_the_rows():
    frame = _log().to_pandas()
    assert list(frame.columns) == [*ROWS[0]]
    assert frame["end_time"].tolist() == [5.5, 4.5]


# Logs of others


def test_a_log_of_another_tool_may_lack_what_is_optional(tmp_path):
    needed = [{name: value for name, value in row.items() if name not in OPTIONAL} for row in ROWS]
    (tmp_path / "log.json").write_text(json.dumps({"summary": {}, "executions": needed, "note": "theirs"}))
    pq.write_table(pa.Table.from_pylist(needed), tmp_path / "log.parquet")
    for name in ("log.json", "log.parquet"):
        log = read_log(tmp_path / name)
        assert all(getattr(log, column) is None for column in OPTIONAL)
        assert log.end_time.tolist() == [5.5, 4.5]
        assert log.cluster is None
    assert read_log(tmp_path / "log.json").extra == {"note": "theirs"}


def test_null_in_all_rows_is_as_good_as_missing(tmp_path):
    rows = [row | {"switch_time": None, "gpu_ids": None} for row in ROWS]
    (tmp_path / "log.json").write_text(json.dumps({"summary": {}, "executions": rows}))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    for name in ("log.json", "log.parquet"):
        log = read_log(tmp_path / name)
        assert log.switch_time is None
        assert log.gpu_ids is None
        assert log.ready_time is not None


def test_integers_and_other_widths_may_stand_for_times_and_gpus(tmp_path):
    table = pa.table(
        {
            **{name: pa.array(["a", "b"], pa.large_string()) for name in ("request_id", "node_id", "model_name")},
            "gpu_id": pa.array([0, 1], pa.uint64()),
            "gpu_ids": pa.array([[0], [1]], pa.large_list(pa.int8())),
            "start_time": pa.array([0, 2**53 + 1], pa.int64()),
            "end_time": pa.array([1.5, 2.5], pa.float32()),
            "more": pa.array([None, None]),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=1)
    log = read_log(tmp_path / "log.parquet")
    assert log.gpu_ids.gpus.tolist() == [0, 1]
    assert log.start_time.tolist() == [0.0, 2.0**53]
    assert log.end_time.tolist() == [1.5, 2.5]


def test_json_of_python_may_hold_nan(tmp_path):
    rows = [ROWS[0] | {"end_time": math.nan}, ROWS[1] | {"end_time": math.inf}]
    (tmp_path / "log.json").write_text(json.dumps({"summary": SUMMARY, "executions": rows, "note": math.nan}))
    log = read_log(tmp_path / "log.json")
    assert [str(end) for end in log.end_time] == ["nan", "inf"]
    assert list(log.extra) == ["note"]


# Whole files


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "log.json"
    write_log(_log(), path)
    before = path.read_bytes()
    broken = replace(_log(), summary={"makespan": math.nan})  # no JSON
    with pytest.raises(ValueError, match="Out of range"):
        write_log(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (ValueError("no"), ValueError),
        (OSError(28, "No space left on device"), InputError),
        (OSError("no errno"), InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failing_block_leaves_nothing(failure, raised, tmp_path):
    def fail() -> None:
        with whole_file(tmp_path / "f") as file:
            file.write(b"half")
            raise failure

    with pytest.raises(raised) as caught:
        fail()
    assert not list(tmp_path.iterdir())
    if raised is InputError:
        why = failure.strerror or str(failure)
        assert str(caught.value) == f"{tmp_path}/f: cannot be written ({why}); choose another place"


def test_a_file_is_written_where_there_was_no_folder_with_usual_permissions(tmp_path):
    path = tmp_path / "a" / "b" / "f"
    with whole_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert read_bytes(path) == b"whole"
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_in_the_place_of_a_file_is_an_error(tmp_path):
    (tmp_path / "log.json").mkdir()
    with pytest.raises(InputError, match=r"cannot be written \(Is a directory\)"):
        write_log(_log(), tmp_path / "log.json")
    assert [path.name for path in tmp_path.iterdir()] == ["log.json"]
