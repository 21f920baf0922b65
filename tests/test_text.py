"""The text log: one printable line an event, in an order that tells what happened."""

import re
from dataclasses import replace

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from small import staying

from gsched.cluster import Cluster
from gsched.report.text import log_lines, metrics_lines
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Workflow, Workload

NASTY = "a\nb\x1b[2Jc\u202ed"
SHOWN = r"a\nb\x1b[2Jc\u202ed"


def chains(requests: int, second: float, duration: float, prefix: str = "") -> Workload:
    """Requests for a chain of two models, one of them at time 0 and the rest from a second on."""
    models = {prefix + name: Model(prefix + name, 16.3, load_time_seconds=0.7) for name in ("x", "y")}
    nodes = (Node(f"{prefix}a", f"{prefix}x"), Node(f"{prefix}b", f"{prefix}y"))
    workflows = {f"{prefix}flow": Workflow(f"{prefix}flow", nodes, ((0, 1),))}
    timestamps = np.array([0, *(int(second * 1e9) + i for i in range(requests - 1))], np.int64)
    ids = [f"{prefix}{i}" for i in range(requests)]
    flows = np.zeros(requests, np.int32)
    return Workload(Config(models, workflows), ids, flows, timestamps, np.full(2 * requests, duration))


@given(st.integers(20, 29), st.floats(0.1, 10.0), st.floats(0.001, 10.0))
@example(27, 3.5, 0.3)
def test_a_node_is_scheduled_after_its_parent_completed_however_late_it_is(power, before, duration):
    """Where times pass a power of two, `start_time - switch_time` may miss the time of the decision."""
    workload = chains(5, 2.0**power - before, duration)
    log = simulate(workload, Cluster(2), mode="online")
    seen = set()
    for line in log_lines(log, workload, events=True):
        if scheduled := re.search("Scheduled node b of request (.)", line):
            assert ("a", scheduled[1]) in seen
        elif scheduled := re.search("Scheduled node a of request (.)", line):
            assert scheduled[1] in seen
        elif arrived := re.search("Processing request (.)", line):
            seen.add(arrived[1])
        elif completed := re.search("Completed node (.) of request (.)", line):
            seen.add((completed[1], completed[2]))


def test_names_are_printable_and_on_one_line():
    workload = chains(2, 1.0, 1.0, NASTY)
    log = simulate(workload, Cluster(2))
    for lines in (log_lines(log, workload, events=True), metrics_lines(log)):
        text = list(lines)
        assert all(line.isprintable() for line in text)
        assert any(SHOWN in line for line in text)


HEAD = """\
Starting placed scheduler with 3 requests
Mode: online, Simulate: false
Options: patience=3.0
Available GPUs: [0, 1, 2]
Model-to-GPU assignments:
  GPU 0 (Server 0): x, y
  GPU 1 (Server 0): x
  GPU 2 (Server 1): y
Server configurations:
  Server 0 (GPUs 0-1): x, y
  Server 1 (GPU 2): y
Starting discrete event simulation...
(6 nodes: their events are in the execution log only)
Simulation completed at time 6.00s
"""

METRICS = """
============================================================
EXECUTION METRICS
============================================================
Total execution time (makespan): 6.00 seconds
Proven lower bound: 5.00 seconds (critical path), gap 20.00%
Total requests processed: 3
Total nodes executed: 6
Dependency levels: 2
Average throughput: 1.000 nodes/second
Simulation mode: no models were called

Static deployment metrics:
  Server efficiency: 33.3%
  Intra-server workflows: 1
  Inter-server workflows: 2
  Cross-server communications: 2
  Deployment time: 1.40 seconds, before time 0

Request completion times:
  Average: 4.67s
  Median: 5.00s
  P90: 5.00s
  P99: 5.00s
  Min: 4.00s
  Max: 5.00s
  Proven lower bound of the average: 4.00s (critical path), gap 16.67%

Deadlines and tiers:
  SLO attainment: 50.0% of the requests with a deadline
  Goodput: 0.333 requests/second done in time
  Tier   Requests   With deadline   Attained     Goodput/s       Average           P99
     1          1               1     100.0%         0.167         4.00s         4.00s
     2          2               1       0.0%         0.167         5.00s         5.00s

Waiting times of nodes:
  Average: 0.33s
  Median: 0.00s
  P90: 1.00s
  P99: 1.00s
  Min: 0.00s
  Max: 1.00s

GPU utilization:
  GPU 0 (Server 0): 3 executions, 6.00s busy time (100.0% utilization), Models: {'x', 'y'}
  GPU 1 (Server 0): 1 executions, 2.00s busy time (33.3% utilization), Models: {'x'}
  GPU 2 (Server 1): 2 executions, 4.00s busy time (66.7% utilization), Models: {'y'}

Overall GPU statistics:
  Average utilization: 66.7%
  Utilization variance: 740.7

Model execution counts:
  x: 3 executions
  y: 3 executions

Model switching:
  Total switches: 0
  Total loads: 0
  Total switch time: 0.00 seconds
  Switch overhead: 0.0%"""


