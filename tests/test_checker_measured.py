"""What the checker says of logs of real runs: measured times, runs that were stopped, and what went wrong in them."""

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
import test_checker_placement
from hypothesis import given
from hypothesis import strategies as st
from live_reference import run_slowly
from strategies import Case, cases
from test_checker import CLUSTER, HAND, WORKLOAD, at, bare, changed, gang, hand, rules
from test_checker_shared import Start, at_rows, log_of, workload_of

from gsched.checker import check
from gsched.log import Log
from gsched.simulator import simulate

MEASURED = "Not checked, as times are measured: how long loading takes; how long nodes execute; estimated_time."


def told(log: Log, summary: dict[str, Any] | None = None, **extra: object) -> Log:
    """The log with more in its summary, and with further parts."""
    return replace(log, summary={**log.summary, **(summary or {})}, extra=extra)


def measured(log: Log, **extra: object) -> Log:
    return told(log, {"simulate": True}, **extra)


def interruption(gpus: list[int], start: float, end: float | None, **more: object) -> dict[str, object]:
    return {"gpu_ids": gpus, "start_time": start, "end_time": end, "reason": "lost", **more}


def failure(request: str = "r0", node: str = "b", **more: object) -> dict[str, object]:
    return {"request_id": request, "node_id": node, "model_name": "big", "reason": "broken", "attempts": 3, **more}


# Measured times

# Of HAND, with times as they may be measured; everything else follows from them
REAL = [
    ("r0", "a", [0], 0.0, 1.5, 1.5, 4.25),
    ("r1", "a", [1], 0.0, 0.5, 0.75, 3.0),
    ("r1", "b", [2, 3], 3.0, 3.0, 7.0, 13.0),
    ("r0", "b", [0, 1], 4.25, 7.0, 11.5, 14.0),
]


def real(*rows: tuple, **extra: object) -> Log:
    log = hand(*(rows or REAL), summary={"mode": "offline", "gpus": 4, "gpus_per_server": 2})
    return measured(log, **extra)


def test_measured_times_are_what_they_are():
    log = real()
    report = check(log, WORKLOAD)
    assert report.violations == ()
    assert report.unchecked == (MEASURED,)
    assert not {"switch_time", "duration", "estimated_time", "estimate"} & set(report.rules_checked)
    assert rules(check(told(log, {"simulate": False}), WORKLOAD)) == {"switch_time", "duration", "estimated_time"}
    other = replace(log, estimated_time=np.zeros(4))
    assert check(other, WORKLOAD).valid


@pytest.mark.parametrize(
    ("row", "values", "rule"),
    [
        (0, {"execution_time": 3.0}, "execution_time"),
        (1, {"waiting_time": 0.5}, "waiting_time"),
        (3, {"ready_time": 4.0}, "ready_time"),
        (2, {"gpu_ids": [2]}, "gang_size"),
        (2, {"gpu_id": 1, "gpu_ids": [1, 2]}, "server"),
        (0, {"start_time": 1.0}, "times"),
        (3, {"switch_time": 7.5}, "precedence"),
        (2, {"node_id": "a"}, "doubled"),
    ],
)
def test_all_other_rules_apply_to_measured_times(row: int, values: dict[str, Any], rule: str):
    assert rule in rules(check(changed(real(), row, **values), WORKLOAD))


def test_measured_loading_is_for_gpus_that_do_not_hold_the_model():
    again = [REAL[0], ("r1", "a", [0], 0.0, 0.5, 5.0, 6.0)]
    assert rules(check(real(*again), None, CLUSTER)) == {"warm"}
    warm = told(
        real(REAL[0], ("r1", "a", [0], 0.0, 0.0, 5.0, 6.0)), {"total_model_loads": 1, "total_model_switches": 0}
    )
    assert check(warm, None, CLUSTER).valid
    assert rules(check(told(warm, {"total_model_loads": 2}), None, CLUSTER)) == {"summary"}


