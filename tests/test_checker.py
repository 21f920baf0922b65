import ast
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import simulate_slowly
from strategies import SECOND, Case, cases

import gsched.checker
from gsched.checker import check
from gsched.cluster import Cluster
from gsched.log import Gangs, Labels, Log
from gsched.workload import Config, Model, Node, Workflow, Workload

TEXTS = ("request_id", "workflow_id", "node_id", "model_name")
TIMES = ("start_time", "end_time", "execution_time", "estimated_time", "switch_time", "ready_time", "waiting_time")


def rules(report) -> set[str]:
    return {violation.rule for violation in report.violations}


def at(log: Log, rows: list[int]) -> Log:
    """The log with these rows only, in this order."""
    columns = {name: Labels(getattr(log, name).codes[rows], getattr(log, name).values) for name in TEXTS}
    columns |= {name: getattr(log, name)[rows] for name in (*TIMES, "gpu_id")}
    return with_gangs(replace(log, **columns, gpu_ids=None), [gang(log, row) for row in rows])


def gang(log: Log, row: int) -> list[int]:
    return log.gpu_ids.gpus[log.gpu_ids.first[row] : log.gpu_ids.first[row + 1]].tolist()


def with_gangs(log: Log, gangs: list[list[int]]) -> Log:
    first = np.concatenate([[0], np.cumsum([len(g) for g in gangs], dtype=np.int64)])
    return replace(log, gpu_ids=Gangs(first, np.array([gpu for g in gangs for gpu in g], np.int32)))


def changed(log: Log, row: int, **values) -> Log:
    """The log with some values of one row replaced."""
    for name, value in values.items():
        if name == "gpu_ids":
            log = with_gangs(log, [value if i == row else gang(log, i) for i in range(len(log))])
        elif name in TEXTS:
            texts = getattr(log, name).texts()
            log = replace(log, **{name: Labels.of([*texts[:row], value, *texts[row + 1 :]])})
        else:
            column = getattr(log, name).copy()
            column[row] = value
            log = replace(log, **{name: column})
    return log


def moved(log: Log, row: int, begin: float, ready: float | None = None) -> Log:
    """The log with one row at another time, its own columns consistent."""
    ready = log.ready_time[row] if ready is None else ready
    start = begin + log.switch_time[row]
    return changed(
        log,
        row,
        start_time=start,
        end_time=start + log.execution_time[row],
        ready_time=ready,
        waiting_time=begin - ready,
    )


# Schedules of the reference engine


@settings(max_examples=200)
@given(cases())
def test_every_schedule_of_the_reference_engine_is_valid(case: Case):
    log = simulate_slowly(*case)
    for report in (check(log, case.workload), check(log, *case)):
        assert report.violations == ()
        assert report.unchecked == ()


@given(cases())
def test_alone_a_valid_log_shows_no_violation(case: Case):
    report = check(simulate_slowly(*case))
    assert report.valid
    assert any("no workload was given" in sentence for sentence in report.unchecked)


@given(cases(), st.randoms())
def test_the_order_of_rows_does_not_matter(case: Case, random):
    log = simulate_slowly(*case)
    assume(np.all(log.end_time - log.start_time + log.switch_time > 0.01))  # else ties leave the order open
    rows = list(range(len(log)))
    random.shuffle(rows)
    assert check(at(log, rows), case.workload).valid


@st.composite
def logs(draw: st.DrawFn) -> tuple[Log, Workload, int]:
    """A valid log, its workload and one of its rows."""
    case = draw(cases(max_requests=5))
    log = simulate_slowly(*case)
    return log, case.workload, draw(st.integers(0, len(log) - 1))


@given(logs())
def test_a_dropped_row_is_missing(problem):
    log, workload, row = problem
    found = rules(check(at(log, [i for i in range(len(log)) if i != row]), workload))
    assert {"missing", "summary"} <= found
    assert "doubled" not in found


@given(logs())
def test_a_doubled_row_is_found_with_and_without_the_workload(problem):
    log, workload, row = problem
    twice = at(log, [*range(len(log)), row])
    for report in (check(twice, workload), check(twice)):
        (doubled,) = [violation for violation in report.violations if violation.rule == "doubled"]
        assert doubled.rows == (len(log),)


