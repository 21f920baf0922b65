"""Placements: valid, complete, true to pins and groups, deterministic; and refusals that say what would suffice."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import clusters, configs

from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.load import load_config, save_config
from gsched.placement import explain_lines, place
from gsched.placement.board import water_level, window_max
from gsched.placement.demand import find_demand
from gsched.workload import Config, Model, Node, Pin, PlacementRules, Workflow, Workload

Placed = tuple[tuple[int, int], ...]


def nothing_yet(config: Config) -> Workload:
    """What is known online before anything has arrived."""
    none = np.zeros(0, np.int64)
    return Workload(config, [], none.astype(np.int32), none, none.astype(float))


def batch(config: Config, flows: list[int]) -> Workload:
    """A request for each of some workflows, whose nodes all take 3 s."""
    sizes = [len(flow.nodes) for flow in config.workflows.values()]
    nodes = sum(sizes[flow] for flow in flows)
    ids = [f"r{i}" for i in range(len(flows))]
    return Workload(config, ids, np.array(flows, np.int32), np.arange(len(flows)), np.full(nodes, 3.0))


@st.composite
def rules(draw: st.DrawFn, models: list[str], cluster: Cluster) -> PlacementRules:
    """Pins and groups, many of which cannot be kept."""
    pins = []
    for model in draw(st.lists(st.sampled_from(models), max_size=2, unique=True)):
        if draw(st.booleans()):
            places = st.integers(0, cluster.gpus - 1)
            pins.append(Pin(model, gpus=tuple(sorted(draw(st.sets(places, min_size=1, max_size=4))))))
        else:
            places = st.integers(0, (cluster.gpus - 1) // cluster.server_size)
            pins.append(Pin(model, servers=tuple(sorted(draw(st.sets(places, min_size=1, max_size=2))))))
    if len(models) < 2:
        return PlacementRules(tuple(pins))
    groups = draw(st.lists(st.lists(st.sampled_from(models), min_size=2, max_size=3, unique=True), max_size=2))
    return PlacementRules(tuple(pins), tuple(map(tuple, groups)))


@st.composite
def problems(draw: st.DrawFn, ruled: bool = True) -> tuple[Config, Cluster]:
    cluster = replace(draw(clusters()), gpu_memory_gb=draw(st.sampled_from([20.0, 80.0, 200.0])))
    config = draw(configs(min(4, cluster.gpus)))
    if ruled and draw(st.booleans()):
        config = replace(config, placement=draw(rules(list(config.models), cluster)))
    return config, cluster


def place_or_not(config: Config, cluster: Cluster, fill: bool = True) -> Placed | None:
    try:
        return place(nothing_yet(config), cluster, "online", fill=fill)
    except InputError:
        return None


def gangs_of(placed: Placed, model: int) -> list[int]:
    return [gang for m, gang in placed if m == model]


@given(problems(), st.booleans())
def test_placements_are_valid(problem: tuple[Config, Cluster], fill: bool) -> None:
    config, cluster = problem
    placed = place_or_not(config, cluster, fill)
    assume(placed is not None)
    models = list(config.models.values())
    assert len(set(placed)) == len(placed)
    memory = [0.0] * cluster.gpus
    for position, gang in placed:
        size = models[position].gpus_required
        gpus = range(gang, gang + size)
        assert gpus[-1] < cluster.gpus
        servers = {gpu // cluster.server_size for gpu in gpus}
        assert len(servers) == 1 if size <= cluster.server_size else gang % cluster.server_size == 0
        for gpu in gpus:
            memory[gpu] += models[position].memory_gb / size
    for position, model in enumerate(models):
        gangs = gangs_of(placed, position)
        assert all(b - a >= model.gpus_required for a, b in pairwise(gangs)), "instances overlap"
    assert max(memory) <= cluster.gpu_memory_gb * (1 + 1e-8)
    used = {node.model for flow in config.workflows.values() for node in flow.nodes}
    assert {models[position].id for position, _ in placed} >= used


@given(problems(), st.booleans())
def test_pins_and_groups_are_kept(problem: tuple[Config, Cluster], fill: bool) -> None:
    config, cluster = problem
    placed = place_or_not(config, cluster, fill)
    assume(placed is not None)
    models = list(config.models.values())
    gpus: dict[str, set[int]] = {model.id: set() for model in models}
    for position, gang in placed:
        gpus[models[position].id] |= set(range(gang, gang + models[position].gpus_required))
    servers = {id: {gpu // cluster.server_size for gpu in held} for id, held in gpus.items()}
    for pin in config.placement.pins:
        if pin.gpus:
            assert gpus[pin.model] == set(pin.gpus)
        else:
            assert servers[pin.model] == set(pin.servers)
    for group in config.placement.groups:
        assert len({frozenset(servers[id]) for id in group if gpus[id]}) <= 1


@given(problems())
def test_a_refusal_names_the_smallest_cluster(problem: tuple[Config, Cluster]) -> None:
    config, cluster = problem
    try:
        place(nothing_yet(config), cluster, "online")
    except InputError as error:
        texts = [str(found) for found in error.problems]
    else:
        return
    assert all(texts)
    enough = {int(found[1]) for text in texts if (found := re.search(r"all models fit from (\d+) GPUs on", text))}
    assert len(enough) <= 1
    for gpus in enough:
        assert gpus > cluster.gpus
        assert place_or_not(config, replace(cluster, gpus=gpus)) is not None
        assert place_or_not(config, replace(cluster, gpus=gpus - 1)) is None
    if any("no number of GPUs suffices" in text for text in texts):
        assert place_or_not(config, replace(cluster, gpus=cluster.gpus + 200)) is None


@given(problems(ruled=False))
def test_without_rules_only_a_model_larger_than_its_gpus_fits_no_cluster(problem: tuple[Config, Cluster]) -> None:
    config, cluster = problem
    used = {node.model for flow in config.workflows.values() for node in flow.nodes}
    share = max(config.models[id].memory_gb / config.models[id].gpus_required for id in used)
    with_plenty = place_or_not(config, replace(cluster, gpus=cluster.gpus + 200))
    assert (with_plenty is None) == (share > cluster.gpu_memory_gb)


@given(problems())
def test_placing_again_gives_the_same(problem: tuple[Config, Cluster]) -> None:
    assert place_or_not(*problem) == place_or_not(*problem)


@given(problems(ruled=False))
def test_what_fits_a_cluster_fits_a_larger_one(problem: tuple[Config, Cluster]) -> None:
    config, cluster = problem
    if place_or_not(config, cluster) is not None:
        assert place_or_not(config, replace(cluster, gpus=cluster.gpus + 1)) is not None


@given(problems(), st.lists(st.integers(0, 0), max_size=5))
def test_every_placement_can_be_explained(problem: tuple[Config, Cluster], flows: list[int]) -> None:
    config, cluster = problem
    known = batch(config, flows)
    try:
        placed = place(known, cluster, "offline")
    except InputError:
        return
    lines = explain_lines(known, cluster, "offline", placed)
    models = list(config.models.values())
    for gpu in range(cluster.gpus):
        (line,) = [line for line in lines if line.startswith(f"  GPU {gpu}: ")]
        held = {models[m].id for m, gang in placed if gang <= gpu < gang + models[m].gpus_required}
        assert all(id in line for id in held) or "nothing" in line


def small(**models: tuple[float, int]) -> Config:
    """Models of some memory and GPUs, each followed by the next in one workflow."""
    made = {id: Model(id, memory, gpus, 1.0, inference_time_mean=2.0) for id, (memory, gpus) in models.items()}
    nodes = tuple(Node(id, id) for id in made)
    return Config(made, {"w": Workflow("w", nodes, tuple((i, i + 1) for i in range(len(nodes) - 1)))})


def test_a_refusal_has_one_line_for_each_model_that_does_not_fit() -> None:
    config = small(a=(60, 1), b=(50, 1), c=(160, 4))
    with pytest.raises(InputError) as refused:
        place(nothing_yet(config), Cluster(4), "online")
    assert [str(found) for found in refused.value.problems] == [
        "model a: cannot be placed: it needs 60 GB on a GPU, of 80 GB; all models fit from 6 GPUs on",
        "model b: cannot be placed: it needs 50 GB on a GPU, of 80 GB; all models fit from 6 GPUs on",
    ]


def test_a_model_too_large_for_any_gpu_is_refused_for_good() -> None:
    with pytest.raises(InputError, match=r"model a: cannot be placed: it needs 90 GB .* no number of GPUs suffices"):
        place(nothing_yet(small(a=(90, 1), b=(50, 1))), Cluster(4), "online")


def test_groups_that_no_server_holds_are_refused_for_good() -> None:
    config = replace(small(a=(60, 1), b=(50, 1)), placement=PlacementRules(groups=(("a", "b"),)))
    assert place_or_not(config, Cluster(2, 2)) is not None
    with pytest.raises(InputError, match="no number of GPUs suffices: move a pin or split a group"):
        place(nothing_yet(config), Cluster(2, 1), "online")


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        (Pin("a", gpus=(0, 9)), "a: is pinned to GPU 9, the cluster has 0 to 7; add GPUs or move the pin"),
        (Pin("a", gpus=(0,)), "a: is pinned to GPUs 0, where no gang of 2 may stand"),
        (Pin("a", gpus=(3, 4)), "a: is pinned to GPUs 3, 4, where no gang of 2 may stand"),
        (Pin("a", servers=(2,)), "a: is pinned to server 2, the cluster has 0 to 1"),
        (Pin("wide", servers=(0,)), "wide: needs 8 GPUs, a server has 4; pin it to gpus"),
    ],
)
def test_pins_that_cannot_be_kept_are_refused(pin: Pin, message: str) -> None:
    config = replace(small(a=(10, 2), b=(10, 1), wide=(80, 8)), placement=PlacementRules((pin,)))
    with pytest.raises(InputError, match=re.escape(message)):
        place(nothing_yet(config), Cluster(8, 4), "online")


def test_a_model_pinned_to_servers_stands_in_each_though_one_would_do() -> None:
    config = replace(small(a=(10, 1)), placement=PlacementRules((Pin("a", servers=(0, 2)),)))
    assert {gang // 2 for _, gang in place(nothing_yet(config), Cluster(6, 2), "online", fill=False)} == {0, 2}
    idle = replace(config, workflows={"w": replace(config.workflows["w"], weight=0.0)})
    assert {gang // 2 for _, gang in place(nothing_yet(idle), Cluster(6, 2), "online")} == {0, 2}


def test_a_hot_model_pinned_to_a_server_is_not_spread() -> None:
    config = replace(small(a=(10, 1)), placement=PlacementRules((Pin("a", servers=(1,)),)))
    assert place(nothing_yet(config), Cluster(6, 2), "online") == ((0, 2), (0, 3))


def test_spreading_the_load_leaves_room_for_all() -> None:
    """Each model on the GPU with less work would leave no room for the last; two GPUs of 80 GB are full to the brim."""
    config = small(a=(40, 1), b=(40, 1), c=(30, 1), d=(30, 1), e=(20, 1))
    placed = place(nothing_yet(config), Cluster(2), "online")
    assert sorted(model for model, _ in placed) == [0, 1, 2, 3, 4]


def test_a_hot_model_of_a_group_takes_the_group_along() -> None:
    made = {"a": Model("a", 10.0, 1, 1.0, inference_time_mean=9.0), "b": Model("b", 75.0, 1, 1.0)}
    flows = {"w": Workflow("w", (Node("x", "a"),)), "v": Workflow("v", (Node("x", "b"),), weight=0.0)}
    for fill in (True, False):
        config = Config(made, flows, PlacementRules(groups=(("a", "b"),)))
        placed = place(nothing_yet(config), Cluster(8, 2), "online", fill=fill)
        assert len(gangs_of(placed, 0)) > 1
        assert {gang // 2 for gang in gangs_of(placed, 0)} == {gang // 2 for gang in gangs_of(placed, 1)}


def test_a_group_skips_a_server_that_holds_but_a_part_of_it() -> None:
    rules = PlacementRules((Pin("c", gpus=(0,)),), (("a", "b"),))
    config = replace(small(a=(50, 1), b=(75, 1), c=(75, 1)), placement=rules)
    placed = place(nothing_yet(config), Cluster(4, 2), "online", fill=False)
    assert {gang // 2 for model, gang in placed if model < 2} == {1}


def test_grouped_models_pinned_apart_are_refused() -> None:
    pins = (Pin("a", servers=(0,)), Pin("b", servers=(1,)))
    config = replace(small(a=(10, 1), b=(10, 1)), placement=PlacementRules(pins, (("a", "b"),)))
    with pytest.raises(InputError, match="a, b belong together but are pinned to different servers"):
        place(nothing_yet(config), Cluster(8, 4), "online")


def test_hot_models_get_replicas_and_cold_ones_one() -> None:
    """The case of the documents: a hot model in both servers, with the model that follows it."""
    made = {
        id: Model(id, 50.0, 1, 1.0, inference_time_mean=t) for id, t in (("hot", 9.0), ("next", 3.0), ("cold", 1.0))
    }
    made["wide"] = Model("wide", 200.0, 4, 1.0, inference_time_mean=2.0)
    flows = {
        "often": Workflow("often", (Node("x", "hot"), Node("y", "next")), ((0, 1),), weight=9.0),
        "seldom": Workflow("seldom", (Node("x", "cold"), Node("y", "wide")), ((0, 1),), weight=1.0),
    }
    placed = place(nothing_yet(Config(made, flows)), Cluster(12, 4), "online", fill=False)
    count = [len(gangs_of(placed, model)) for model in range(4)]
    assert count[0] > count[1] > 0
    assert count[2:] == [1, 1]
    assert {gang // 4 for gang in gangs_of(placed, 0)} == {gang // 4 for gang in gangs_of(placed, 1)}


def test_models_without_a_profile_cannot_be_weighed_online() -> None:
    config = small(a=(10, 1), b=(10, 1))
    config = replace(config, models={**config.models, "b": Model("b", 10.0)})
    with pytest.raises(InputError, match="model b: has no profile, so its share of the work is unknown"):
        place(nothing_yet(config), Cluster(2), "online")
    assert place(batch(config, [0]), Cluster(2), "offline")
    unused = replace(config, workflows={"w": replace(config.workflows["w"], weight=0.0)})
    assert {model for model, _ in place(nothing_yet(unused), Cluster(2), "online")} == {0, 1}


def test_offline_only_what_the_batch_uses_is_placed() -> None:
    config = small(a=(10, 1), b=(90, 1))
    alone = replace(config, workflows={"only": Workflow("only", (Node("x", "a"),)), **config.workflows})
    assert {model for model, _ in place(batch(alone, [0, 0]), Cluster(2), "offline")} == {0}
    with pytest.raises(InputError, match="model b"):
        place(nothing_yet(alone), Cluster(2), "online")


def test_demand_counts_work_and_edges_by_frequency() -> None:
    config = small(a=(10, 1), b=(10, 1))
    demand = find_demand(batch(config, [0, 0, 0]), "offline")
    assert demand.work.tolist() == [9.0, 9.0]
    assert demand.edges.tolist() == [[0.0, 3.0], [3.0, 0.0]]
    assert find_demand(nothing_yet(config), "online").work.tolist() == [2.0, 2.0]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.floats(0, 1000))
def test_water_fills_vessels_to_one_level(bottoms: list[float], amount: float) -> None:
    level = water_level(np.array(bottoms), amount)
    assert sum(max(0.0, level - bottom) for bottom in bottoms) == pytest.approx(amount, abs=1e-6)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(1, 12))
def test_window_maxima(values: list[float], size: int) -> None:
    assume(size <= len(values))
    expected = [max(values[i : i + size]) for i in range(len(values) - size + 1)]
    assert window_max(np.array(values), size).tolist() == expected


def problem(section: object, tmp_path: Path) -> Path:
    """A config of three models with a placement section."""
    models = {id: {"memory_gb": 8, "load_time_seconds": 1, "inference_time_mean": 1} for id in "abc"}
    nodes = [{"id": id, "model": id} for id in "abc"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"models": models, "workflows": {"w": {"nodes": nodes}}, "placement": section}))
    return path


def test_the_placement_section_is_read_and_written_back(tmp_path: Path) -> None:
    pins = [{"model": "a", "gpus": [1, 0]}, {"model": "b", "servers": [2]}]
    config = load_config(problem({"pins": pins, "groups": [["b", "c"]]}, tmp_path))
    assert config.placement == PlacementRules((Pin("a", gpus=(0, 1)), Pin("b", servers=(2,))), (("b", "c"),))
    save_config(config, tmp_path / "again.json")
    assert load_config(tmp_path / "again.json") == config
    save_config(replace(config, placement=PlacementRules()), tmp_path / "plain.json")
    assert "placement" not in json.loads((tmp_path / "plain.json").read_text())


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ([], "placement: must be a mapping, not a list"),
        ({"pins": {}}, "placement.pins: must be a list, not a mapping"),
        ({"pins": ["a"]}, 'placement.pins[0]: must be a mapping, not "a"'),
        ({"pins": [{"gpus": [0]}]}, "placement.pins[0]: has no model"),
        ({"pins": [{"model": "x", "gpus": [0]}]}, 'placement.pins[0].model: "x" is an unknown model'),
        ({"pins": [{"model": "a"}]}, "placement.pins[0]: must name either gpus or servers"),
        ({"pins": [{"model": "a", "gpus": [0], "servers": [0]}]}, "must name either gpus or servers"),
        ({"pins": [{"model": "a", "gpus": []}]}, "placement.pins[0].gpus: is empty"),
        ({"pins": [{"model": "a", "gpus": [0, 0]}]}, "placement.pins[0].gpus: names one twice"),
        ({"pins": [{"model": "a", "gpus": [-1]}]}, "placement.pins[0].gpus: must be a list of whole numbers"),
        ({"pins": [{"model": "a", "servers": [True]}]}, "placement.pins[0].servers: must be a list of whole numbers"),
        ({"pins": [{"model": "a", "servers": [0]}] * 2}, 'placement.pins[1]: pins model "a" again'),
        ({"groups": [["a"]]}, "placement.groups[0]: must name two or more different models"),
        ({"groups": [["a", "a"]]}, "placement.groups[0]: must name two or more different models"),
        ({"groups": ["ab"]}, 'placement.groups[0]: must be a list of models, not "ab"'),
        ({"groups": [["a", "x"]]}, 'placement.groups[0][1]: "x" is an unknown model'),
    ],
)
def test_what_is_wrong_with_a_placement_section_is_said(section: object, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(complaint)):
        load_config(problem(section, tmp_path))


@pytest.mark.parametrize(
    "rules",
    [
        {"pins": (Pin("a", (0,)), Pin("a", (1,)))},
        {"pins": (Pin("a"),)},
        {"pins": (Pin("a", (0,), (0,)),)},
        {"groups": (("a",),)},
        {"groups": (("a", "a"),)},
    ],
)
def test_rules_are_validated_when_built(rules: dict[str, tuple[object, ...]]) -> None:
    with pytest.raises(ValueError, match=r"pin|group"):
        PlacementRules(**rules)  # type: ignore[arg-type]


def test_rules_name_known_models() -> None:
    with pytest.raises(ValueError, match="the placement names unknown models: x"):
        replace(small(a=(1, 1)), placement=PlacementRules((Pin("x", (0,)),)))
