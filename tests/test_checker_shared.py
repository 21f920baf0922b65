"""What the checker says of schedules on GPUs that several models share; loading is worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import Case, cases
from test_checker import TEXTS, at, changed, rules, with_gangs

from gsched.checker import check
from gsched.cluster import Cluster
from gsched.log import Labels, Log
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Workflow, Workload

# Loads take 1 s to 5 s; swaps take the GB that move, and 100 s
MODELS = {
    "a": Model("a", 10, 1, 1.0),
    "b": Model("b", 20, 1, 2.0),
    "c": Model("c", 30, 1, 3.0),
    "p": Model("p", 40, 2, 4.0),  # 20 GB on each of its GPUs
    "q": Model("q", 40, 2),  # no load time: as a swap with nothing
    "o": Model("o", 0, 1, 5.0),
}
CONFIG = Config(MODELS, {name: Workflow(name, (Node("n", name),)) for name in MODELS})
CLUSTER = Cluster(4, 2, 60.0, pcie_bandwidth=1.0, switch_overhead=100.0, residency="shared")
Start = tuple[str, int, float]  # model, first GPU, seconds of loading


def workload_of(starts: list[Start], seconds: float = 1.0) -> Workload:
    flows = np.array([list(MODELS).index(model) for model, _, _ in starts], np.int32)
    ids = [f"r{i}" for i in range(len(starts))]
    return Workload(CONFIG, ids, flows, np.zeros(len(starts), np.int64), np.full(len(starts), seconds))


def log_of(starts: list[Start], switches: int | None = None, cluster: Cluster = CLUSTER) -> Log:
    """A log of requests of a node each that start one after another and take a second."""
    switch = np.array([seconds for _, _, seconds in starts], np.float64)
    begin = np.concatenate([[0.0], np.cumsum(switch + 1)[:-1]])
    model = [name for name, _, _ in starts]
    summary = {
        **{"mode": "offline", "gpus": cluster.gpus, "gpus_per_server": cluster.gpus_per_server},
        **{name: getattr(cluster, name) for name in ("gpu_memory_gb", "pcie_bandwidth", "switch_overhead")},
        **{"residency": cluster.residency, "total_model_switches": switches},
    }
    if switches is not None:
        summary["total_model_loads"] = int(np.count_nonzero(switch)) - switches
    log = Log(
        Labels.of([f"r{i}" for i in range(len(starts))]),
        Labels.of(model),
        Labels.of(["n"] * len(starts)),
        Labels.of(model),
        np.array([gpu for _, gpu, _ in starts], np.int32),
        begin + switch,
        begin + switch + 1,
        switch_time=switch,
        summary=summary,
    )
    return with_gangs(log, [list(range(gpu, gpu + MODELS[name].gpus_required)) for name, gpu, _ in starts])


SCHEDULES: dict[str, tuple[list[Start], int]] = {
    "models stay beside each other": ([("a", 0, 1), ("b", 0, 2), ("a", 0, 0), ("b", 0, 0), ("a", 1, 1)], 0),
    "they fit exactly": ([("c", 0, 3), ("b", 0, 2), ("a", 0, 1), ("c", 0, 0)], 0),
    "the least recently used one makes room": (
        [("c", 0, 3), ("b", 0, 2), ("c", 0, 0), ("p", 0, 160), ("c", 0, 0), ("b", 0, 160), ("c", 0, 0)],
        2,
    ),
    "several make room": ([("a", 0, 1), ("b", 0, 2), ("c", 0, 3), ("p", 0, 170), ("c", 0, 0), ("c", 1, 3)], 1),
    "what takes no memory needs no room": (
        [("a", 0, 1), ("b", 0, 2), ("c", 0, 3), ("o", 0, 5), ("a", 0, 0), ("b", 0, 0)],
        0,
    ),
    "what makes room leaves its whole gang": ([("p", 0, 4), ("b", 0, 2), ("c", 0, 170), ("p", 0, 160)], 2),
    "it leaves room on the next GPU too": (
        [("p", 0, 4), ("c", 0, 3), ("c", 1, 3), ("q", 0, 180), ("c", 0, 0), ("c", 1, 0), ("p", 0, 180), ("c", 1, 0)],
        2,
    ),
    "the slowest GPU counts": ([("c", 0, 3), ("c", 1, 3), ("b", 1, 2), ("p", 0, 170)], 1),
    "a gang on free memory takes its load time": ([("c", 0, 3), ("q", 0, 140), ("q", 0, 0), ("q", 2, 140)], 0),
    "an instance of no memory makes room too, if it is the oldest": (
        [("o", 0, 5), ("c", 0, 3), ("b", 0, 2), ("p", 0, 170), ("o", 0, 5)],
        1,
    ),
}


@pytest.mark.parametrize(("starts", "switches"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_loading_on_shared_gpus(starts: list[Start], switches: int):
    workload, log = workload_of(starts), log_of(starts, switches)
    report = check(log, workload)
    assert report.violations == ()
    assert {"switch_time", "warm", "memory"} <= set(report.rules_checked)
    for row in range(len(starts)):
        slower = changed(log, row, switch_time=log.switch_time[row] + 0.5)
        assert "switch_time" in rules(check(slower, workload))
        assert ("warm" in rules(check(slower, workload))) == (log.switch_time[row] == 0)


def test_gangs_of_one_model_may_overlap_and_are_loaded_each():
    """Three gangs of `p` meet on GPU 1; the fourth instance there replaces the first, which leaves GPU 0 as well."""
    cluster = replace(CLUSTER, gpus_per_server=None, gpu_memory_gb=40.0)
    starts = [("p", 0, 4.0), ("p", 1, 4.0), ("p", 2, 4.0), ("b", 1, 160.0), ("b", 0, 2.0), ("c", 0, 150.0)]
    assert check(log_of(starts, 2, cluster), workload_of(starts)).violations == ()


@pytest.mark.parametrize(("memory", "seconds", "switches"), [(30 * (1 - 9e-10), 2, 0), (30 * (1 - 2e-9), 130, 1)])
def test_memory_may_be_off_by_the_tolerance(memory: float, seconds: float, switches: int):
    starts = [("a", 0, 1.0), ("b", 0, seconds)]
    log = log_of(starts, switches, replace(CLUSTER, gpu_memory_gb=memory))
    assert check(log, workload_of(starts)).violations == ()


def test_many_loads_round_like_one():
    """A tenth taken and given back a hundred times leaves no trace."""
    models = {name: Model(name, 0.1 * size, 1, 1.0) for name, size in (("x", 1), ("y", 2), ("z", 7))}
    config = Config(models, {name: Workflow(name, (Node("n", name),)) for name in models})
    cluster = Cluster(1, None, 0.3, 1.0, 0.0, "shared")
    case = Case(
        Workload(config, [f"r{i}" for i in range(300)], np.arange(300) % 2, np.zeros(300), np.ones(300)),
        cluster,
        "offline",
    )
    log = simulate(case.workload, case.cluster, mode=case.mode)
    assert (log.summary["total_model_loads"], log.summary["total_model_switches"]) == (2, 0)
    assert check(log, *case).valid


def test_a_model_that_no_gpu_holds_never_runs():
    starts = [("a", 0, 1.0), ("c", 0, 140.0), ("p", 2, 4.0)]
    report = check(log_of(starts, 1, replace(CLUSTER, gpu_memory_gb=25.0)), workload_of(starts))
    assert [violation.rule for violation in report.violations] == ["memory"]
    assert report.violations[0].message == (
        "its model does not fit GPUs of 25.0 GB: row 1 (request r1, node n): 30.0 GB on each GPU"
    )
    tight = [("c", 0, 3.0)]
    assert check(log_of(tight, 0, replace(CLUSTER, gpu_memory_gb=30 * (1 - 9e-10))), workload_of(tight)).valid
    alone = replace(CLUSTER, gpu_memory_gb=25.0, residency="exclusive")
    assert "memory" not in check(log_of(starts, 1, alone), workload_of(starts)).rules_checked


def test_gpus_hold_one_model_unless_the_log_says_that_they_are_shared():
    starts = [("a", 0, 1.0), ("b", 0, 2.0), ("a", 0, 0.0)]
    log, workload = log_of(starts, 0), workload_of(starts)
    assert check(log, workload).valid
    exclusive = {name: value for name, value in log.summary.items() if name != "residency"}
    for summary in (exclusive, exclusive | {"residency": "exclusive"}):
        assert rules(check(replace(log, summary=summary), workload)) == {"switch_time", "summary"}
    assert check(replace(log, summary=exclusive), workload, CLUSTER).valid
    report = check(log, workload, replace(CLUSTER, residency="exclusive"))
    assert "residency is not that of the cluster" in [violation.message for violation in report.violations]


@pytest.mark.parametrize("residency", ["both", None, ["shared"], 1])
def test_another_residency_makes_no_sense(residency: object):
    log = log_of([("a", 0, 1.0)])
    assert rules(check(replace(log, summary=log.summary | {"residency": residency}))) == {"summary"}


def test_without_the_models_memory_shared_gpus_cannot_be_followed():
    log = log_of([("a", 0, 1.0), ("b", 0, 2.0), ("a", 0, 5.0)], 0)
    for summary in (log.summary, {"residency": "shared", "total_model_loads": 7}):
        report = check(replace(log, summary=summary))
        assert report.valid
        assert "warm" not in report.rules_checked
        unchecked = " ".join(report.unchecked)
        assert "as models share GPUs and their memory is not known: that GPUs that hold" in unchecked
        assert "total_model_loads of the summary" in unchecked


def test_rows_that_no_rule_allows_do_not_stop_the_check():
    starts = [("a", 0, 1.0), ("p", 0, 4.0), ("c", 0, 3.0), ("b", 0, 140.0)]
    log, workload = log_of(starts), workload_of(starts)
    assert check(log, workload).valid is False
    for wrong in ([], [0, 0], [-5], [2**31 - 1], [3, 2], [0, 1, 2, 3]):
        for row in range(4):
            assert rules(check(changed(log, row, gpu_ids=wrong), workload)) & {"gang", "gpus", "gang_size"}
    assert {"model", "unknown"} & rules(check(changed(log, 1, model_name="nobody"), workload))
    assert "gpus" in rules(check(changed(log, 3, gpu_id=-(2**31)), workload))


def test_what_an_unknown_model_does_is_not_judged():
    log, workload = log_of([("a", 0, 1.0), ("b", 0, 2.0), ("c", 0, 7.0)]), workload_of([("a", 0, 1.0), ("b", 0, 2.0)])
    strange = changed(changed(log, 2, model_name="nobody"), 2, request_id="r9")
    assert rules(check(strange, workload)) == {"unknown"}


# Schedules of the engine


@given(cases(residencies=("shared",)))
def test_every_shared_schedule_of_the_engine_is_valid(case: Case):
    report = check(simulate(case.workload, case.cluster, mode=case.mode), *case)
    assert report.violations == report.unchecked == ()


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(cases(residencies=("shared",)), st.randoms())
def test_the_order_of_rows_does_not_matter(case: Case, random):
    log = simulate(case.workload, case.cluster, mode=case.mode)
    begin = np.sort(log.start_time - log.switch_time)
    assume(np.all(np.diff(begin) > 0.01))  # else ties leave the order open
    rows = list(range(len(log)))
    random.shuffle(rows)
    assert check(at(log, rows), case.workload).valid


def test_rows_out_of_order_are_followed_in_time():
    starts = [("c", 0, 3.0), ("b", 0, 2.0), ("p", 0, 170.0), ("c", 1, 3.0), ("c", 0, 150.0)]
    log, workload = log_of(starts, 2), workload_of(starts)
    assert check(log, workload).valid
    for order in ([4, 3, 2, 1, 0], [1, 0, 2, 4, 3]):
        assert check(at_rows(log, order), workload).valid


def test_rows_that_are_tied_but_for_rounding_are_in_order():
    """By the begins alone, `b` would be the oldest when `p` needs room; that the two overlap is another matter."""
    starts = [("c", 0, 3.0), ("b", 0, 2.0), ("p", 0, 170.0)]
    log, begin = log_of(starts, 1), np.array([5e-8, 1e-8, 5.0])
    log = replace(log, start_time=begin + log.switch_time, end_time=begin + log.switch_time + 1)
    assert rules(check(log, workload_of(starts))) == {"overlap"}


def at_rows(log: Log, order: list[int]) -> Log:
    """The log with its rows in another order; it has none of the columns that are optional but two."""
    gangs = [log.gpu_ids.gpus[log.gpu_ids.first[row] : log.gpu_ids.first[row + 1]].tolist() for row in order]
    texts = {name: Labels(getattr(log, name).codes[order], getattr(log, name).values) for name in TEXTS}
    columns = {name: getattr(log, name)[order] for name in ("gpu_id", "start_time", "end_time", "switch_time")}
    return with_gangs(replace(log, **texts, **columns), gangs)