@given(logs())
def test_an_unknown_node_or_request_is_found(problem):
    log, workload, row = problem
    for column in ("node_id", "request_id"):
        assert {"unknown", "missing"} <= rules(check(changed(log, row, **{column: "nobody"}), workload))


@given(logs(), st.sampled_from([-3.0, -0.25, 0.25, 100.0]))
def test_an_altered_column_is_found(problem, shift):
    log, workload, row = problem
    for column in ("execution_time", "estimated_time", "switch_time", "ready_time", "waiting_time"):
        altered = changed(log, row, **{column: getattr(log, column)[row] + shift})
        assert column in rules(check(altered, workload))


@given(logs(), st.sampled_from([-0.25, 0.25, 100.0]))
def test_a_row_shifted_in_time_is_found(problem, shift):
    log, workload, row = problem
    shifted = changed(log, row, start_time=log.start_time[row] + shift, end_time=log.end_time[row] + shift)
    assert "waiting_time" in rules(check(shifted, workload))


@given(logs())
def test_another_duration_is_found(problem):
    log, workload, row = problem
    longer = changed(log, row, end_time=log.end_time[row] + 1, execution_time=log.execution_time[row] + 1)
    assert "duration" in rules(check(longer, workload))


@given(logs(), st.sampled_from([math.nan, math.inf, -math.inf, -1.0]), st.sampled_from(TIMES))
def test_a_time_that_is_no_time_is_found(problem, value, column):
    log, workload, row = problem
    assert "times" in rules(check(changed(log, row, **{column: value}), workload))


@given(logs())
def test_a_row_before_it_is_ready_is_found(problem):
    log, workload, row = problem
    ready = float(log.ready_time[row])
    assert "loading" in rules(check(moved(log, row, ready - 0.5), workload))
    honest = rules(check(moved(log, row, ready - 0.5, ready - 0.5), workload))
    assert honest & {"arrival", "precedence"}
    assert "ready_time" in honest


@given(logs())
def test_another_model_or_workflow_is_found(problem):
    log, workload, row = problem
    for name in ("nobody", *workload.config.models):
        if name != log.model_name.texts()[row]:
            assert "model" in rules(check(changed(log, row, model_name=name), workload))
    for name in ("nobody", *workload.config.workflows):
        if name != log.workflow_id.texts()[row]:
            assert "workflow" in rules(check(changed(log, row, workflow_id=name), workload))


@given(logs())
def test_a_broken_gang_is_found(problem):
    log, workload, row = problem
    gpus, last = gang(log, row), log.cluster.gpus - 1
    assert {"gang", "gang_size"} <= rules(check(changed(log, row, gpu_ids=[]), workload))
    assert "gang_size" in rules(check(changed(log, row, gpu_ids=[*gpus, gpus[-1] + 1]), workload))
    assert "gang" in rules(check(changed(log, row, gpu_id=gpus[0] + 1), workload))
    assert "gang" in rules(check(changed(log, row, gpu_ids=[*gpus[:-1], gpus[-1] + 1]), workload))
    if len(gpus) > 1:
        assert "gang" in rules(check(changed(log, row, gpu_ids=gpus[::-1]), workload))
    outside = [gpu - gpus[0] + last + 1 for gpu in gpus]
    assert "gpus" in rules(check(changed(log, row, gpu_id=last + 1, gpu_ids=outside), workload))
    assert "gpus" in rules(check(changed(log, row, gpu_id=-1), workload))


@settings(max_examples=20)
@given(logs())
def test_every_altered_total_is_found(problem):
    log, workload, _ = problem
    figures = [name for name, value in log.summary.items() if "time" in name or "total" in name or name == "makespan"]
    assert len(figures) == 18
    for name in (*figures, "completed_requests"):
        for wrong in (log.summary[name] + 0.5, log.summary[name] - 1, math.nan, "many", True):
            report = check(replace(log, summary=log.summary | {name: wrong}), workload)
            assert [v.rule for v in report.violations] == ["summary"]
            assert report.violations[0].message.startswith(f"{name} is ")


