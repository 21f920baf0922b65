"""Workloads of more or less load, or without a model."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import tiny
from strategies import SECOND, workloads

from gsched.changes import scaled, without_model
from gsched.errors import InputError
from gsched.workload import Config, Pin, PlacementRules, Workload

factors = st.sampled_from([0.5, 1.5, 2.0, 3.0, 0.1, 2.75]) | st.floats(0.01, 20)


def rows(workload: Workload) -> list[tuple[object, ...]]:
    """All that is known of each request, apart from its name and its arrival."""
    deadline = workload.deadline if workload.deadline is not None else np.zeros(workload.request_count)
    tier = workload.tier if workload.tier is not None else np.zeros(workload.request_count)
    nodes = np.split(workload.duration, workload.first_node[1:-1])
    flows = [workload.workflows[flow] for flow in workload.workflow]
    return list(zip(flows, (tuple(part) for part in nodes), deadline.tolist(), tier.tolist(), strict=True))


@given(workloads(), factors)
def test_online_only_arrivals_change(workload: Workload, factor: float) -> None:
    changed = scaled(workload, factor, "online")
    assert rows(changed) == rows(workload)
    assert changed.request_ids == workload.request_ids
    since = workload.timestamp - workload.timestamp.min()
    assert changed.timestamp.min() == workload.timestamp.min()
    gaps = (changed.timestamp - changed.timestamp.min()) * factor - since
    assert abs(gaps).max() <= factor  # half a nanosecond, and what floats round


@given(workloads(), factors)
def test_online_nobody_overtakes(workload: Workload, factor: float) -> None:
    order = np.argsort(workload.timestamp, kind="stable")
    changed = scaled(workload, factor, "online").timestamp
    assert (np.diff(changed[order]) >= 0).all()
    assert not np.diff(changed[order])[np.diff(workload.timestamp[order]) == 0].any()


@given(workloads(), factors)
def test_offline_requests_are_multiplied(workload: Workload, factor: float) -> None:
    count = workload.request_count
    if not round(factor * count):
        with pytest.raises(InputError, match="leaves no request"):
            scaled(workload, factor, "offline")
        return
    changed = scaled(workload, factor, "offline")
    assert changed.request_count == round(factor * count)
    assert len(set(changed.request_ids)) == changed.request_count
    before, after = rows(workload), rows(changed)
    whole = changed.request_count // count
    assert after[: whole * count] == before * whole
    source = [id.rsplit("~", 1)[0] for id in changed.request_ids]
    position = [list(workload.request_ids).index(id) for id in source]
    assert after == [before[i] for i in position]
    rest = position[whole * count :]
    assert rest == sorted(set(rest))
    assert (changed.timestamp == workload.timestamp[position]).all()


@given(workloads(), st.sampled_from(["online", "offline"]))
def test_the_same_load_is_the_same_workload(workload: Workload, mode: str) -> None:
    assert scaled(workload, 1.0, mode) is workload  # type: ignore[arg-type]


def test_selected_requests_lie_at_even_distances() -> None:
    ten = tiny({"a": 1}, "a", 10)
    assert scaled(ten, 0.5, "offline").request_ids == ["r1", "r3", "r5", "r7", "r9"]
    assert scaled(ten, 1.2, "offline").request_ids[10:] == ["r2~2", "r7~2"]
    assert scaled(ten, 0.1, "offline").request_ids == ["r5"]


def test_arrivals_come_closer_in_whole_nanoseconds() -> None:
    workload = replace(tiny({"a": 1}, "a", 3), timestamp=np.array([7, 12, 8]) * SECOND)
    assert scaled(workload, 2, "online").timestamp.tolist() == [7 * SECOND, 9 * SECOND + SECOND // 2, 7_500_000_000]
    assert scaled(workload, 0.5, "online").timestamp.tolist() == [7 * SECOND, 17 * SECOND, 9 * SECOND]
    nanoseconds = replace(tiny({"a": 1}, "a", 4), timestamp=np.array([0, 10, 11, 20]) + 5)
    assert scaled(nanoseconds, 3, "online").timestamp.tolist() == [5, 8, 9, 12]


@given(st.lists(st.text("a~12\n", max_size=5), min_size=1, max_size=6, unique=True), st.integers(2, 12))
def test_names_stay_unique_whatever_they_look_like(ids: list[str], copies: int) -> None:
    workload = replace(tiny({"a": 1}, "a", len(ids)), request_ids=ids)
    twice = scaled(scaled(workload, copies, "offline"), 2, "offline")
    assert len(set(twice.request_ids)) == 2 * copies * len(ids)
    assert twice.request_ids[: len(ids)] == ids


def test_plain_names_of_copies() -> None:
    assert scaled(tiny({"a": 1}, "a", 1), 3, "offline").request_ids == ["r0", "r0~2", "r0~3"]


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_factors_that_make_no_sense(factor: float) -> None:
    with pytest.raises(InputError, match="is no number above 0"):
        scaled(tiny({"a": 1}, "a"), factor, "online")


def test_loads_beyond_what_can_be_counted() -> None:
    with pytest.raises(InputError, match=r"makes more than 2,147,483,647 nodes"):
        scaled(tiny({"a": 1}, "a", 2), 1e300, "offline")
    apart = replace(tiny({"a": 1}, "a", 2), timestamp=np.array([0, 2**60]))
    with pytest.raises(InputError, match="too far apart"):
        scaled(apart, 0.1, "online")
    with pytest.raises(InputError, match="too far apart"):
        scaled(apart, 1e-310, "online")


@given(workloads())
def test_without_a_model_only_the_requests_that_need_it_are_gone(workload: Workload) -> None:
    for model in workload.config.models:
        needed = [any(node.model == model for node in workload.workflows[flow].nodes) for flow in workload.workflow]
        if all(needed):
            with pytest.raises(InputError, match="is used by all requests"):
                without_model(workload, model)
            continue
        changed = without_model(workload, model)
        assert rows(changed) == [row for row, gone in zip(rows(workload), needed, strict=True) if not gone]
        kept = [i for i, gone in enumerate(needed) if not gone]
        assert list(changed.request_ids) == [workload.request_ids[i] for i in kept]
        assert (changed.timestamp == workload.timestamp[kept]).all()
        assert changed.config.models == {id: m for id, m in workload.config.models.items() if id != model}
        assert all(node.model != model for flow in changed.workflows for node in flow.nodes)


def test_an_unknown_model_cannot_be_dropped() -> None:
    with pytest.raises(InputError, match="model c: is unknown; choose one of a, b"):
        without_model(tiny({"a": 1, "b": 1}, "ab"), "c")


def test_rules_of_placement_lose_the_model() -> None:
    base = tiny({"a": 1, "b": 1, "c": 1}, "a")
    rules = PlacementRules((Pin("a", gpus=(0,)), Pin("c", gpus=(1,))), (("a", "b", "c"), ("b", "c")))
    workload = replace(base, config=Config(base.config.models, base.config.workflows, rules))
    assert without_model(workload, "c").config.placement == PlacementRules((Pin("a", gpus=(0,)),), (("a", "b"),))