def test_a_deployment_loads_nothing_in_a_real_run_either():
    log = measured(test_checker_placement.hand(), **test_checker_placement.PARTS)
    workload = test_checker_placement.WORKLOAD
    assert check(log, workload).violations == ()
    slow = changed(changed(log, 1, switch_time=0.25), 1, start_time=1.25)
    assert "warm" in rules(check(slow, workload))


def test_a_bound_of_a_measured_log_may_be_missing_but_not_beaten():
    log = told(real(), {"lower_bound": None, "lower_bound_name": None, "gap_percent": None})
    assert check(log, WORKLOAD).valid
    assert rules(check(told(real(), {"lower_bound": 14.5}), WORKLOAD)) == {"bound"}


# Estimates


@pytest.mark.parametrize("estimator", ["profile", "api"])
def test_durations_that_come_from_elsewhere_are_those_that_were_estimated(estimator: str):
    rows = [*HAND[:3], ("r0", "b", [0, 1], 4.0, 5.0, 9.0, 14.5)]
    log = hand(*rows, summary={"mode": "offline", "gpus": 4, "gpus_per_server": 2})
    assert rules(check(log, WORKLOAD)) == {"duration", "estimated_time"}
    report = check(told(log, {"estimator": estimator}), WORKLOAD)
    assert report.valid
    assert report.unchecked == (
        "Not checked, as durations did not come from the requests: how long nodes execute; estimated_time.",
    )
    other = changed(told(log, {"estimator": estimator}), 3, estimated_time=5.0)
    assert rules(check(other, WORKLOAD)) == rules(check(other)) == {"estimate"}
    assert check(told(other, {"simulate": True}), WORKLOAD).valid
    assert rules(check(told(other, {"estimator": "recorded"}), WORKLOAD)) == {"duration"}


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({"estimator": "guess"}, "estimator is 'guess', none of recorded, profile, api"),
        ({"estimator": ["api"]}, "estimator is ['api'], none of recorded, profile, api"),
        ({"simulate": "yes"}, "simulate is 'yes', not true or false"),
        ({"partial": 1}, "partial is 1, not true or false"),
    ],
)
def test_a_summary_that_makes_no_sense_is_found(summary: dict[str, object], message: str):
    assert [(v.rule, v.message) for v in check(told(hand(), summary), WORKLOAD).violations] == [("summary", message)]


# Runs that were stopped


def test_a_stopped_run_may_lack_nodes():
    log = at(bare(*HAND), [0, 1, 2])
    assert rules(check(log, WORKLOAD, CLUSTER)) == {"missing"}
    report = check(told(log, {"partial": True}), WORKLOAD, CLUSTER)
    assert report.valid
    assert report.unchecked == ("The run was stopped before its end: nodes that were not executed are not missing.",)
    assert "missing" not in report.rules_checked
    none = told(at(bare(*HAND), []), {"partial": True, "completed_requests": 0, "makespan": 0.0})
    assert check(none, WORKLOAD, CLUSTER).valid


@pytest.mark.parametrize("summary", [{}, {"partial": True}])
def test_no_node_runs_whose_parent_never_did(summary: dict[str, object]):
    log = told(at(bare(*HAND), [0, 2, 3]), summary)
    (found,) = [v for v in check(log, WORKLOAD, CLUSTER).violations if v.rule != "missing"]
    assert found.rule == "precedence"
    assert found.rows == (1,)
    assert found.message == "runs although a parent never ran: row 1 (request r1, node b): request r1, node a"


def test_a_row_of_no_request_has_no_parents():
    log = changed(told(at(bare(*HAND), [0, 1, 2]), {"partial": True}), 2, request_id="r9")
    assert rules(check(log, WORKLOAD, CLUSTER)) == {"unknown"}


# Requests that were given up


