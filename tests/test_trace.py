"""Traces, read as the viewers read them, and tables of rows."""

import csv
import gzip
import itertools
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from small import tiny
from strategies import Case, cases
from test_cli import run
from test_golden import CONFIG, GOLDEN

from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.log import Gangs, Labels, Log
from gsched.log_files import read_log, write_log
from gsched.report.rows import write_rows
from gsched.report.trace import write_trace
from gsched.simulator import simulate
from gsched.workload import Workload

LOG = GOLDEN / "baseline_execution_log.json"
Event = dict[str, Any]


def traced(log: Log, path: Path, workload: Workload | None = None) -> tuple[list[Event], list[str]]:
    notes = write_trace(log, path, workload.config if workload else None)
    return json.loads(path.read_bytes())["traceEvents"], notes


def played(events: list[Event]) -> tuple[dict[Any, list[Event]], list[tuple[Event, Event]]]:
    """The slices of each track and the pairs of slices that arrows join, by the rules of Perfetto.

    Events are taken in the order of time, those of one time in the order of the file. An arrow's end belongs to the
    slice that began last on its track.
    """
    tracks: dict[Any, list[Event]] = defaultdict(list)
    leaving: dict[int, Event] = {}
    arrows = []
    for event in sorted((event for event in events if event["ph"] in "Xsf"), key=lambda event: event["ts"]):
        track = tracks[event["pid"], event["tid"]]
        if event["ph"] == "X":
            assert event["dur"] >= 0
            track.append(event)
            continue
        assert track[-1]["ts"] <= event["ts"] <= track[-1]["ts"] + track[-1]["dur"]
        if event["ph"] == "s":
            leaving[event["id"]] = track[-1]
        else:
            assert event["bp"] == "e"
            arrows.append((leaving.pop(event["id"]), track[-1]))
    assert not leaving
    return tracks, arrows


def named(events: list[Event], what: str) -> dict[tuple[int, int], str]:
    found = [event for event in events if event["ph"] == "M" and event["name"] == f"{what}_name"]
    return {(event["pid"], event["tid"]): event["args"]["name"] for event in found}


def who(slices: Event) -> tuple[str, str]:
    return slices["args"]["request"], slices["args"]["node"]