@given(cases(max_requests=3))
def test_a_summary_of_another_cluster_or_mode_is_found(case: Case):
    log = simulate_slowly(*case)
    other = {
        "mode": "offline" if case.mode == "online" else "online",
        "gpus": list(range(case.cluster.gpus + 1)),
        "gpus_per_server": 77,
        "gpu_memory_gb": 0.77,
        "pcie_bandwidth": 5.0,
        "switch_overhead": 1.0,
    }
    for name, value in other.items():
        report = check(replace(log, summary=log.summary | {name: value}), *case)
        assert any(v.rule == "summary" and v.message.startswith(f"{name} is ") for v in report.violations)


# A schedule worked out by hand: two servers of two GPUs; model `big` takes both GPUs of one

CLUSTER = Cluster(4, gpus_per_server=2, pcie_bandwidth=16.0, switch_overhead=2.0)
CONFIG = Config(
    {"small": Model("small", 16.0, 1, load_time_seconds=1.0), "big": Model("big", 32.0, 2)},
    {"flow": Workflow("flow", (Node("a", "small"), Node("b", "big")), ((0, 1),))},
)
WORKLOAD = Workload(
    CONFIG,
    ["r0", "r1"],
    np.array([0, 0], np.int32),
    np.array([1 * SECOND, 0], np.int64),
    np.array([3.0, 5.0, 2.0, 5.0]),
)
# request, node, gang, ready, loading, start, end
HAND = [
    ("r0", "a", [0], 0.0, 1.0, 1.0, 4.0),
    ("r1", "a", [1], 0.0, 1.0, 1.0, 3.0),
    ("r1", "b", [2, 3], 3.0, 4.0, 7.0, 12.0),  # 32 GB / 16 GB/s + 2 s
    ("r0", "b", [0, 1], 4.0, 5.0, 9.0, 14.0),  # (16 + 32) GB / 16 GB/s + 2 s
]
SUMMARY = {
    "mode": "offline",
    "gpus": [0, 1, 2, 3],
    "gpus_per_server": 2,
    "total_requests": 2,
    "completed_requests": 2,
    "total_nodes_executed": 4,
    "makespan": 14.0,
    "lower_bound": 10.0,
    "gap_percent": 40.0,
    "mean_latency_lower_bound": 6.5,
    "mean_latency_gap_percent": 100.0,
    "total_model_switches": 1,
    "total_model_loads": 3,
    "total_switch_time": 11.0,
    "average_request_time": 13.0,
    "p90_request_time": 13.8,
    "max_waiting_time": 0,
}


def hand(*rows, summary=SUMMARY) -> Log:
    rows = rows or HAND
    ready, switch, start, end = (np.array([row[i] for row in rows]) for i in range(3, 7))
    log = Log(
        request_id=Labels.of([row[0] for row in rows]),
        workflow_id=Labels.of(["flow" for row in rows]),
        node_id=Labels.of([row[1] for row in rows]),
        model_name=Labels.of(["small" if row[1] == "a" else "big" for row in rows]),
        gpu_id=np.array([row[2][0] for row in rows], np.int32),
        start_time=start,
        end_time=end,
        execution_time=end - start,
        estimated_time=end - start,
        switch_time=switch,
        ready_time=ready,
        waiting_time=start - switch - ready,
        summary=summary,
    )
    return with_gangs(log, [row[2] for row in rows])


def bare(*rows) -> Log:
    return hand(*rows, summary={"mode": "offline"})


def test_the_schedule_worked_out_by_hand_is_valid():
    report = check(hand(), WORKLOAD)
    assert report == check(simulate_slowly(WORKLOAD, CLUSTER, "offline"), WORKLOAD)
    assert report.violations == report.unchecked == ()


def test_messages_are_printable_and_on_one_line():
    nasty = changed(changed(hand(), 0, request_id="a\nb\x1b[2J"), 1, model_name="c\rd")
    messages = [v.message for v in check(nasty, WORKLOAD, CLUSTER).violations]
    assert all(message.isprintable() for message in messages)
    assert any(r"a\nb\x1b[2J" in message for message in messages)
    assert any(r"c\rd, not small" in message for message in messages)