def test_a_failed_request_is_not_missing():
    log = told(at(bare(*HAND), [0, 1, 2]), {"failed_requests": 1, "completed_requests": 1}, failures=[failure()])
    report = check(log, WORKLOAD, CLUSTER)
    assert report.violations == ()
    assert {"failures", "missing"} <= set(report.rules_checked)
    other = told(log, {"failed_requests": 1}, failures=[failure("r1")])
    assert rules(check(other, WORKLOAD, CLUSTER)) == {"missing", "failures"}
    for wrong in (0, 2, "one", True):
        found = check(told(log, {"failed_requests": wrong}, failures=[failure()]), WORKLOAD, CLUSTER).violations
        assert [v.message for v in found] == [f"failed_requests is {wrong!r}, the rows give 1"]
    assert rules(check(told(hand(), {"failed_requests": 1}), WORKLOAD)) == {"summary"}


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ("r0", "failures makes no sense: Expected `array`, got `str`"),
        (None, "failures makes no sense: Expected `array`, got `null`"),
        ([failure(attempts=-1)], "failures makes no sense: Expected `int` >= 0 - at `$[0].attempts`"),
        ([{"request_id": "r0"}], "failures makes no sense: Object missing required field `node_id` - at `$[0]`"),
        ([failure(), failure()], "a request fails twice: request r0"),
        ([failure(), failure("r1")], "a node that failed was executed: request r1, node b"),
        ([failure("r9")], "what failed is not in the workload: request r9, node b, model big"),
        ([failure(node="c")], "what failed is not in the workload: request r0, node c, model big"),
        ([failure(model_name="small")], "what failed is not in the workload: request r0, node b, model small"),
    ],
)
def test_a_failure_that_makes_no_sense_is_found(failures: object, message: str):
    log = told(at(bare(*HAND), [0, 1, 2]), {"partial": True}, failures=failures)
    found = check(log, WORKLOAD, CLUSTER).violations
    assert [(v.rule, v.message) for v in found if v.rule != "summary"] == [("failures", message)]


def test_failures_alone_show_what_the_rows_contradict():
    log = told(hand(), failures=[failure()])
    assert rules(check(log)) == {"failures"}
    assert check(told(at(bare(*HAND), [0, 1, 2]), failures=[failure()])).valid


# Interruptions: their times

ROW = ("r0", "a", [1], 0.0, 1.0, 3.0, 4.0)  # has GPU 1 from 2 to 4


@pytest.mark.parametrize(
    ("start", "end", "overlaps"),
    [
        (1.0, 2.0, False),
        (4.0, 5.0, False),
        (4.0, None, False),
        (4.0 - 5e-7, 5.0, False),
        (1.0, 2.0 + 5e-7, False),
        (2.0, 2.0, False),
        (1.0, 2.1, True),
        (3.9, 5.0, True),
        (3.9, None, True),
        (2.5, 3.5, True),
        (3.0, 3.0, True),
        (0.0, 9.0, True),
    ],
)
def test_nothing_runs_during_an_interruption(start: float, end: float | None, overlaps: bool):
    for gpus, there in (([1], True), ([0, 1, 2], True), ([1, 1], True), ([0], False), ([2, 3], False)):
        log = told(bare(ROW), interruptions=[interruption(gpus, start, end)])
        assert rules(check(log, None, CLUSTER)) == ({"interruptions"} if overlaps and there else set())