@settings(max_examples=60)
@given(cases())
def test_viewers_see_every_node_on_its_gpus_and_an_arrow_for_every_edge(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    workload, cluster, mode = case
    log = simulate(workload, cluster, mode=mode)
    events, notes = traced(log, tmp_path_factory.getbasetemp() / "trace.json", workload)
    assert notes == []
    assert all(isinstance(event[key], int) for event in events if event["ph"] != "M" for key in ("ts", "pid", "tid"))
    tracks, arrows = played(events)
    names, servers = named(events, "thread"), {pid: name for (pid, _), name in named(events, "process").items()}
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for place, slices in tracks.items():
        gpu = int(names[place].removeprefix("GPU "))
        assert servers[place[0]] == f"server {gpu // cluster.server_size}"
        for before, after in itertools.pairwise(slices):
            assert before["ts"] + before["dur"] <= after["ts"]
        for one in slices:
            if one["cat"] == "execution":
                seen[who(one)].add(str(gpu))
                assert seen[who(one)] <= set(one["args"]["GPUs"].split())
    gangs = zip(log.request_id.texts(), log.node_id.texts(), log.to_arrow()["gpu_ids"].to_pylist(), strict=True)
    assert seen == {(request, node): set(map(str, gpus)) for request, node, gpus in gangs}
    assert sorted((who(a), who(b)) for a, b in arrows) == expected_arrows(workload)
    assert {one["cat"] for arrow in arrows for one in arrow} <= {"execution"}


def expected_arrows(workload: Workload) -> list[Any]:
    found = []
    for request, flow in zip(workload.request_ids, workload.workflow.tolist(), strict=True):
        nodes = workload.workflows[flow].nodes
        found += [((request, nodes[a].id), (request, nodes[b].id)) for a, b in set(workload.workflows[flow].edges)]
    return sorted(found)


@settings(max_examples=30)
@given(cases())
def test_counters_tell_the_sums_of_the_log(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    workload, cluster, mode = case
    log = simulate(workload, cluster, mode=mode)
    events, _ = traced(log, tmp_path_factory.getbasetemp() / "trace.json", workload)
    sums, last = defaultdict(float), defaultdict(lambda: (0, 0))
    for event in events:
        if event["ph"] == "C":
            ((what, count),) = event["args"].items()
            assert count >= 0
            time, before = last[event["name"], what]
            assert event["ts"] > time or before == 0
            sums[event["name"], what] += before * (event["ts"] - time) / 1e6
            last[event["name"], what] = event["ts"], count
    assert all(count == 0 for _, count in last.values())
    size = log.gpu_ids.sizes
    near = {"rel": 1e-6, "abs": 1e-5 * len(log)}
    assert sums["busy GPUs", "executing"] == pytest.approx(float((size * log.execution_time).sum()), **near)
    assert sums["busy GPUs", "loading"] == pytest.approx(float((size * log.switch_time).sum()), **near)
    waiting = sum(value for (name, _), value in sums.items() if name.startswith("waiting "))
    assert waiting == pytest.approx(float(log.waiting_time.sum()), **near)


def test_loading_is_a_slice_before_the_execution(tmp_path: Path) -> None:
    workload = tiny({"a": 2, "b": 1}, "ab")
    events, _ = traced(simulate(workload, Cluster(2)), tmp_path / "trace.json", workload)
    tracks, ((leaves, reaches),) = played(events)
    both, alone = ([(one["name"], one["cat"], one["ts"], one["dur"]) for one in tracks[1, tid]] for tid in (1000, 1001))
    assert alone == [("load a", "loading", 0, 5_000_000), ("a", "execution", 5_000_000, 1_000_000)]
    assert both == [
        *alone,
        ("load b", "loading", 6_000_000, 4_000_000),
        ("b", "execution", 10_000_000, 1_000_000),
    ]
    told = {"request": "r0", "workflow": "w", "node": "n0", "model": "a", "GPUs": "0 1"}
    assert leaves["args"] == told | {"waited, s": 0.0, "estimated, s": 1.0}
    assert reaches["ts"] == 10_000_000


def bare(*rows: tuple[str, str, int, float, float]) -> Log:
    """A log of another tool: request, node, GPU, start and end, the model is the node's."""
    requests, nodes, gpus, starts, ends = zip(*rows, strict=True)
    times = (np.array(column) for column in (starts, ends))
    labels = Labels.of(nodes)
    return Log(Labels.of(requests), None, labels, labels, np.array(gpus, np.int32), *times)


def test_a_log_of_another_tool_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    log = bare(("r0", "a", 0, 0.0, 1.0), ("r0", "b", 1, 1.0, 3.0))
    events, notes = traced(log, tmp_path / "trace.json")
    tracks, arrows = played(events)
    assert [one["args"] for slices in tracks.values() for one in slices] == [
        {"request": "r0", "node": node, "model": node, "GPUs": gpu} for node, gpu in (("a", "0"), ("b", "1"))
    ]
    assert arrows == []
    assert named(events, "process") == {(1, 1): "server 0", (2, 2): "cluster"}
    assert [note.split(",")[0] for note in notes] == [
        "no --config is given",
        "the log has no gpu_ids",
        "the log has no ready_time",
    ]


def test_the_config_tells_the_gangs_that_a_log_lacks(tmp_path: Path) -> None:
    workload = tiny({"a": 3}, "a")
    log = replace(simulate(workload, Cluster(4)), gpu_ids=None)
    events, _ = traced(log, tmp_path / "trace.json", workload)
    assert sorted(named(events, "thread").values()) == ["GPU 0", "GPU 1", "GPU 2"]


def test_rows_at_the_same_time_on_a_gpu_are_all_seen(tmp_path: Path) -> None:
    log = bare(("r0", "a", 0, 0.0, 4.0), ("r1", "a", 0, 1.0, 2.0), ("r2", "a", 0, 2.0, 3.0), ("r3", "a", 0, 4.0, 5.0))
    events, _ = traced(log, tmp_path / "trace.json")
    tracks, names = played(events)[0], named(events, "thread")
    shown = {names[place]: [one["args"]["request"] for one in slices] for place, slices in tracks.items()}
    assert shown == {"GPU 0": ["r0", "r3"], "GPU 0, at the same time": ["r1", "r2"]}


@pytest.mark.parametrize(("end", "micros"), [(1.0000006, 1_000_001), (1e6 + 5e-4, 10**12 + 500)])
def test_what_rounding_lets_overlap_stays_on_one_track(tmp_path: Path, end: float, micros: int) -> None:
    log = bare(("r0", "a", 0, 0.0, end), ("r1", "a", 0, round(end), round(end) + 1.0))
    events, _ = traced(log, tmp_path / "trace.json")
    ((before, after),) = played(events)[0].values()
    assert before["ts"] + before["dur"] == after["ts"] == micros
    assert after["ts"] + after["dur"] == (round(end) + 1) * 10**6


def test_arrows_of_nodes_without_length_join_the_right_slices(tmp_path: Path) -> None:
    workload = tiny({"a": 1, "b": 1}, "ab", 2, duration=0.0)
    log = replace(simulate(workload, Cluster(1)), switch_time=np.zeros(4))
    for column in (log.start_time, log.end_time, log.ready_time):
        column[:] = 0.0
    _, arrows = played(traced(log, tmp_path / "trace.json", workload)[0])
    assert sorted((who(a), who(b)) for a, b in arrows) == expected_arrows(workload)


def test_no_arrow_leads_from_a_node_that_the_log_lacks(tmp_path: Path) -> None:
    workload = tiny({"a": 1, "b": 1}, "ab", 2)
    log = simulate(workload, Cluster(2))
    ids = zip(log.request_id.texts(), log.node_id.texts(), strict=True)
    kept = [row for row, one in enumerate(ids) if one != ("r0", "n0")]
    columns = {name: getattr(log, name)[kept] for name in ("gpu_id", "start_time", "end_time")}
    labels = {
        name: Labels.of([getattr(log, name).texts()[row] for row in kept])
        for name in ("request_id", "workflow_id", "node_id", "model_name")
    }
    events, _ = traced(Log(**labels, **columns), tmp_path / "trace.json", workload)
    assert [(who(a), who(b)) for a, b in played(events)[1]] == [(("r1", "n0"), ("r1", "n1"))]


def test_an_arrow_into_the_past_is_left_out_and_told(tmp_path: Path) -> None:
    workload = tiny({"a": 1, "b": 1}, "ab")
    log = simulate(workload, Cluster(2))
    log.end_time[0] = 90.0  # the child begins while its parent runs
    events, notes = traced(log, tmp_path / "trace.json", workload)
    assert len(played(events)[1]) == 1
    assert notes == []
    log.start_time[0] = 80.0  # the child has ended before its parent begins
    events, notes = traced(log, tmp_path / "trace.json", workload)
    assert played(events)[1] == []
    assert notes == ["1 arrows would lead into the past and are not shown"]


def test_interruptions_are_slices_on_their_gpus(tmp_path: Path) -> None:
    log = simulate(tiny({"a": 1}, "a"), Cluster(4, 2))
    attempt = {"request_id": "r1", "node_id": "n0", "model_name": "a", "row": 1}
    lost = [
        {"gpu_ids": [2, 3], "start_time": 1.0, "end_time": None, "reason": "server 1 does not answer"},
        {"gpu_ids": [1], "start_time": 0.5, "end_time": 2.0, "reason": "out of memory", **attempt},
    ]
    events, notes = traced(replace(log, extra={"interruptions": lost}), tmp_path / "trace.json")
    tracks, names = played(events)[0], named(events, "thread")
    shown = {names[place]: [(one["name"], one["ts"], one["dur"]) for one in slices] for place, slices in tracks.items()}
    assert shown["GPU 1"] == [("lost", 500_000, 1_500_000)]
    assert shown["GPU 2"] == shown["GPU 3"] == [("lost", 1_000_000, 5_000_000)]  # until the end of the log
    assert len(shown["GPU 0"]) == 2
    (one,) = tracks[1, 1001]
    assert one["args"] == {"reason": "out of memory", "request": "r1", "node": "n0", "model": "a"}
    busy = [event for event in events if event["name"] == "busy GPUs" and "executing" in event["args"]]
    assert max(event["args"]["executing"] for event in busy) == 1
    bad = [{"gpu_ids": [1], "start_time": 2.0, "end_time": 1.0, "reason": "lost"}, lost[1]]
    events, notes = traced(replace(log, extra={"interruptions": bad}), tmp_path / "trace.json")
    assert any("interruptions of the log make no sense" in note for note in notes)
    assert sum(event["name"] == "lost" for event in events) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("r1", "a", 0, float("nan"), 1.0), "start_time is no time up to 9e\\+09 s"),
        (("r1", "a", 0, 0.0, float("inf")), "end_time is no time"),
        (("r1", "a", 0, 0.0, 1e12), "end_time is no time"),
        (("r1", "a", 0, 2.0, 1.0), "it ends before it starts"),
        (("r1", "a", -1, 0.0, 1.0), "its GPUs are not from 0 to"),
    ],
)
def test_a_row_that_cannot_be_drawn_is_named(tmp_path: Path, row: Any, reason: str) -> None:
    with pytest.raises(InputError, match=f"log: row 1: cannot be drawn: {reason}"):
        traced(bare(("r0", "a", 0, 0.0, 1.0), row), tmp_path / "trace.json")
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_gpus_is_named(tmp_path: Path) -> None:
    log = bare(("r0", "a", 0, 0.0, 1.0))
    with pytest.raises(InputError, match="row 0: cannot be drawn: it has no GPUs"):
        traced(replace(log, gpu_ids=Gangs(np.array([0, 0]), np.zeros(0, np.int32))), tmp_path / "trace.json")


