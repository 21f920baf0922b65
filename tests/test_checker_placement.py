"""What the checker says of static deployments: placements, assignments, and rows that run elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from test_checker import changed, rules, with_gangs

from gsched.checker import check
from gsched.cluster import Cluster
from gsched.log import Labels, Log
from gsched.workload import Config, Model, Node, Workflow, Workload

# Two servers of two GPUs of 60 GB; `p` takes two GPUs, 20 GB on each
MODELS = {"a": Model("a", 10, 1, 1.0), "b": Model("b", 40, 1, 2.0), "p": Model("p", 40, 2)}
CONFIG = Config(MODELS, {name: Workflow(name, (Node("n", name),)) for name in MODELS})
CLUSTER = Cluster(4, 2, 60.0, pcie_bandwidth=10.0, switch_overhead=2.0)
PLACEMENT = [("p", [0, 1]), ("b", [0]), ("a", [1]), ("a", [2])]
STARTS = [("p", 0), ("b", 0), ("a", 1), ("a", 2), ("p", 0)]
WORKLOAD = Workload(
    CONFIG,
    [f"r{i}" for i in range(len(STARTS))],
    np.array([list(MODELS).index(model) for model, _ in STARTS]),
    np.zeros(len(STARTS), np.int64),
    np.ones(len(STARTS)),
)
# Each row takes one second of five: GPU 0 is in use for 60 %
PARTS = {
    "placement": [{"model": model, "gpu_ids": gpus} for model, gpus in PLACEMENT],
    "gpu_assignments": {
        "0": {"server_id": 0, "assigned_models": ["p", "b"], "utilization": 60.0},
        "1": {"server_id": 0, "assigned_models": ["p", "a"], "utilization": 60.0},
        "2": {"server_id": 1, "assigned_models": ["a"], "utilization": 20.0},
        "3": {"server_id": 1, "assigned_models": [], "utilization": 0},
    },
    "server_assignments": {
        "0": {"gpu_ids": [0, 1], "models": ["a", "b", "p"]},
        "1": {"gpu_ids": [2, 3], "models": ["a"]},
    },
}
SUMMARY = {
    **{"policy": "static", "mode": "offline", "gpus": [0, 1, 2, 3], "gpus_per_server": 2, "gpu_memory_gb": 60.0},
    **{"pcie_bandwidth": 10.0, "switch_overhead": 2.0, "makespan": 5.0},
    **{"total_model_switches": 0, "total_model_loads": 0, "total_switch_time": 0, "switch_overhead_percent": 0},
    **{"deployment_time_seconds": 8.0, "average_utilization": 35.0, "utilization_variance": 675.0},
}


def hand(extra=PARTS, starts=STARTS) -> Log:
    """The nodes one after another, each for a second."""
    begin = np.arange(len(starts), dtype=np.float64)
    models = Labels.of([model for model, _ in starts])
    log = Log(
        Labels.of([f"r{i}" for i in range(len(starts))]),
        models,
        Labels.of(["n"] * len(starts)),
        models,
        np.array([gpu for _, gpu in starts], np.int32),
        begin,
        begin + 1,
        switch_time=np.zeros(len(starts)),
        summary=SUMMARY,
        extra=extra,
    )
    return with_gangs(log, [list(range(gpu, gpu + MODELS[name].gpus_required)) for name, gpu in starts])


def parts(**changes: object) -> dict[str, object]:
    """The parts with some replaced, and without those that are None."""
    return {name: part for name, part in (PARTS | changes).items() if part is not None}


def placed(*instances: tuple[str, list[int]]) -> list[dict[str, object]]:
    return [{"model": model, "gpu_ids": gpus} for model, gpus in instances]


def test_the_deployment_worked_out_by_hand_is_valid():
    report = check(hand(), WORKLOAD)
    assert report.violations == ()
    assert {"placement", "deployment", "assignments", "switch_time", "warm"} <= set(report.rules_checked)
    assert not any("placement" in sentence or "summary" in sentence for sentence in report.unchecked)
    alone = check(hand())
    assert alone.valid
    assert {"placement", "assignments", "warm"} <= set(alone.rules_checked)
    assert "that the placement fits the GPUs" in " ".join(alone.unchecked)


@pytest.mark.parametrize("kept", [("placement",), ("gpu_assignments",), ("placement", "gpu_assignments")])
def test_some_parts_are_enough(kept: tuple[str, ...]):
    log = hand({name: PARTS[name] for name in kept})
    log = replace(log, summary=SUMMARY | ({} if "placement" in kept else {"deployment_time_seconds": None}))
    assert check(log, WORKLOAD).valid
    assert check(log).valid
    elsewhere = changed(changed(log, 3, gpu_id=3), 3, gpu_ids=[3])
    for report in (check(elsewhere, WORKLOAD), check(elsewhere)):
        (violation,) = [found for found in report.violations if found.rule == "placement"]
        assert violation.message == "runs where its model was not placed: row 3 (request r3, node n): a"


def test_without_a_deployment_no_rule_speaks_of_one():
    log = replace(hand({}), switch_time=np.array([6.0, 0, 0, 0, 0]))
    assert not {"placement", "deployment", "assignments"} & set(check(log, WORKLOAD).rules_checked)
    assert {"switch_time", "summary"} <= rules(check(hand({}), WORKLOAD))
    servers = hand({"server_assignments": PARTS["server_assignments"]})
    assert {"switch_time"} <= rules(check(servers, WORKLOAD))


def test_what_is_placed_is_there_without_loading():
    slow = replace(changed(hand(), 4, switch_time=0.5), summary={})
    assert rules(check(slow, WORKLOAD, CLUSTER, "offline")) == {"switch_time", "warm", "assignments"}
    assert rules(check(slow, None, CLUSTER, "offline")) == {"warm", "assignments"}


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        (placed(*PLACEMENT, ("x", [3])), "the placement is impossible: x on [3] is no model of the workload"),
        (placed(*PLACEMENT, ("a", [2, 3])), "the placement is impossible: a on [2, 3] needs 1 GPUs"),
        (placed(*PLACEMENT, ("p", [3])), "the placement is impossible: p on [3] needs 2 GPUs"),
        (placed(*PLACEMENT, ("p", [3, 2])), "the placement is impossible: p on [3, 2] is not on GPUs that follow each"),
        (placed(*PLACEMENT, ("p", [2, 2])), "the placement is impossible: p on [2, 2] is not on GPUs that follow each"),
        (placed(*PLACEMENT, ("a", [4])), "the placement is impossible: a on [4] is outside the cluster (0 to 3)"),
        (placed(*PLACEMENT, ("p", [1, 2])), "the placement is impossible: p on [1, 2] is neither inside a server of 2"),
        (placed(*PLACEMENT, ("b", [1])), "the placement does not fit the memory: GPU 1 of 60.0 GB holds 70.0 GB"),
        (placed(*PLACEMENT, ("p", [0, 1])), "the placement does not fit the memory: GPU 0 of 60.0 GB holds 80.0 GB"),
    ],
)
def test_an_impossible_placement_is_found(placement: object, message: str):
    report = check(hand({"placement": placement}), WORKLOAD)
    assert any(found.message.startswith(message) for found in report.violations if found.rule == "deployment")
    assert "placement" not in rules(report) or "twice" in str(report.violations)
    assert not {"switch_time", "warm"} & rules(report)


def test_a_gang_of_several_servers_begins_with_one():
    model = {"w": Model("w", 90, 3)}
    config = Config(model, {"w": Workflow("w", (Node("n", "w"),))})
    workload = Workload(config, [], np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0))
    for gpus, valid in (([2, 3, 4], True), ([1, 2, 3], False)):
        log = replace(hand({"placement": placed(("w", gpus))}, []), summary={"total_model_switches": 0})
        assert check(log, workload, Cluster(6, 2)).valid == valid


def test_memory_may_be_off_by_the_tolerance():
    log = hand({"placement": PARTS["placement"]})
    for memory, valid in ((60 * (1 - 9e-10), True), (60 * (1 - 2e-9), False)):
        cluster = replace(CLUSTER, gpu_memory_gb=memory)
        report = check(replace(log, summary=SUMMARY | {"gpu_memory_gb": memory}), WORKLOAD, cluster)
        assert rules(report) == (set() if valid else {"deployment"})


def test_a_model_that_is_placed_twice_on_a_gang_is_found():
    log = hand({"placement": placed(*PLACEMENT, ("a", [2]))})
    report = check(replace(log, summary={}))
    assert [found.message for found in report.violations] == ["places a model twice on one gang: a on [2]"]


def test_a_row_with_a_gang_of_another_size_is_not_where_its_model_was_placed():
    log = replace(changed(hand({"placement": PARTS["placement"]}), 4, gpu_ids=[0]), summary={})
    assert rules(check(log)) == {"placement"}
    assert check(replace(log, gpu_ids=None)).valid  # its gangs are not known
    other = replace(changed(hand({"placement": PARTS["placement"]}), 4, model_name="b"), summary={})
    assert rules(check(other)) == {"placement"}
    nobody = replace(changed(hand({"placement": PARTS["placement"]}), 4, model_name="nobody"), summary={})
    assert rules(check(nobody)) == {"placement"}


GPU = PARTS["gpu_assignments"]
SERVER = PARTS["server_assignments"]


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("gpu_assignments", GPU | {"0": GPU["0"] | {"server_id": 1}}, "GPU 0 is in server 0, not 1"),
        ("gpu_assignments", GPU | {"0": GPU["0"] | {"assigned_models": ["p"]}}, "GPU 0 has b, p, not p"),
        ("gpu_assignments", GPU | {"3": GPU["3"] | {"assigned_models": ["p"]}}, "GPU 3 has no models, not p"),
        (
            "gpu_assignments",
            GPU | {"0": GPU["0"] | {"utilization": 61.0}},
            "GPU 0 is in use for 60.0 % of the makespan",
        ),
        ("gpu_assignments", GPU | {"3": GPU["3"] | {"utilization": float("nan")}}, "GPU 3 is in use for 0.0 %"),
        ("gpu_assignments", GPU | {"4": GPU["3"]}, "it has GPU 4, which the cluster has not"),
        ("gpu_assignments", {"0": GPU["0"]}, "it lacks GPU 1; it lacks GPU 2"),
        ("server_assignments", SERVER | {"0": SERVER["0"] | {"gpu_ids": [0, 1, 2]}}, "server 0 has GPUs 0 to 1, not ["),
        ("server_assignments", SERVER | {"0": SERVER["0"] | {"models": ["a", "b"]}}, "server 0 has a, b, p, not a, b"),
        ("server_assignments", SERVER | {"1": SERVER["1"] | {"models": ["a", "b"]}}, "server 1 has a, not a, b"),
        ("server_assignments", {"0": SERVER["0"]}, "it lacks server 1"),
        ("server_assignments", SERVER | {"2": SERVER["0"]}, "it has server 2, which the cluster has not"),
    ],
)
def test_a_wrong_assignment_is_found(name: str, part: object, message: str):
    report = check(hand(parts(**{name: part})), WORKLOAD)
    assert [found.rule for found in report.violations] == ["assignments"]
    assert report.violations[0].message.startswith(f"{name} is wrong: {message}")
    assert rules(check(hand(parts(**{name: part})))) == {"assignments"}


def test_the_last_server_may_be_partial():
    servers = {"0": {"gpu_ids": [0, 1, 2], "models": ["a", "b", "p"]}, "1": {"gpu_ids": [3], "models": []}}
    log = hand({"placement": PARTS["placement"], "server_assignments": servers})
    assert check(replace(log, summary=SUMMARY | {"gpus_per_server": 3}), WORKLOAD).valid


def test_a_gang_across_placed_ones_is_not_placed():
    """GPUs 1 and 2 both have `p`, each for another gang."""
    both = {"server_id": 0, "assigned_models": ["p"]}
    extra = {"placement": placed(("p", [0, 1]), ("p", [2, 3])), "gpu_assignments": {str(gpu): both for gpu in range(4)}}
    log = replace(hand(extra, [("p", 0), ("p", 1), ("p", 2)]), summary={})
    (violation,) = check(log, None, Cluster(4)).violations
    assert (violation.rule, violation.rows) == ("placement", (1,))
    del extra["placement"]
    assert check(replace(log, extra=extra), None, Cluster(4)).valid


def test_rows_elsewhere_are_not_judged_further_where_gangs_are_not_told():
    extra = {"gpu_assignments": {gpu: {"assigned_models": told["assigned_models"]} for gpu, told in GPU.items()}}
    log = changed(changed(changed(hand(extra), 3, gpu_id=3), 3, gpu_ids=[3]), 3, switch_time=0.5)
    log = replace(log, summary={"mode": "offline", "total_model_switches": 0})
    assert rules(check(log, WORKLOAD, CLUSTER)) == {"placement"}


def test_what_assignments_leave_out_is_not_judged():
    bare = {gpu: {"assigned_models": told["assigned_models"]} for gpu, told in GPU.items()}
    assert check(hand(parts(gpu_assignments=bare)), WORKLOAD).valid
    alone = hand({"gpu_assignments": {gpu: told for gpu, told in GPU.items() if gpu != "3"}})
    alone = replace(alone, summary=SUMMARY | {"deployment_time_seconds": None})
    assert check(alone, WORKLOAD).valid
    assert "assignments" not in rules(check(hand({"server_assignments": SERVER})))
    without = check(replace(hand(), gpu_ids=None))
    assert without.valid


MALFORMED: dict[str, object] = {
    "no list": {"placement": {"a": [0]}},
    "a text": {"placement": "a on 0"},
    "a number": {"placement": 7},
    "an instance of null": {"placement": [None]},
    "a list as instance": {"placement": [["a", 0]]},
    "no model": {"placement": [{"gpu_ids": [0]}]},
    "model a number": {"placement": [{"model": 3, "gpu_ids": [0]}]},
    "no GPUs": {"placement": [{"model": "a"}]},
    "empty GPUs": {"placement": [{"model": "a", "gpu_ids": []}]},
    "GPU a text": {"placement": [{"model": "a", "gpu_ids": ["0"]}]},
    "GPU a fraction": {"placement": [{"model": "a", "gpu_ids": [0.5]}]},
    "GPU a boolean": {"placement": [{"model": "a", "gpu_ids": [True]}]},
    "GPU negative": {"placement": [{"model": "a", "gpu_ids": [-1]}]},
    "GPU huge": {"placement": [{"model": "a", "gpu_ids": [10**9]}]},
    "GPU of 400 digits": {"placement": [{"model": "a", "gpu_ids": [10**400]}]},
    "assignments a list": {"gpu_assignments": [["a"]]},
    "assignment null": {"gpu_assignments": {"0": None}},
    "assignment without models": {"gpu_assignments": {"0": {"server_id": 0}}},
    "GPU's key a name": {"gpu_assignments": {"first": {"assigned_models": []}}},
    "models a text": {"gpu_assignments": {"0": {"assigned_models": "a"}}},
    "models of numbers": {"gpu_assignments": {"0": {"assigned_models": [1]}}},
    "models null": {"gpu_assignments": {"0": {"assigned_models": None}}},
    "server a text": {"gpu_assignments": {"0": {"assigned_models": [], "server_id": "x"}}},
    "utilization a text": {"gpu_assignments": {"0": {"assigned_models": [], "utilization": "x"}}},
    "servers a list": {"server_assignments": []},
    "server without GPUs": {"server_assignments": {"0": {"models": []}}},
    "server's GPUs a number": {"server_assignments": {"0": {"gpu_ids": 1, "models": []}}},
    "server's models a mapping": {"server_assignments": {"0": {"gpu_ids": [], "models": {}}}},
}


@pytest.mark.parametrize("extra", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_part_that_makes_no_sense_is_found(extra: dict[str, object]):
    (name,) = extra
    for report in (check(hand(extra), WORKLOAD), check(hand(extra))):
        messages = [found.message for found in report.violations if found.rule == "placement"]
        assert messages[0].startswith(f"{name} makes no sense: ")
    rest = check(hand(parts(**extra)))
    assert "placement" in rules(rest)


def test_null_is_as_good_as_missing():
    log = replace(hand(dict.fromkeys(PARTS)), switch_time=np.array([6.0, 0, 0, 0, 0]))
    assert "placement" not in check(log, WORKLOAD).rules_checked


@pytest.mark.parametrize(
    ("order", "used", "seconds"),
    [("ab", "", 7.0), ("ba", "", 10.0), ("ab", "a", 10.0), ("ba", "b", 7.0), ("ab", "b", 7.0), ("ba", "ab", 7.0)],
)
def test_what_was_placed_makes_room_in_its_order_and_before_what_has_run(order: str, used: str, seconds: float):
    """`p` needs 20 GB where `a` and `b` take 50 of 60: it loads for (10 + 40) / 10 + 2 s, or (40 + 40) / 10 + 2 s."""
    starts = [*((model, 2) for model in used), ("p", 2)]
    flows = np.array([list(MODELS).index(model) for model, _ in starts])
    workload = replace(WORKLOAD.select(np.arange(len(starts))), workflow=flows)
    log = hand({"placement": placed(*((model, [2]) for model in order))}, starts)
    switch = np.array([*[0.0] * len(used), seconds])
    log = replace(log, switch_time=switch, start_time=log.start_time + switch, end_time=log.end_time + switch)
    log = replace(log, summary={"mode": "offline", "total_model_switches": 1, "total_model_loads": 0})
    assert rules(check(log, workload, CLUSTER)) == {"placement"}
