"""The figures of a summary against the same figures worked out slowly, row by row."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from statistics import mean, pvariance
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import staying
from strategies import Case, cases, deployments

from gsched import metrics
from gsched.bounds import lower_bounds
from gsched.checker import check
from gsched.cluster import Cluster
from gsched.log import Log
from gsched.policies import find_policy
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Workflow, Workload


class Row:
    """A row of a log, in plain values."""

    def __init__(self, log: Log, i: int) -> None:
        self.request, self.node = log.request_id.texts()[i], log.node_id.texts()[i]
        self.gang = log.gpu_ids.gpus[log.gpu_ids.first[i] : log.gpu_ids.first[i + 1]].tolist()
        self.switch, self.end = float(log.switch_time[i]), float(log.end_time[i])
        self.busy = self.end - float(log.start_time[i]) + self.switch


def by_request(log: Log, workload: Workload) -> dict[str, list[Row]]:
    rows = defaultdict(list)
    for i in range(len(log)):
        row = Row(log, i)
        rows[row.request].append(row)
    return {request: rows[request] for request in workload.request_ids}


def per_second(count: int, seconds: float) -> float | None:
    return count / seconds if seconds else None


def expected_servers(rows: dict[str, list[Row]], case: Case) -> dict[str, Any]:
    workload, size = case.workload, case.cluster.gpus_per_server or case.cluster.gpus
    if size >= case.cluster.gpus:
        return {}
    intra = crossings = 0
    for i, mine in enumerate(rows.values()):
        intra += len({gpu // size for row in mine for gpu in row.gang}) == 1
        flow = workload.workflows[workload.workflow[i]]
        at = {row.node: row.gang[0] // size for row in mine}
        crossings += sum(at[flow.nodes[a].id] != at[flow.nodes[b].id] for a, b in set(flow.edges))
    return {
        "server_efficiency": pytest.approx(100 * intra / len(rows)),
        "intra_server_workflows": intra,
        "inter_server_workflows": len(rows) - intra,
        "cross_server_communications": crossings,
    }


def expected_deadlines(rows: dict[str, list[Row]], case: Case, makespan: float) -> dict[str, Any]:
    workload = case.workload
    if workload.deadline is None and workload.tier is None:
        return {}
    arrival = workload.arrival(case.mode).tolist()
    limit = [np.inf] * len(rows) if workload.deadline is None else workload.deadline.tolist()
    tier = [1] * len(rows) if workload.tier is None else workload.tier.tolist()
    end = [max(row.end for row in mine) for mine in rows.values()]

    def figures(those: list[int]) -> dict[str, Any]:
        limited = [i for i in those if limit[i] < np.inf]
        met = [i for i in limited if end[i] <= arrival[i] + limit[i]]
        share = pytest.approx(100 * len(met) / len(limited)) if limited else None
        good = per_second(len(those) - len(limited) + len(met), makespan)
        return {"slo_attainment_percent": share, "goodput": good if good is None else pytest.approx(good)}

    tiers = {}
    for level in sorted(set(tier)):
        those = [i for i in range(len(rows)) if tier[i] == level]
        took = np.array([end[i] - arrival[i] for i in those])
        tiers[str(level)] = {
            "requests": len(those),
            "with_deadline": sum(limit[i] < np.inf for i in those),
            **figures(those),
            "average_request_time": pytest.approx(took.mean()),
            **{f"p{p}_request_time": pytest.approx(np.percentile(took, p)) for p in (90, 99)},
            "median_request_time": pytest.approx(np.median(took)),
        }
    return {**(figures([*range(len(rows))]) if workload.deadline is not None else {}), "tiers": tiers}


def longest_path(flow: Workflow) -> int:
    lengths: dict[int, int] = {}

    def length(node: int) -> int:
        if node not in lengths:
            lengths[node] = 1 + max((length(a) for a, b in flow.edges if b == node), default=0)
        return lengths[node]

    return max(map(length, range(len(flow.nodes))))


def expected(case: Case, log: Log) -> dict[str, Any]:
    workload, rows = case.workload, by_request(log, case.workload)
    every = [row for mine in rows.values() for row in mine]
    makespan = max(row.end for row in every)
    use = [sum(row.busy for row in every if g in row.gang) for g in range(case.cluster.gpus)]
    percent = [100 * busy / makespan if makespan else 0.0 for busy in use]
    throughput = per_second(len(every), makespan)
    return {
        "policy_options": {},
        "dependency_levels": max(longest_path(workload.workflows[flow]) for flow in workload.workflow),
        "throughput": throughput if throughput is None else pytest.approx(throughput),
        "switch_overhead_percent": pytest.approx(100 * sum(r.switch for r in every) / makespan if makespan else 0.0),
        "average_utilization": pytest.approx(mean(percent)),
        "utilization_variance": pytest.approx(pvariance(percent), abs=1e-6),
        **expected_servers(rows, case),
        **expected_deadlines(rows, case, makespan),
    }


FIELDS = (
    *("policy_options", "dependency_levels", "throughput", "switch_overhead_percent", "average_utilization"),
    *("utilization_variance", "server_efficiency", "intra_server_workflows", "inter_server_workflows"),
    *("cross_server_communications", "slo_attainment_percent", "goodput", "tiers"),
)


@given(cases(residencies=("exclusive", "shared")), st.integers(1, 4))
def test_figures_are_those_of_the_rows(case: Case, block: int) -> None:
    with patch.object(metrics, "_BLOCK", block):
        log = simulate(*case[:2], mode=case.mode)
    assert {name: log.summary[name] for name in FIELDS if name in log.summary} == expected(case, log)


def test_no_time_no_rate() -> None:
    config = Config({"m": Model("m", 0.0, load_time_seconds=0.0)}, {"w": Workflow("w", (Node("n", "m"),))})
    workload = Workload(config, ["r"], np.zeros(1), np.zeros(1), np.zeros(1), deadline=np.zeros(1))
    summary = simulate(workload, Cluster(1)).summary
    assert (summary["throughput"], summary["goodput"], summary["slo_attainment_percent"]) == (None, None, 100.0)
    assert summary["switch_overhead_percent"] == 0.0


def test_no_requests_no_share() -> None:
    config = Config({"m": Model("m", 1.0)}, {"w": Workflow("w", (Node("n", "m"),))})
    none = np.zeros(0)
    workload = Workload(config, [], none, none, none, deadline=none, tier=none)
    summary = simulate(workload, Cluster(2, 1)).summary
    assert (summary["server_efficiency"], summary["cross_server_communications"]) == (None, 0)
    assert (summary["slo_attainment_percent"], summary["tiers"], summary["dependency_levels"]) == (None, {}, 0)


def test_options_of_the_policy_are_noted() -> None:
    config = Config({"m": Model("m", 1.0)}, {"w": Workflow("w", (Node("n", "m"),))})
    workload = Workload(config, ["r"], np.zeros(1), np.zeros(1), np.ones(1))
    policy = replace(find_policy("baseline"), options={"patience": 3.0, "limit": np.inf, "name": "x"})
    noted = simulate(workload, Cluster(1), policy).summary["policy_options"]
    assert noted == {"patience": 3.0, "limit": "inf", "name": "x"}


def test_plain_logs_have_no_further_fields() -> None:
    config = Config({"m": Model("m", 1.0)}, {"w": Workflow("w", (Node("n", "m"),))})
    workload = Workload(config, ["r"], np.zeros(1), np.zeros(1), np.ones(1))
    log = simulate(workload, Cluster(2, 2))
    assert not {"tiers", "goodput", "server_efficiency", "deployment_time_seconds"} & log.summary.keys()
    assert log.extra == {}


def test_a_real_run_says_how_it_went() -> None:
    config = Config({"m": Model("m", 1.0)}, {"w": Workflow("w", (Node("n", "m"), Node("o", "m")), ((0, 1),))})
    workload = Workload(config, ["r", "s"], np.zeros(2, np.int32), np.zeros(2), np.ones(4))
    cluster = Cluster(2, 1)
    whole = simulate(workload, cluster)
    rows = replace(cut(whole, 3), extra={"failures": []})
    told = {"partial": True, "failed_requests": 0, "executor": "fake"}
    few = {"bounds": None, "node": np.array([0, 2, 1]), "loads": 2, "switches": 0}
    log = metrics.summarize(rows, workload, cluster, "offline", "baseline", **few, measured=told)
    summary = dict(log.summary)
    assert list(summary)[3:7] == ["simulate", *told]
    assert summary["simulate"] is True
    assert log.extra == {"failures": []}
    bounds = [name for name in summary if "lower_bound" in name or "gap" in name]
    assert len(bounds) == 6
    assert {summary[name] for name in bounds} == {None}
    assert (summary["total_requests"], summary["completed_requests"], summary["total_nodes_executed"]) == (2, 1, 3)
    assert summary["average_request_time"] == summary["max_request_time"] == float(rows.end_time[2])
    assert metrics.request_times(log, workload, "offline")[0] == float(rows.end_time[2])
    assert np.isnan(metrics.request_times(log, workload, "offline")[1])
    placed = metrics.summarize(rows, workload, cluster, "offline", "static", **few, placement=((0, 0),))
    assert set(placed.extra) == {"failures", "placement", "gpu_assignments", "server_assignments"}
    assert placed.summary["simulate"] is False


@pytest.mark.parametrize(("estimator", "said"), [("recorded", []), ("profile", ["estimator"])])
def test_where_durations_came_from_is_said_if_not_from_the_requests(estimator: str, said: list[str]) -> None:
    config = Config({"m": Model("m", 1.0)}, {"w": Workflow("w", (Node("n", "m"),))})
    workload, cluster = Workload(config, ["r"], np.zeros(1), np.zeros(1), np.ones(1)), Cluster(1)
    few = {"bounds": lower_bounds(workload, cluster, "offline"), "node": np.zeros(1, int), "loads": 1, "switches": 0}
    log = metrics.summarize(simulate(workload, cluster), workload, cluster, "offline", "p", **few, estimator=estimator)
    assert [name for name in log.summary if name == "estimator"] == said
    assert log.summary.get("estimator", "recorded") == estimator


def cut(log: Log, rows: int) -> Log:
    """The first rows of a log."""
    labels = {name: getattr(log, name) for name in ("request_id", "workflow_id", "node_id", "model_name")}
    times = [name for name in vars(log) if name.endswith("_time")]
    first = log.gpu_ids.first[: rows + 1]
    return replace(
        log,
        **{name: column._replace(codes=column.codes[:rows]) for name, column in labels.items()},
        **{name: getattr(log, name)[:rows] for name in [*times, "gpu_id"]},
        gpu_ids=log.gpu_ids._replace(first=first, gpus=log.gpu_ids.gpus[: first[-1]]),
    )


@given(cases(max_requests=6), st.integers(0, 8), st.integers(1, 4))
def test_figures_of_a_part_are_those_that_the_checker_works_out(case: Case, rows: int, block: int) -> None:
    workload, cluster, mode = case
    part = cut(simulate(workload, cluster, mode=mode), rows)
    position = {}
    for request, flow in enumerate(workload.workflow.tolist()):
        for i, node in enumerate(workload.workflows[flow].nodes):
            position[workload.request_ids[request], node.id] = int(workload.first_node[request]) + i
    pairs = zip(part.request_id.texts(), part.node_id.texts(), strict=True)
    node = np.array([position[pair] for pair in pairs], np.int64)
    kinds = {"loads": 0, "switches": 0}
    told = {"partial": True, "failed_requests": 0}
    with patch.object(metrics, "_BLOCK", block):
        log = metrics.summarize(part, workload, cluster, mode, "p", bounds=None, node=node, **kinds, measured=told)
    found = [violation.message for violation in check(log, *case).violations]
    assert [message for message in found if not message.startswith("total_model_")] == []


def check_deployment_time(placed: tuple[tuple[int, int], ...], case: Case, log: Log) -> None:
    workload, cluster = case.workload, case.cluster
    seconds = [0.0] * cluster.gpus
    for position, first in placed:
        model = workload.models[position]
        load = model.load_time_seconds
        if load is None:
            load = model.memory_gb / cluster.pcie_bandwidth + cluster.switch_overhead
        for gpu in range(first, first + model.gpus_required):
            seconds[gpu] += load
    assert log.summary["deployment_time_seconds"] == pytest.approx(max(seconds))
    bounds = lower_bounds(workload, cluster, case.mode, preloaded=True)
    assert log.summary["lower_bound"] == bounds.makespan.value
    assert log.summary["mean_latency_lower_bound"] == bounds.mean_latency.value


@given(cases().flatmap(deployments))
def test_placements_are_told_by_instance_gpu_and_server(deployment: tuple[Case, tuple[tuple[int, int], ...]]) -> None:
    case, placed = deployment
    workload, cluster = case.workload, case.cluster
    log = simulate(workload, cluster, staying(placed), case.mode)
    size = cluster.gpus_per_server or cluster.gpus
    instances = [(workload.models[m], set(range(gpu, gpu + workload.models[m].gpus_required))) for m, gpu in placed]
    told = [(part["model"], part["gpu_ids"]) for part in log.extra["placement"]]
    assert told == [(model.id, sorted(gang)) for model, gang in instances]
    uses = metrics.gpu_use(log, range(cluster.gpus))
    assert log.extra["gpu_assignments"] == {
        str(g): {
            "server_id": g // size,
            "assigned_models": [model.id for model, gang in instances if g in gang],
            "utilization": uses[g].utilization_percent,
        }
        for g in range(cluster.gpus)
    }
    firsts = [*range(0, cluster.gpus, size), cluster.gpus]
    for server, (first, end) in enumerate(pairwise(firsts)):
        part = log.extra["server_assignments"][str(server)]
        assert part["gpu_ids"] == list(range(first, end))
        assert len(part["models"]) == len(set(part["models"]))
        assert set(part["models"]) == {model.id for model, gang in instances if gang & set(range(first, end))}
    assert len(log.extra["server_assignments"]) == len(firsts) - 1
    check_deployment_time(placed, case, log)