def test_messages_name_the_place():
    early = ("r0", "b", [0, 1], 3.5, 5.0, 8.5, 13.5)
    messages = {v.rule: v for v in check(bare(*HAND[:3], early), WORKLOAD, CLUSTER).violations}
    assert messages.keys() == {"overlap", "precedence", "ready_time"}
    assert messages["precedence"].rows == (3,)
    assert messages["precedence"].message == (
        "loads or starts before a parent ends: row 3 (request r0, node b): from 3.5, request r0, node a ends at 4.0"
    )
    assert messages["overlap"].message == (
        "occupies a GPU that another row occupies: row 3 (request r0, node b): "
        "GPU 0 from 3.5 to 13.5, row 0 (request r0, node a) has it from 0.0 to 4.0"
    )


def test_a_gap_and_a_bound_that_the_rows_contradict_are_found():
    for name, value in {"lower_bound": 14.5, "gap_percent": 39.0, "mean_latency_lower_bound": 13.1}.items():
        assert rules(check(hand(summary=SUMMARY | {name: value}), WORKLOAD)) == {"bound"}
    assert rules(check(hand(summary=SUMMARY | {"lower_bound": "low"}), WORKLOAD)) == {"bound"}
    assert rules(check(hand(summary=SUMMARY | {"mean_latency_gap_percent": 1.0}), WORKLOAD)) == {"bound"}


def test_a_row_on_a_gpu_in_use_is_found():
    assert rules(check(bare(HAND[0], ("r1", "a", [0], 0.0, 1.0, 1.0, 3.0)), None, CLUSTER)) == {"overlap", "warm"}


def test_a_gang_is_watched_beyond_its_first_gpu():
    busy = ("r1", "a", [3], 0.0, 1.0, 1.0, 3.5)
    report = check(bare(HAND[0], busy, HAND[2]), None, CLUSTER)
    assert rules(report) == {"overlap"}
    assert "GPU 3 from 3.0 to 12.0" in report.violations[0].message


def test_a_gang_across_servers_is_found():
    crossing = ("r1", "b", [1, 2], 3.0, 5.0, 8.0, 13.0)
    rest = (*HAND[:2], crossing)
    assert "server" in rules(check(bare(*rest), WORKLOAD, CLUSTER))
    assert "server" not in rules(check(bare(*rest), WORKLOAD, Cluster(4)))
    assert "server" in rules(check(bare(("r1", "b", [1, 2, 3], 3.0, 4.0, 7.0, 12.0)), None, CLUSTER))
    assert "server" not in rules(check(bare(("r1", "b", [0, 1, 2], 3.0, 4.0, 7.0, 12.0)), None, CLUSTER))


def test_the_last_server_may_be_partial():
    small, large = ("r1", "b", [4], 3.0, 4.0, 7.0, 12.0), ("r1", "b", [3, 4], 3.0, 4.0, 7.0, 12.0)
    assert check(bare(small), None, Cluster(5, gpus_per_server=3)).valid
    assert check(bare(large), None, Cluster(5, gpus_per_server=3)).valid
    assert not check(bare(large), None, Cluster(5, gpus_per_server=4)).valid


def test_loading_is_replayed_from_the_labels_of_all_gpus():
    """On GPUs 0 and 1 the second gang finds `small` and nothing: it waits for the slower, and that is a switch."""
    rows = [HAND[0], ("r0", "b", [0, 1], 4.0, 5.0, 9.0, 14.0)]
    summary = {"mode": "offline", "total_model_switches": 1, "total_model_loads": 1}
    assert "switch_time" not in rules(check(hand(*rows, summary=summary), WORKLOAD, CLUSTER))
    assert "summary" not in rules(check(hand(*rows, summary=summary), WORKLOAD, CLUSTER))
    cold = [HAND[0], ("r0", "b", [0, 1], 4.0, 4.0, 8.0, 13.0)]
    assert "switch_time" in rules(check(bare(*cold), WORKLOAD, CLUSTER))