def test_a_row_in_spite_of_an_interruption_is_named():
    log = told(bare(*HAND), interruptions=[interruption([0, 1], 13.0, 15.0), interruption([1], 2.5, 2.75)])
    (found,) = check(log, WORKLOAD, CLUSTER).violations
    assert (found.rule, found.rows, found.count) == ("interruptions", (1, 3), 2)
    assert found.message == (
        "has a GPU that is not to be had: row 1 (request r1, node a): GPU 1 from 2.5 to 2.75 (lost); "
        "row 3 (request r0, node b): GPUs 0 to 1 from 13.0 to 15.0 (lost)"
    )


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (5, "interruptions makes no sense: Expected `object`, got `int` - at `$[0]`"),
        (interruption([], 1, 2), "interruptions makes no sense: Expected `array` of length >= 1 - at `$[0].gpu_ids`"),
        (interruption([-1], 1, 2), "interruptions makes no sense: Expected `int` >= 0 - at `$[0].gpu_ids[0]`"),
        (interruption([0], 1, "2"), "interruptions makes no sense: Expected `float | null`, got `str` - at"),
        (interruption([0], 10**400, 2), "interruptions makes no sense: Number out of range - at `$[0].start_time`"),
        (interruption([0], True, 2), "interruptions makes no sense: Expected `float`, got `bool`"),
        (interruption([0], 20, 21, reason=None), "interruptions makes no sense: Expected `str`, got `null`"),
        (interruption([0], 20, 21, row=-1), "interruptions makes no sense: Expected `int` >= 0"),
        (
            interruption([0], np.nan, 2),
            "times of interruptions make no sense: those of GPU 0 from nan to 2.0 (lost) are",
        ),
        (
            interruption([0], 1, np.inf),
            "times of interruptions make no sense: those of GPU 0 from 1.0 to inf (lost) are",
        ),
        (
            interruption([0], -3, -2),
            "times of interruptions make no sense: those of GPU 0 from -3.0 to -2.0 (lost) begin",
        ),
        (interruption([0], 9, 2), "times of interruptions make no sense: those of GPU 0 from 9.0 to 2.0 (lost) end"),
        (interruption([3, 4], 20, 21), "interrupts a GPU outside the cluster (0 to 3): GPUs 3 to 4 from 20.0 to 21.0"),
        (
            interruption([0], 20, 21, request_id="r9"),
            "what was interrupted is not in the workload: request r9, node None",
        ),
        (interruption([0], 20, 21, model_name="huge"), "what was interrupted is not in the workload: request None"),
    ],
)
def test_an_interruption_that_makes_no_sense_is_found(one: object, message: str):
    found = check(told(bare(*HAND), interruptions=[one]), WORKLOAD, CLUSTER).violations
    assert [v.rule for v in found] == ["interruptions"]
    assert found[0].message.startswith(message)


def test_an_interruption_names_what_it_interrupted():
    one = interruption([2, 3], 13, 14, request_id="r0", node_id="b", model_name="big")
    assert check(told(bare(*HAND), interruptions=[one]), WORKLOAD, CLUSTER).valid


# Interruptions: what GPUs hold after them


def loads(log: Log, *more: dict[str, object]) -> tuple[int, int]:
    """The numbers of loads and switches with which a log is valid."""
    log = told(log, {"total_model_loads": -1, "total_model_switches": -1}, interruptions=more)
    found = {v.message.split()[0]: int(v.message.split()[-1]) for v in check(log, None, CLUSTER).violations}
    assert found.keys() == {"total_model_loads", "total_model_switches"}
    return found["total_model_loads"], found["total_model_switches"]


def test_an_interrupted_gpu_is_empty():
    log = bare(("r0", "a", [0], 0.0, 1.0, 1.0, 2.0), ("r1", "a", [0], 0.0, 1.0, 5.0, 6.0))
    assert rules(check(log, None, CLUSTER)) == {"warm"}
    for start, end in ((2.0, 4.0), (2.0, 2.0), (4.0, 4.0), (3.0, 3.5)):
        assert loads(log, interruption([0], start, end)) == (2, 0)
    assert loads(log, interruption([0], 2.0, 3.0), interruption([0], 2.5, 4.0)) == (2, 0)  # a union
    for other in (interruption([1], 2.0, 4.0), interruption([0], 6.0, None), interruption([0], 0.0, 0.0)):
        assert rules(check(told(log, interruptions=[other]), None, CLUSTER)) == {"warm"}
    third = [("r0", "a", [0], 0.0, 1.0, 1.0, 2.0), ("r1", "a", [0], 0.0, 1.0, 5.0, 6.0), ("r2", "a", [0], 0, 0, 6, 7)]
    assert loads(bare(*third), interruption([0], 2.0, 4.0)) == (2, 0)


