"""What the checker says of a summary's figures: rates, use of GPUs, servers, deadlines and tiers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import RESIDENCIES, Case, cases, urgent
from test_checker import CLUSTER, HAND, SUMMARY, WORKLOAD, hand, rules

from gsched.checker import check
from gsched.log import Log
from gsched.simulator import simulate
from gsched.workload import Config, Node, Workflow, Workload

# Of the schedule that test_checker works out by hand: `a` of r0 on GPU 0 and then `b` on 0 and 1, in server 0;
# `a` of r1 on GPU 1 and then `b` on 2 and 3. GPU 0 is in use for 14 s of 14, GPU 1 for 13, GPUs 2 and 3 for 9.
USE = np.array([14, 13, 9, 9]) / 14 * 100
FIGURES = {
    "total_tasks": 4,
    "dependency_levels": 2,
    "throughput": 4 / 14,
    "switch_overhead_percent": 11 / 14 * 100,
    "average_utilization": float(USE.mean()),
    "utilization_variance": float(((USE - USE.mean()) ** 2).mean()),
    "server_efficiency": 50.0,
    "intra_server_workflows": 1,
    "inter_server_workflows": 1,
    "cross_server_communications": 1,
}
# r0 ends at 14, r1 at 12
DEADLINES = replace(WORKLOAD, deadline=np.array([13.0, 12.5]), tier=np.array([2, 1]))
SLO = {
    "slo_attainment_percent": 50.0,
    "goodput": 1 / 14,
    "tiers": {
        "1": {
            **{"requests": 1, "with_deadline": 1, "slo_attainment_percent": 100, "goodput": 1 / 14},
            **{
                "average_request_time": 12.0,
                "median_request_time": 12.0,
                "p90_request_time": 12,
                "p99_request_time": 12,
            },
        },
        "2": {
            **{"requests": 1, "with_deadline": 1, "slo_attainment_percent": 0, "goodput": 0},
            **{"average_request_time": 14.0, "p90_request_time": 14},
        },
    },
}


def stating(**figures: object) -> Log:
    return hand(summary=SUMMARY | FIGURES | figures)


def test_figures_worked_out_by_hand_are_right():
    assert check(stating(), WORKLOAD).violations == ()
    report = check(stating(**SLO), DEADLINES)
    assert report.violations == report.unchecked == ()


@pytest.mark.parametrize("name", FIGURES)
def test_every_altered_figure_is_found(name: str):
    for wrong in (FIGURES[name] + 0.5, -1, math.nan, "many", True, []):
        report = check(stating(**{name: wrong}), WORKLOAD)
        assert [v.rule for v in report.violations] == ["summary"]
        assert report.violations[0].message.startswith(f"{name} is ")


@pytest.mark.parametrize("name", ["slo_attainment_percent", "goodput"])
def test_an_altered_attainment_is_found(name: str):
    for wrong in (SLO[name] + 0.5, SLO[name] - 0.01, math.nan, "many", True):
        report = check(stating(**SLO | {name: wrong}), DEADLINES)
        assert [v.rule for v in report.violations] == ["summary"]
        assert report.violations[0].message.startswith(f"{name} is ")


@pytest.mark.parametrize("name", SLO["tiers"]["1"])
def test_an_altered_figure_of_a_tier_is_found(name: str):
    for wrong in (SLO["tiers"]["1"][name] + 0.5, -1, math.nan, "many", True):
        tiers = SLO["tiers"] | {"1": SLO["tiers"]["1"] | {name: wrong}}
        report = check(stating(tiers=tiers), DEADLINES)
        assert [v.rule for v in report.violations] == ["tiers"]
        assert report.violations[0].message.startswith(f"{name} of tier 1 is ")


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        ([], "tiers is [], the workload has 1, 2"),
        ("1, 2", "tiers is '1, 2', the workload has 1, 2"),
        ({"1": {}}, "tiers is {'1': {}}, the workload has 1, 2"),
        ({"1": {}, "2": {}, "3": {}}, "tiers is {'1': {}, '2': {}, '3': {}}, the workload has 1, 2"),
        ({"1": {}, "2": None}, "tier 2 is None, no figures"),
        ({"1": [], "2": {}}, "tier 1 is [], no figures"),
    ],
)
def test_tiers_that_make_no_sense_are_found(tiers: object, message: str):
    report = check(stating(tiers=tiers), DEADLINES)
    assert [(v.rule, v.message) for v in report.violations] == [("tiers", message)]


def test_tiers_may_leave_figures_out():
    assert check(stating(tiers={"1": {}, "2": {}}), DEADLINES).valid
    assert check(stating(tiers={"1": {"requests": 2}}), WORKLOAD).valid
    assert "tiers" not in check(stating(), DEADLINES).rules_checked


def test_where_nobody_has_a_deadline_all_are_in_time_and_none_was_met():
    assert check(stating(goodput=2 / 14, slo_attainment_percent=None), WORKLOAD).valid
    report = check(stating(slo_attainment_percent=100), WORKLOAD)
    assert [v.message for v in report.violations] == ["slo_attainment_percent is 100, the rows give None"]
    none = {"1": {"requests": 2, "with_deadline": 0, "slo_attainment_percent": None, "goodput": 2 / 14}}
    assert check(stating(tiers=none), WORKLOAD).valid
    one = replace(DEADLINES, deadline=np.array([np.inf, 1.0]))
    assert check(stating(slo_attainment_percent=0, goodput=1 / 14), one).valid


@pytest.mark.parametrize(("early", "allowed"), [(-2e-6, [50]), (-5e-7, [50, 100]), (5e-7, [50, 100]), (2e-6, [100])])
def test_a_deadline_met_but_for_rounding_counts_either_way(early: float, allowed: list[float]):
    workload = replace(DEADLINES, deadline=np.array([14.0 + early, 12.1]))
    for stated in (50, 75, 100):
        valid = stated in allowed or (len(allowed) > 1 and stated == 75)
        assert check(stating(slo_attainment_percent=stated), workload).valid == valid
    for good in (1, 2):
        assert check(stating(goodput=good / 14), workload).valid == (50 * good in allowed)


def test_what_deadlines_mean_hangs_on_the_mode():
    """Online, r0 arrives at 1."""
    log = hand(summary={"mode": "online", "goodput": 2 / 14, "slo_attainment_percent": 100.0})
    late = replace(DEADLINES, deadline=np.array([13.0, 12.0]))
    assert "summary" not in rules(check(log, late, CLUSTER))
    assert "summary" in rules(check(log, late, CLUSTER, "offline"))
    without = check(replace(log, summary={"goodput": 2 / 14, "tiers": {}}), late, CLUSTER)
    assert "Not checked, as too little is known: goodput of the summary." in without.unchecked
    assert any("figures by tier" in sentence for sentence in without.unchecked)


def test_a_request_that_never_ends_is_neither_in_time_nor_in_a_server():
    summary = {"mode": "offline", "goodput": 1 / 12, "slo_attainment_percent": 50.0, "throughput": 3 / 12}
    summary |= {"intra_server_workflows": 0, "inter_server_workflows": 1, "cross_server_communications": 1}
    summary |= {"server_efficiency": 0, "total_tasks": 4}
    summary |= {"tiers": {"1": SLO["tiers"]["1"] | {"goodput": 1 / 12}, "2": {"goodput": 0, "requests": 1}}}
    assert rules(check(hand(*HAND[:3], summary=summary), DEADLINES, CLUSTER)) == {"missing"}
    tiers = {"tiers": {"1": {"requests": 2, "average_request_time": 12.0, "p99_request_time": 12.0}}}
    for rows in (HAND[:3], HAND[1:3]):  # r0 lacks a node, or all
        log = hand(*rows, summary={"mode": "offline", "intra_server_workflows": 0, "inter_server_workflows": 1} | tiers)
        assert not {"summary", "tiers"} & rules(check(log, WORKLOAD, CLUSTER))


def test_no_time_is_no_rate():
    none = Workload(WORKLOAD.config, [], np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0))
    figures = {"throughput": None, "goodput": None, "server_efficiency": None, "average_utilization": 0.0}
    summary = {"mode": "offline", "gpus": 4, "gpus_per_server": 2, "dependency_levels": 0, "switch_overhead_percent": 0}
    rest = {"intra_server_workflows": 0, "cross_server_communications": 0, "tiers": {}}
    log = replace(hand(), summary=summary | figures | rest)
    nothing = replace(
        log,
        **{name: getattr(log, name)[:0] for name in ("gpu_id", "start_time", "end_time", "switch_time")},
        **{name: getattr(log, name)._replace(codes=np.zeros(0, np.int32)) for name in ("request_id", "node_id")},
        **{"model_name": log.model_name._replace(codes=np.zeros(0, np.int32)), "workflow_id": None, "gpu_ids": None},
        **dict.fromkeys(("execution_time", "estimated_time", "ready_time", "waiting_time")),
    )
    assert check(nothing, none).valid
    for name in ("throughput", "goodput", "server_efficiency"):
        assert rules(check(replace(nothing, summary=log.summary | {name: 0.0}), none)) == {"summary"}


def test_a_gang_of_several_servers_leaves_its_first():
    """`b` of r0 on GPUs 0 and 1, each a server of its own: in the first where its parent ran, but not inside it."""
    figures = {"intra_server_workflows": 0, "inter_server_workflows": 2, "cross_server_communications": 1}
    summary = {"mode": "offline", "gpus": 4, "gpus_per_server": 1, "server_efficiency": 0.0}
    assert check(hand(summary=summary | figures), WORKLOAD).valid


def test_an_edge_that_is_given_twice_crosses_once():
    flow = Workflow("flow", WORKLOAD.workflows[0].nodes, ((0, 1), (0, 1)))
    workload = replace(WORKLOAD, config=Config(WORKLOAD.config.models, {"flow": flow}))
    assert check(stating(), workload).valid


def test_levels_are_those_of_the_longest_path_in_use():
    nodes = tuple(Node(str(i), "small") for i in range(4))
    deep = Workflow("deep", nodes, ((2, 3), (0, 2), (0, 1), (1, 2)))
    models = WORKLOAD.config.models
    for used, levels in (((0,), 2), ((0, 1), 4), ((1,), 4)):
        config = Config(models, {"flow": WORKLOAD.workflows[0], "deep": deep})
        size = sum((2, 4)[flow] for flow in used)
        ids = [f"r{flow}" for flow in used]
        workload = Workload(config, ids, np.array(used), np.zeros(len(used), np.int64), np.ones(size))
        log = simulate(workload, CLUSTER)
        assert check(log, workload).valid
        report = check(replace(log, summary=log.summary | {"dependency_levels": levels + 1}), workload)
        assert [v.message for v in report.violations] == [f"dependency_levels is {levels + 1}, the rows give {levels}"]


def test_without_gpu_ids_and_workload_use_is_not_known():
    report = check(replace(stating(), gpu_ids=None))
    assert report.valid
    assert "average_utilization, utilization_variance, server_efficiency" in report.unchecked[-1]
    for gpu in (99, -1, -(2**31), 2**31 - 2):
        outside = replace(stating(), gpu_id=np.array([0, 1, 2, gpu], np.int32), gpu_ids=None)
        assert "gpus" in rules(check(outside, WORKLOAD))


# Summaries of the engine


@st.composite
def logs(draw: st.DrawFn) -> tuple[Case, Log]:
    case = draw(cases(max_requests=5, residencies=RESIDENCIES))
    case = case._replace(workload=draw(urgent(case.workload)))
    return case, simulate(case.workload, case.cluster, mode=case.mode)


@given(logs())
def test_every_summary_of_the_engine_is_right(problem: tuple[Case, Log]):
    case, log = problem
    report = check(log, *case)
    assert report.violations == report.unchecked == ()
    assert ("tiers" in log.summary) == ("tiers" in report.rules_checked)


@given(logs(), st.sampled_from([-1.0, 0.25, 3.0]))
def test_every_altered_figure_of_the_engine_is_found(problem: tuple[Case, Log], shift: float):
    case, log = problem
    told = {"gpus", "gpus_per_server", "gpu_memory_gb", "pcie_bandwidth", "switch_overhead"}  # of the cluster
    told |= {"lower_bound", "mean_latency_lower_bound"}  # may be lower
    told |= {"slo_attainment_percent", "goodput"}  # hang on rounding where a request ends when it is due
    rates = {"throughput", "switch_overhead_percent", "average_utilization", "utilization_variance"}
    told |= rates if log.summary["makespan"] < 0.1 else set()  # hang on rounding where next to no time passes
    told |= {"gap_percent"} if not log.summary["lower_bound"] else set()
    told |= {"mean_latency_gap_percent"} if not log.summary["mean_latency_lower_bound"] else set()
    for name, value in log.summary.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in told:
            altered = replace(log, summary=log.summary | {name: value + shift})
            assert [v.message.split()[0] for v in check(altered, *case).violations] == [name]