def test_the_same_model_on_another_gang_is_loaded_again():
    config = Config({"big": Model("big", 32.0, 2)}, {"flow": Workflow("flow", (Node("b", "big"),))})
    workload = Workload(config, ["r0", "r1"], *(np.zeros(2, t) for t in (np.int32, np.int64)), np.array([1.0, 1.0]))
    rows = [("r0", "b", [0, 1], 0.0, 4.0, 4.0, 5.0), ("r1", "b", [1, 2], 0.0, 6.0, 11.0, 12.0)]
    assert check(bare(*rows), workload, Cluster(3)).valid
    again = [rows[0], ("r1", "b", [0, 1], 0.0, 0.0, 5.0, 6.0)]
    assert check(bare(*again), workload, Cluster(3)).valid
    assert rules(check(bare(rows[0], ("r1", "b", [0, 1], 0.0, 6.0, 11.0, 12.0)), workload, Cluster(3))) == {
        "switch_time",
        "warm",
    }


def test_online_nothing_starts_before_the_arrival():
    assert rules(check(hand(), WORKLOAD, CLUSTER, "online")) >= {"arrival", "ready_time", "summary"}
    late = moved(hand(), 0, 1.0, 1.0)
    late = replace(moved(late, 3, 5.0, 5.0), summary={"mode": "online"})
    assert check(late, WORKLOAD, CLUSTER).valid


def test_swapped_rows_are_found():
    swapped = bare(*HAND[:2], ("r1", "b", [2, 3], 3.0, 5.0, 9.0, 14.0), ("r0", "b", [0, 1], 4.0, 4.0, 7.0, 12.0))
    assert "switch_time" in rules(check(swapped, WORKLOAD, CLUSTER))


def test_moments_tied_with_their_neighbours_do_not_overlap():
    third, ulp = 0.1 + 0.2, 0.3  # 0.30000000000000004 and 0.3
    rows = [
        ("r0", "a", [0], 0.0, 0.0, 0.0, third),
        ("r1", "a", [0], 0.0, 0.0, ulp, ulp),
        ("r2", "a", [0], 0.0, 0.0, ulp, third),
        ("r3", "a", [0], 0.0, 0.0, ulp, 1.0),
    ]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [3, 0, 2, 1]):
        assert check(bare(*(rows[i] for i in order)), None, Cluster(1)).valid


def test_moments_tied_with_each_other_are_in_the_order_of_rows():
    ends = [("a", 0.1 + 0.2), ("b", 0.3), ("b", 0.1 + 0.2)]  # by these ends alone, `b` would be loaded twice
    rows = [(f"r{i}", node, [0], 0.0, 0.0, end, end) for i, (node, end) in enumerate(ends)]
    summary = {"total_model_switches": 1, "total_model_loads": 1}
    assert check(hand(*rows, summary=summary), None, Cluster(1)).valid


def test_a_moment_inside_an_occupation_overlaps():
    whole = ("r0", "a", [0], 0.0, 0.0, 0.0, 10.0)
    for moment in (0.1, 5.0, 9.9):
        point = ("r1", "a", [0], 0.0, 0.0, moment, moment)
        assert rules(check(bare(whole, point), None, Cluster(1))) == {"overlap"}
        assert rules(check(bare(point, whole), None, Cluster(1))) == {"overlap"}


def test_times_may_be_off_by_the_tolerance_only():
    broken = {"times", "loading", "precedence", "overlap", "switch_time"}
    for error, expected in ((5e-7, set()), (2e-6, broken)):
        altered = changed(bare(*HAND), 3, switch_time=5.0 + error, waiting_time=-error)
        assert rules(check(altered, WORKLOAD, CLUSTER)) == expected


def test_the_tolerance_grows_with_the_time():
    late = [("r0", "a", [0], 0.0, 1.0, 1.0, 1e6), ("r1", "a", [0], 0.0, 0.0, 1e6 - 5e-4, 2e6)]
    assert check(bare(*late), None, CLUSTER).valid
    later = ("r1", "a", [0], 0.0, 0.0, 1e6 - 5e-3, 2e6)
    assert rules(check(bare(late[0], later), None, CLUSTER)) == {"overlap"}