def test_only_interrupted_gpus_lose_their_label():
    rows = [
        ("r0", "a", [0], 0.0, 1.0, 1.0, 2.0),
        ("r1", "a", [1], 0.0, 1.0, 1.0, 2.0),
        ("r0", "b", [0, 1], 2.0, 1.0, 6.0, 7.0),
    ]
    assert loads(bare(*rows)) == (2, 1)
    assert loads(bare(*rows), interruption([0], 2.0, 4.0)) == (2, 1)
    assert loads(bare(*rows), interruption([0], 2.0, 4.0), interruption([1], 3.0, 5.0)) == (3, 0)
    assert loads(bare(*rows), interruption([0, 1], 2.0, 2.0)) == (3, 0)


def test_a_gpu_that_forgets_is_loaded_as_if_it_were_new():
    """In a simulated log loading takes as long as the model takes, not as a switch."""
    rows = [*HAND[:3], ("r0", "b", [0, 1], 4.0, 4.0, 8.0, 13.0)]
    assert "switch_time" in rules(check(bare(*rows), WORKLOAD, CLUSTER))
    assert check(told(bare(*rows), interruptions=[interruption([0, 1], 4.0, 4.0)]), WORKLOAD, CLUSTER).valid


def test_a_deployment_is_restored():
    log = test_checker_placement.hand()  # GPU 0 is in use until 2 and from 4 on
    for kept in (("placement",), ("gpu_assignments",), tuple(test_checker_placement.PARTS)):
        parts = {name: test_checker_placement.PARTS[name] for name in kept}
        whole = told(log, interruptions=[interruption([0], 2.0, 4.0)], **parts)
        report = check(whole, test_checker_placement.WORKLOAD)
        assert report.violations == ()
        assert "warm" in report.rules_checked


# Three models share GPU 0, two GPU 1; each row takes a second after what it loads
SHARED: dict[str, tuple[list[Start], int, list[int], float]] = {
    "all that a GPU holds is gone": ([("a", 0, 1), ("b", 0, 2), ("a", 0, 1), ("b", 0, 2)], 0, [0], 5),
    "other GPUs keep theirs": ([("a", 0, 1), ("b", 1, 2), ("a", 0, 1), ("b", 1, 0)], 0, [0], 5),
    "an instance leaves its whole gang": (
        [("p", 0, 4), ("c", 1, 3), ("b", 1, 2), ("c", 1, 0), ("p", 0, 160)],
        1,
        [0],
        5,
    ),
    "what is gone makes no room": ([("p", 0, 4), ("c", 1, 3), ("q", 0, 140)], 0, [0], 5),
    "what is loaded afterwards stays": ([("p", 0, 4), ("b", 1, 2), ("p", 0, 4), ("b", 1, 0)], 0, [0], 5),
}


@pytest.mark.parametrize("model", [None, "o"])
@pytest.mark.parametrize(("starts", "switches", "gpus", "time"), SHARED.values(), ids=SHARED.keys())
def test_shared_gpus_forget(starts: list[Start], switches: int, gpus: list[int], time: float, model: str | None):
    workload, log = workload_of(starts), log_of(starts, switches)
    one = interruption(gpus, time, time, model_name=model)
    assert check(told(log, interruptions=[one]), workload).violations == ()
    assert rules(check(log, workload)) & {"warm", "switch_time"}
    backwards = at_rows(log, [*range(len(log))][::-1])
    assert check(told(backwards, interruptions=[one]), workload).violations == ()


def test_an_attempt_makes_room_from_its_beginning():
    """An attempt at `c` on GPU 0 drives `p` away, from GPU 1 too, where there is room for `b` then."""
    starts: list[Start] = [("p", 0, 4.0), ("b", 0, 2.0), ("c", 1, 3.0), ("b", 1, 2.0)]  # at 0, 5, 8 and 12
    attempt = interruption([0], 8, 100, model_name="c")
    log, workload = log_of(starts, 0), workload_of(starts)
    assert check(told(log, interruptions=[attempt]), workload).violations == ()
    assert check(told(log, interruptions=[attempt | {"end_time": None}]), workload).violations == ()
    for other in ([], [attempt | {"model_name": "o"}], [attempt | {"start_time": 12.5}]):
        assert rules(check(told(log, interruptions=other), workload)) == {"switch_time", "summary"}


