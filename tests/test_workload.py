"""The nouns are validated when built, also where no loader stands before them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import workloads

from gsched.bounds import lower_bounds
from gsched.cluster import Cluster
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Workflow, Workload

MODEL = Model("m", 16.0)
FLOW = Workflow("w", (Node("a", "m"), Node("b", "m")), ((0, 1),))
CONFIG = Config({"m": MODEL}, {"w": FLOW})


def workload(**changes: Any) -> Workload:
    columns: dict[str, Any] = {
        "request_ids": ["r0", "r1"],
        "workflow": [0, 0],
        "timestamp": [0, 5],
        "duration": [1.0] * 4,
    }
    return Workload(CONFIG, **(columns | changes))


@pytest.mark.parametrize(
    "field",
    ["memory_gb", "load_time_seconds", "tokens_per_second", "token_mean", "token_std", "inference_time_mean"],
)
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan, 1e300])
def test_model_refuses_numbers_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"model 'm': {field} must be between"):
        replace(MODEL, **{field: value})


@pytest.mark.parametrize("value", [0, -1, 10**7])
def test_model_needs_gpus(value: int) -> None:
    with pytest.raises(ValueError, match="gpus_required must be 1 to"):
        replace(MODEL, gpus_required=value)


def test_model_needs_a_positive_rate() -> None:
    with pytest.raises(ValueError, match="tokens_per_second must be above 0"):
        replace(MODEL, tokens_per_second=0.0)


@pytest.mark.parametrize("edge", [(0, 2), (0, -1), (5, 0)])
def test_edges_lead_to_nodes(edge: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="an edge leads to none of its 2 nodes"):
        replace(FLOW, edges=(edge,))


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_weights_are_shares(weight: float) -> None:
    with pytest.raises(ValueError, match="workflow 'w': weight must be between"):
        replace(FLOW, weight=weight)


def test_nodes_have_ids_of_their_own() -> None:
    with pytest.raises(ValueError, match="two nodes have one id"):
        Workflow("w", (Node("a", "m"), Node("a", "m")))


@pytest.mark.parametrize(
    ("models", "workflows", "complaint"),
    [
        ({"m": MODEL}, {}, "at least one workflow"),
        ({}, {"w": FLOW}, "uses unknown models: m"),
        ({"m": MODEL}, {"w": Workflow("w", ())}, "has no nodes"),
        ({"m": MODEL}, {"w": replace(FLOW, edges=((0, 1), (1, 0)))}, "form a cycle"),
        ({"n": MODEL}, {"w": FLOW}, "under their own ids"),
        ({"m": MODEL}, {"v": FLOW}, "under their own ids"),
    ],
)
def test_config_refuses_what_makes_no_sense(models: Any, workflows: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Config(models, workflows)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"request_ids": ["r0", "r0"]}, "two requests have one id"),
        ({"timestamp": [0]}, "of one length"),
        ({"workflow": [0, 1]}, "outside config.workflows"),
        ({"workflow": [0, -1]}, "outside config.workflows"),
        ({"duration": [1.0]}, "must hold 4 values, not 1"),
        ({"duration": [1.0, -1.0, 1.0, 1.0]}, "not between 0 and"),
        ({"duration": [1.0, math.nan, 1.0, 1.0]}, "not between 0 and"),
        ({"duration": [1.0, 1e300, 1.0, 1.0]}, "not between 0 and"),
        ({"deadline": [1.0]}, "deadline must hold 2 values, not 1"),
        ({"deadline": [1.0, -1.0]}, "deadline holds a value that is neither infinity nor between 0 and"),
        ({"deadline": [1.0, math.nan]}, "deadline holds a value that is neither"),
        ({"deadline": [-math.inf, 1.0]}, "deadline holds a value that is neither"),
        ({"deadline": [1e300, 1.0]}, "deadline holds a value that is neither"),
        ({"tier": [1]}, "tier must hold 2 values, not 1"),
        ({"tier": [1, 0]}, "tier holds a value that is not between 1 and 100"),
        ({"tier": [101, 1]}, "tier holds a value that is not between 1 and 100"),
    ],
)
def test_workload_refuses_what_makes_no_sense(changes: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        workload(**changes)


def test_workload_takes_lists_and_leaves_arrays_alone() -> None:
    duration = np.array([1, 2, 3, 4])
    seconds = np.ones(4)
    assert workload(duration=duration).duration.tolist() == [1.0, 2.0, 3.0, 4.0]
    kept = workload(duration=seconds)
    assert seconds.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        kept.duration[0] = 5.0


@pytest.mark.parametrize("mode", ["Offline", "onlne", "", None])
def test_mode_is_offline_or_online(mode: Any) -> None:
    with pytest.raises(ValueError, match="mode must be offline or online"):
        simulate(workload(), Cluster(1), "baseline", mode)
    with pytest.raises(ValueError, match="mode must be offline or online"):
        lower_bounds(workload(), Cluster(1), mode)


def test_levels_are_the_longest_paths() -> None:
    """Edges 0-2, 0-1, 1-2, 2-4 and a node 3 of its own: 2 waits for the longer of its two paths."""
    nodes = tuple(Node(f"n{i}", "m") for i in range(5))
    deep = Workflow("deep", nodes, ((2, 4), (0, 2), (0, 1), (1, 2)))
    config = Config({"m": MODEL}, {"w": FLOW, "deep": deep})
    assert deep.level == (0, 1, 2, 0, 3)
    assert replace(workload(), config=config).template_level.tolist() == [0, 1, 0, 1, 2, 0, 3]


def test_due_is_the_deadline_after_the_arrival() -> None:
    urgent = workload(timestamp=[3_000_000_000, 1_000_000_000], deadline=[2.5, math.inf])
    assert urgent.due("online").tolist() == [4.5, math.inf]
    assert urgent.due("offline").tolist() == [2.5, math.inf]
    assert workload().due("online").tolist() == [math.inf, math.inf]


@given(workloads(), st.data())
def test_selected_requests_are_what_they_were(whole: Workload, data: st.DataObject) -> None:
    everything = list(range(whole.request_count))
    chosen = data.draw(st.lists(st.sampled_from(everything), unique=True))
    part = whole.select(np.array(chosen, np.int64))
    assert part.config is whole.config
    assert list(part.request_ids) == [whole.request_ids[request] for request in chosen]
    for request, original in enumerate(chosen):
        mine = part.duration[part.first_node[request] : part.first_node[request + 1]]
        theirs = whole.duration[whole.first_node[original] : whole.first_node[original + 1]]
        assert mine.tolist() == theirs.tolist()
    for column in ("workflow", "timestamp", "deadline", "tier"):
        before, after = getattr(whole, column), getattr(part, column)
        assert (before is None) == (after is None)
        assert before is None or after.tolist() == [before[request] for request in chosen]
