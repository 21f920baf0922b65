"""The text log: one printable line an event, in an order that tells what happened."""

import re

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

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