def test_an_end_before_the_start_or_loading_before_time_0_is_found():
    for row, place in (
        (("r0", "a", [0], 0.0, 0.0, 2.0, 1.0), "ends before it starts: row 0 (request r0, node a): 2.0 to 1.0"),
        (("r0", "a", [0], 0.0, 3.0, 1.0, 2.0), "begins to load before time 0: row 0 (request r0, node a): at -2.0"),
    ):
        found = check(bare(row), None, CLUSTER).violations
        assert place in [violation.message for violation in found if violation.rule == "times"]


def test_a_row_without_gpus_or_outside_the_cluster_is_found():
    assert rules(check(changed(bare(HAND[0]), 0, gpu_ids=[]), None, CLUSTER)) == {"gang", "warm"}
    assert rules(check(changed(bare(HAND[0]), 0, gpu_id=9), None, CLUSTER)) == {"gang", "gpus"}


def test_unknown_rows_are_not_judged_further():
    strangers = [("r7", "a", [2], 0.0, 1.0, 1.0, 2.0), ("r8", "b", [3], 0.0, 0.0, 0.0, 2.0)]
    found = check(bare(*HAND[:2], *strangers), WORKLOAD, CLUSTER)
    assert rules(found) == {"unknown", "missing", "switch_time"}


def test_a_request_that_lacks_a_node_is_not_complete():
    log = hand(*HAND[:3], summary={"mode": "offline", "completed_requests": 1, "max_request_time": 12.0})
    assert rules(check(log, WORKLOAD, CLUSTER)) == {"missing"}


def test_a_million_violations_are_one_message():
    rows = 1000
    log = bare(*[("r0", "a", [0], 0.0, 1.0, 1.0, 2.0)] * rows)
    doubled = next(v for v in check(log).violations if v.rule == "doubled")
    assert doubled.count == rows - 1
    assert len(doubled.rows) == 3
    assert doubled.message.endswith("; and 996 more")


def test_an_empty_log_of_an_empty_workload_is_valid():
    none = Workload(CONFIG, [], np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0))
    empty = at(hand(), [])
    summary = {"mode": "offline", "gpus": [0], "makespan": 0.0, "total_requests": 0, "median_request_time": 0.0}
    assert check(replace(empty, summary=summary), none).valid
    assert rules(check(replace(empty, summary=summary), WORKLOAD)) == {"missing", "summary"}
    assert rules(check(bare(HAND[0]), none, CLUSTER)) == {"unknown"}


# Logs of other tools


def test_without_gpu_ids_the_workload_says_how_large_gangs_are():
    foreign = replace(hand(), gpu_ids=None)
    report = check(foreign, WORKLOAD)
    assert report.valid
    assert report.unchecked == (
        "The log has no gpu_ids: gangs were taken to be as many GPUs as the model requires, from gpu_id on.",
    )
    busy = ("r1", "a", [3], 0.0, 1.0, 1.0, 3.5)
    assert "overlap" in rules(check(replace(bare(HAND[0], busy, HAND[2]), gpu_ids=None), WORKLOAD, CLUSTER))


def test_without_gpu_ids_and_workload_only_first_gpus_are_seen():
    busy = ("r1", "a", [3], 0.0, 1.0, 1.0, 3.5)
    report = check(replace(bare(HAND[0], busy, HAND[2]), gpu_ids=None), None, CLUSTER)
    assert report.valid
    assert "The log has no gpu_ids: only the first GPU of each gang was checked for overlap." in report.unchecked
    assert any(s.startswith("Not checked, as the log has no gpu_ids: ") for s in report.unchecked)
    same = replace(bare(HAND[0], ("r1", "a", [0], 0.0, 1.0, 1.0, 3.5)), gpu_ids=None)
    assert rules(check(same, None, CLUSTER)) == {"overlap"}