def test_an_empty_log_makes_an_empty_trace(tmp_path: Path) -> None:
    texts, none = Labels(np.zeros(0, np.int32), []), np.zeros(0)
    events, _ = traced(Log(texts, texts, texts, texts, np.zeros(0, np.int32), none, none), tmp_path / "trace.json")
    assert {event["ph"] for event in events} == {"M"}


# -- the command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_trace_is_the_same_bytes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trace", str(LOG), "--config", str(CONFIG), "--output"]
    assert run(*words, "trace.json") == 0
    assert (here / "trace.json").read_text() == (GOLDEN / "trace.json").read_text()
    assert run(*words, "trace.json.gz", "--quiet") == 0
    packed = (here / "trace.json.gz").read_bytes()
    assert gzip.decompress(packed) == (here / "trace.json").read_bytes()
    assert run(*words, "again.json.gz") == 0
    assert (here / "again.json.gz").read_bytes() == packed
    assert packed[4:8] == bytes(4)  # no date
    rows = len(read_log(LOG))
    said = capsys.readouterr()
    assert said.out == f"{rows} rows written to trace.json\n{rows} rows written to again.json.gz\n"
    assert said.err == ""


def test_without_a_config_the_missing_arrows_are_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", str(LOG), "--output", "trace.json") == 0
    said = capsys.readouterr().err
    assert said == "note: no --config is given, so there are no arrows along the edges of workflows\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--output", "trace.txt"], "trace.txt: has a suffix of no known format; use one of .json, .json.gz, .csv"),
        (["--output", "x.json", "--config", str(CONFIG.with_name("support.json"))], "has none of the log's workflows"),
        (["--output", str(LOG)], "is the log itself"),
        (["--output", "/proc/trace.json"], "cannot be written"),
    ],
)
def test_what_cannot_be_traced_is_one_line(
    here: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("trace", str(LOG), *words) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert list(here.iterdir()) == []


# -- tables


def test_tables_hold_the_rows(here: Path) -> None:
    expected = read_log(LOG).to_pandas()
    for name in ("rows.parquet", "rows.arrow", "rows.feather", "rows.csv"):
        assert run("trace", str(LOG), "--output", name, "--quiet") == 0
    frames = [pd.read_parquet("rows.parquet"), pd.read_feather("rows.arrow"), pd.read_feather("rows.feather")]
    flat = pd.read_csv("rows.csv")
    flat["gpu_ids"] = [[int(gpu) for gpu in str(text).split()] for text in flat["gpu_ids"]]
    for frame in (*frames, flat):
        assert list(frame.columns) == list(expected.columns)
        for name in frame.columns:
            assert list(map(plain, frame[name])) == list(map(plain, expected[name]))
    assert read_log(here / "rows.parquet").summary == read_log(LOG).summary
    assert b"makespan" in pa.ipc.open_file("rows.arrow").schema.metadata[b"gsched.summary"]


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, np.ndarray) else value


def test_a_table_has_no_columns_that_the_log_lacks_and_any_text(tmp_path: Path) -> None:
    write_rows(bare(('a "quoted", text\nof two lines', "a", 7, 0.1, 1.0)), tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        head, row = csv.reader(file)
    assert head == ["request_id", "node_id", "model_name", "gpu_id", "start_time", "end_time"]
    assert row == ['a "quoted", text\nof two lines', "a", "a", "7", "0.1", "1"]


def test_a_parquet_log_is_traced_too(here: Path) -> None:
    write_log(read_log(LOG), here / "log.parquet")
    assert run("trace", "log.parquet", "--config", str(CONFIG), "--output", "trace.json", "--quiet") == 0
    assert (here / "trace.json").read_text() == (GOLDEN / "trace.json").read_text()


if __name__ == "__main__":
    run("trace", str(LOG), "--config", str(CONFIG), "--output", str(GOLDEN / "trace.json"))