def test_everything_that_a_run_can_tell():
    """Deadlines, tiers, servers, options and a static placement."""
    workload = replace(chains(3, 1.0, 2.0), deadline=np.array([4.0, 3.0, np.inf]), tier=np.array([1, 2, 2]))
    policy = staying(((0, 0), (1, 2), (1, 0), (0, 1)), "placed", patience=3.0)
    log = simulate(workload, Cluster(3, 2), policy, "online")
    assert "\n".join(log_lines(log, workload, events=False)) == HEAD + METRICS


def test_of_many_gpus_the_first_are_shown():
    log = simulate(chains(2, 1.0, 1.0), Cluster(40))
    shown = [line for line in metrics_lines(log) if line.startswith("  GPU ")]
    assert len(shown) == 32
    assert "  … and 8 more GPUs (the .log file has them all)" in metrics_lines(log)
    assert not any("Server" in line or "Models:" in line for line in metrics_lines(log))
    servers = metrics_lines(simulate(chains(2, 1.0, 1.0), Cluster(2, 1)))
    assert any(line.startswith("  GPU 1 (Server 1): ") for line in servers)


def test_tiers_without_deadlines_have_a_table_alone():
    workload = replace(chains(2, 1.0, 1.0), tier=np.array([2, 1]))
    lines = list(metrics_lines(simulate(workload, Cluster(2))))
    table = lines.index("Deadlines and tiers:")
    assert lines[table + 1].startswith("  Tier ")
    assert [line.split()[:4] for line in lines[table + 2 : table + 4]] == [["1", "1", "0", "-"], ["2", "1", "0", "-"]]


def test_what_cannot_be_said_is_a_dash():
    workload = replace(chains(1, 1.0, 0.0), deadline=np.array([np.inf]), tier=np.array([7]))
    models = {
        name: replace(model, memory_gb=0.0, load_time_seconds=0.0) for name, model in workload.config.models.items()
    }
    workload = replace(workload, config=replace(workload.config, models=models))
    text = "\n".join(metrics_lines(simulate(workload, Cluster(2, switch_overhead=0.0))))
    assert "Average throughput: -\n" in text
    assert "  SLO attainment: - of" in text
    assert "  Goodput: - done" in text
    assert re.search(r"\n     7 +1 +0 +- +- +0.00s +0.00s\n", text)


def test_a_real_run_that_went_wrong() -> None:
    log = simulate(chains(3, 1.0, 2.0), Cluster(3, 2), mode="online")
    bounds = dict.fromkeys(name for name in log.summary if "lower_bound" in name or "gap" in name)
    failures = [
        {"request_id": f"r{i}", "node_id": "a\n", "model_name": "x", "reason": "it is broken", "attempts": 3}
        for i in range(6)
    ]
    stops = [
        {"gpu_ids": [0, 1], "start_time": 1.0, "end_time": 2.5, "reason": "no answer"},
        {"gpu_ids": [2], "start_time": 3, "end_time": None, "reason": "stopped", "model_name": "x"},
    ]
    told = {"simulate": True, "partial": True, "completed_requests": 1}
    log = replace(log, summary={**log.summary, **bounds, **told}, extra={"failures": failures, "interruptions": stops})
    lines = list(log_lines(log, chains(3, 1.0, 2.0), events=True))
    assert "Mode: online, Simulate: true" in lines
    assert "Running models..." in lines
    assert f"Run stopped before its end, the last node ended at time {log.summary['makespan']:.2f}s" in lines
    assert "Simulation mode: models were called" in lines
    assert "Stopped before its end: 2 requests are not complete" in lines
    assert not any("bound" in line for line in lines)
    at = lines.index("Failed requests: 6")
    assert lines[at + 1] == r"  Request r0, node a\n (x), attempts: 3: it is broken"
    assert lines[at + 7 : at + 12] == [
        "",
        "Interruptions of GPUs: 2",
        "  GPU(s) [0, 1] from 1.00s to 2.50s: no answer",
        "  GPU(s) [2] from 3.00s to the end: stopped",
        "",
    ]
    few = list(metrics_lines(log))
    at = few.index("Failed requests: 6")
    assert few[at + 6 : at + 9] == ["  … and 1 more (the .log file has them all)", "", "Interruptions of GPUs: 2"]
    done = list(log_lines(replace(log, summary={**log.summary, "partial": False}), chains(3, 1.0, 2.0), events=False))
    assert f"Run completed at time {log.summary['makespan']:.2f}s" in done
    assert not any("Stopped" in line for line in done)