def test_without_switch_time_gpus_are_occupied_from_the_start():
    foreign = replace(hand(), switch_time=None, summary=SUMMARY)
    report = check(foreign, WORKLOAD)
    assert report.valid
    assert report.unchecked == (
        "The log has no switch_time: GPUs were taken to be occupied from start_time on.",
        "Not checked, as the log has no switch_time: waiting_time; how long loading takes; "
        "that GPUs that hold a model do not load it again.",
        "Not checked, as too little is known: total_switch_time of the summary.",
    )
    early = replace(changed(hand(), 3, start_time=3.5, end_time=8.5), switch_time=None)
    assert {"precedence", "overlap"} <= rules(check(early, WORKLOAD))


@pytest.mark.parametrize("column", ["workflow_id", "execution_time", "estimated_time", "ready_time", "waiting_time"])
def test_any_other_missing_column_is_named(column):
    report = check(replace(hand(), **{column: None}), WORKLOAD)
    assert report.valid
    assert any(f"the log has no {column}" in sentence for sentence in report.unchecked)
    assert column not in report.rules_checked


def test_without_cluster_or_mode_the_rest_is_checked():
    report = check(hand(summary={}), WORKLOAD)
    assert report.valid
    assert {s.split(", as ")[1].split(":")[0] for s in report.unchecked} == {
        "neither the caller nor the summary describes the cluster",
        "neither the caller nor the summary says whether requests arrive offline or online",
    }
    early = ("r0", "b", [0, 1], 3.5, 5.0, 8.5, 13.5)
    assert {"precedence", "overlap"} <= rules(check(hand(*HAND[:3], early, summary={}), WORKLOAD))


@pytest.mark.parametrize(
    "nonsense",
    [{"mode": "sometimes"}, {"mode": 3}, {"gpus": 4.0}, {"gpus": [4, 5, 6, 7]}, {"pcie_bandwidth": "fast"}],
)
def test_a_summary_that_makes_no_sense_is_a_violation(nonsense):
    assert rules(check(hand(summary=SUMMARY | nonsense), WORKLOAD)) == {"summary"}


def test_gpus_may_be_a_count():
    log = hand(summary=SUMMARY | {"gpus": 4})
    assert log.cluster == CLUSTER
    assert check(log, WORKLOAD) == check(hand(), WORKLOAD)
    assert rules(check(hand(summary=SUMMARY | {"gpus": 5}), WORKLOAD, CLUSTER)) == {"summary"}


def test_a_summary_without_gpus_may_contradict_the_cluster_too():
    report = check(hand(summary={"mode": "offline", "pcie_bandwidth": 5.0}), WORKLOAD, CLUSTER)
    assert [v.message for v in report.violations] == ["pcie_bandwidth is not that of the cluster"]


def test_columns_that_repeat_a_text_are_read_by_text():
    log = hand()
    codes = np.array([0, 1, 3, 2], np.int32)
    twisted = replace(log, request_id=Labels(codes, ["r0", "r1", "r0", "r1"]))
    assert check(twisted, WORKLOAD).valid
    assert rules(check(replace(twisted, node_id=Labels(codes, ["a", "a", "b", "b"])))) == set()
    model = Labels(np.array([0, 2, 1, 1], np.int32), ["small", "big", "small"])
    assert check(replace(log, model_name=model), WORKLOAD).valid
    twice = bare(HAND[0], ("r0", "a", [0], 4.0, 0.0, 4.0, 5.0))
    twice = replace(twice, request_id=Labels(np.array([0, 1], np.int32), ["r0", "r0"]))
    assert rules(check(twice)) == {"doubled"}
    warm = hand(HAND[0], ("r1", "a", [0], 0.0, 0.0, 4.0, 5.0), summary={"total_model_switches": 0})
    assert check(replace(warm, model_name=Labels(np.array([0, 1], np.int32), ["small", "small"]))).valid


CHECKER = sorted(Path(gsched.checker.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", CHECKER, ids=lambda path: path.name)
def test_the_checker_shares_nothing_with_the_engine(path):
    tree = ast.parse(path.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    allowed = {f"gsched.{module}" for module in ("workload", "cluster", "errors", "log")}
    allowed |= {f"gsched.checker.{path.stem}" for path in CHECKER}
    assert {module for module in imported if module.startswith("gsched")} <= allowed