@pytest.mark.parametrize(
    ("row", "seconds", "switches"), [(None, 3, 0), (3, 3, 0), (0, 3, 0), (4, 170, 1), (99, 170, 1)]
)
def test_of_what_begins_at_one_moment_the_row_tells_the_order(row: int | None, seconds: float, switches: int):
    """Whichever of the attempt on GPU 0 and the last row on GPU 1 comes first drives `p` away from both."""
    starts: list[Start] = [("p", 0, 4.0), ("b", 0, 2.0), ("b", 1, 2.0), ("c", 1, seconds)]  # the last at 11
    attempt = interruption([0], 11, 1000, model_name="c", row=row)
    log = told(log_of(starts, switches), interruptions=[attempt])
    assert check(log, workload_of(starts)).violations == ()


# Runs of a slow engine, in which much goes wrong


@given(cases(max_requests=6), st.randoms(use_true_random=False))
def test_every_real_run_is_valid(case: Case, random: Random):
    log = run_slowly(case, random)
    report = check(log, *case)
    assert report.violations == ()
    assert report.unchecked[0] == MEASURED


@given(cases(max_requests=6), st.randoms(use_true_random=False), st.floats(0, 40) | st.integers(0, 40))
def test_a_run_that_was_stopped_is_valid_if_it_says_so(case: Case, random: Random, until: float):
    log = run_slowly(case, random, until)
    assert check(log, *case).violations == ()
    whole = told(log, {"partial": False}, **log.extra)
    executed = np.bincount(log.request_id.codes, minlength=case.workload.request_count)
    failed = [one["request_id"] for one in log.extra["failures"]]
    lacks = np.diff(case.workload.first_node) > executed
    missing = any(lack and id not in failed for lack, id in zip(lacks, case.workload.request_ids, strict=True))
    assert rules(check(whole, *case)) == ({"missing"} if missing else set())


def test_beginnings_are_rounded_as_the_times_from_which_they_follow():
    """`b` begins at 12, or so one gets from its start, long afterwards; by then the attempt has driven `p` away."""
    starts: list[Start] = [("p", 0, 4.0), ("b", 0, 2.0), ("c", 1, 3.0), ("b", 1, 2.0)]
    log, workload = measured(log_of(starts, 0)), workload_of(starts)
    early, end = 12.0 - 3e-12, 12.0 + 2e4
    log = changed(changed(changed(log, 3, switch_time=2e4), 3, start_time=early + 2e4), 3, end_time=end)
    attempt = interruption([0], 12.0, 1000, model_name="c")
    assert check(measured(log, interruptions=[attempt]), workload).violations == ()


@given(cases(max_requests=6), st.floats(0, 1))
def test_a_simulation_that_is_cut_off_is_valid_if_it_says_so(case: Case, share: float):
    log = simulate(case.workload, case.cluster, mode=case.mode)
    until = share * log.summary["makespan"]
    kept = np.flatnonzero(log.end_time <= until)
    begin = log.ready_time + log.waiting_time  # is rounded less than the start less the switch
    going = np.flatnonzero((begin <= until) & (log.end_time > until))
    models = log.model_name.texts()
    stops = [
        interruption(
            gang(log, row), float(begin[row]), None, model_name=models[row], row=int(np.searchsorted(kept, row))
        )
        for row in going.tolist()
    ]
    stated = {name: log.summary[name] for name in ("mode", "total_requests", *log.cluster_fields)}
    cut = told(replace(at(log, kept.tolist()), summary=stated), interruptions=stops)
    assert rules(check(cut, *case)) == ({"missing"} if len(kept) < len(log) else set())
    assert check(told(cut, {"partial": True}, **cut.extra), *case).valid
