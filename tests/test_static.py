"""The policy static: only on placed instances, near the request's server, and nobody waits for ever."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import Case, cases

from gsched.checker import check
from gsched.cli import main
from gsched.cluster import Cluster
from gsched.errors import InputError
from gsched.load import load_workload
from gsched.log import Log
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Pin, PlacementRules, Workflow, Workload

SECOND = 1_000_000_000
EXAMPLES = Path(__file__).parent.parent / "examples"
DOCUMENTS = ["--config", str(EXAMPLES / "documents.json"), "--requests", str(EXAMPLES / "documents_requests.yaml")]


def static(workload: Workload, cluster: Cluster, mode: str, **options: object) -> Log:
    return simulate(workload, cluster, "static", mode, options=options)  # type: ignore[arg-type]


@given(cases(), st.sampled_from(["oldest", "shortest"]), st.booleans(), st.booleans())
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_everything_runs_where_it_was_placed(case: Case, first: str, fill: bool, trials: bool) -> None:
    try:
        log = static(*case, first=first, fill=fill, trials=trials)
    except InputError:
        assume(False)
    placed = {(part["model"], part["gpu_ids"][0]) for part in log.extra["placement"]}
    assert set(zip(log.model_name.texts(), log.gpu_id.tolist(), strict=True)) <= placed
    assert log.switch_time.max(initial=0.0) == 0
    assert log.summary["total_model_switches"] == log.summary["total_model_loads"] == 0
    assert check(log, *case).violations == ()


def stream(models: list[Model], flows: list[Workflow], requests: list[tuple[float, int]], seconds: float) -> Workload:
    """Requests (arrival, workflow), whose nodes all take as long."""
    config = Config({model.id: model for model in models}, {flow.id: flow for flow in flows})
    nodes = sum(len(flows[flow].nodes) for _, flow in requests)
    arrivals = np.array([round(time * SECOND) for time, _ in requests], np.int64)
    ids = [f"r{i}" for i in range(len(requests))]
    return Workload(config, ids, np.array([flow for _, flow in requests], np.int32), arrivals, np.full(nodes, seconds))


def single(id: str, gpus: int = 1, memory: float = 8.0) -> Model:
    return Model(id, memory, gpus, 1.0, inference_time_mean=1.0)


def alone(model: str) -> Workflow:
    return Workflow(f"only-{model}", (Node("n", model),))


def waits(log: Log, model: str) -> list[float]:
    texts = log.model_name.texts()
    return [wait for wait, name in zip(log.waiting_time.tolist(), texts, strict=True) if name == model]


@pytest.mark.parametrize("batch", [1.0, 1000.0])
def test_a_wide_gang_is_not_starved_by_a_stream_of_small_nodes(batch: float) -> None:
    """Eight small nodes a second on four GPUs, and one node that needs all four: it waits its patience, no longer."""
    stream_of_small = [(i / 8, 0) for i in range(1600)]
    workload = stream([single("s"), single("g", 4)], [alone("s"), alone("g")], [*stream_of_small, (10.05, 1)], 1.0)
    log = static(workload, Cluster(4), "online", batch=batch, patience=20.0)
    (wait,) = waits(log, "g")
    assert wait <= 21.0 if batch > 1 else wait <= 1.0
    assert log.summary["makespan"] > 390


def test_small_nodes_are_not_starved_by_a_stream_of_gangs() -> None:
    """Two gangs a second where one fits, and one small node in a turn: it waits no longer than the turn."""
    gangs = [(i / 2, 0) for i in range(800)]
    workload = stream([single("g", 4), single("s")], [alone("g"), alone("s")], [*gangs, (10.05, 1)], 1.0)
    (wait,) = waits(static(workload, Cluster(4), "online", turn=30.0), "s")
    assert wait <= 31.0


def test_low_load_stays_in_one_server() -> None:
    models = [single("a", memory=30.0), single("b", memory=30.0), single("c", 2, 60.0)]
    flow = Workflow("w", (Node("x", "a"), Node("y", "b"), Node("z", "c")), ((0, 1), (0, 2), (1, 2)))
    workload = stream(models, [flow], [(4.0 * i, 0) for i in range(60)], 1.0)
    log = static(workload, Cluster(12, 4), "online")
    assert log.summary["server_efficiency"] == 100.0
    assert log.summary["cross_server_communications"] == 0
    servers = {gpu // 4 for gpu in log.gpu_id.tolist()}
    assert servers == {0, 1, 2}, "requests are spread over servers"


def test_requests_begin_where_their_whole_workflow_stands() -> None:
    flow = Workflow("w", (Node("x", "a"), Node("y", "b")), ((0, 1),))
    workload = stream([single("a"), single("b")], [flow], [(4.0 * i, 0) for i in range(20)], 1.0)
    rules = PlacementRules((Pin("a", servers=(0, 1)), Pin("b", servers=(1,))))
    log = static(replace(workload, config=replace(workload.config, placement=rules)), Cluster(4, 2), "online")
    assert log.summary["server_efficiency"] == 100.0


def test_offline_goes_by_timestamps() -> None:
    workload = stream([single("a")], [alone("a")], [(2.0, 0), (0.0, 0), (1.0, 0)], 1.0)
    assert static(workload, Cluster(1), "offline").request_id.texts() == ["r1", "r2", "r0"]


def test_short_requests_first_lowers_the_mean_latency() -> None:
    flows = [Workflow("long", tuple(Node(f"n{i}", "a") for i in range(6))), alone("a")]
    workload = stream([single("a")], flows, [(0.0, i % 2) for i in range(20)], 1.0)
    mean = {first: static(workload, Cluster(1), "offline", first=first) for first in ("oldest", "shortest")}
    assert mean["shortest"].summary["average_request_time"] == pytest.approx((10 * 5.5 + sum(range(16, 71, 6))) / 20)
    assert mean["oldest"].request_id.texts()[:8] == ["r0"] * 6 + ["r1"] + ["r2"]


def test_trials_find_a_shorter_makespan() -> None:
    workload = load_workload(EXAMPLES / "documents.json", EXAMPLES / "documents_requests.yaml")
    tried, untried = (static(workload, Cluster(4, 4), "offline", trials=trials) for trials in (True, False))
    assert tried.summary["makespan"] < untried.summary["makespan"]


def test_history_teaches_frequencies(tmp_path: Path) -> None:
    requests = [
        {"request_id": f"r{i}", "timestamp": i, "workflow_id": "only-b", "node_execution_times": {"n": 9.0}}
        for i in range(9)
    ]
    path = tmp_path / "history.json"
    path.write_text(json.dumps({"requests": requests}))
    models = [single("a", memory=50.0), single("b", memory=50.0)]
    workload = stream(models, [alone("a"), alone("b")], [(0.0, 0), (0.0, 1)], 1.0)
    counts = []
    for options in ({}, {"history": str(path)}):
        names = [part["model"] for part in static(workload, Cluster(8), "online", **options).extra["placement"]]
        counts.append((names.count("a"), names.count("b")))
    assert counts == [(4, 4), (1, 7)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": "youngest"}, "option first must be oldest or shortest, not 'youngest'"),
        ({"batch": -1.0}, "option batch must be a finite number from 0 on, not -1.0"),
        ({"batch": float("inf")}, "option batch must be a finite number from 0 on, not inf"),
        ({"turn": float("nan")}, "option turn must be a finite number from 0 on, not nan"),
        ({"history": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    workload = stream([single("a")], [alone("a")], [(0.0, 0)], 1.0)
    with pytest.raises(InputError, match=message):
        static(workload, Cluster(1), "online", **options)


def test_history_is_of_no_use_offline() -> None:
    workload = stream([single("a")], [alone("a")], [(0.0, 0)], 1.0)
    with pytest.raises(InputError, match="option history: is for online runs"):
        static(workload, Cluster(1), "offline", history="earlier.yaml")


def test_a_refusal_comes_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--gpus", "4", "--gpu-memory", "40", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "--policy", "static", *DOCUMENTS, *options])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all("all models fit from" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_explain_says_what_stands_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--gpus", "8", "--gpus-per-server", "4", "--explain", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "--policy", "static", *DOCUMENTS, *options])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "Server 1\n  GPU 4: " in text
    assert "llm70b: 2 replicas in servers 0, 1; 69.1% of all GPU time; works with" in text


def test_script_has_the_defaults_of_its_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "simple_config.json").write_bytes((EXAMPLES / "documents.json").read_bytes())
    (tmp_path / "simple_requests.yaml").write_bytes((EXAMPLES / "documents_requests.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["static_scheduler.py", "--gpus", "8", "--simulate", "false"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXAMPLES.parent / "scripts" / "static_scheduler.py"), run_name="__main__")
    assert stopped.value.code == 0
    log = json.loads((tmp_path / "static_execution_log.json").read_text())
    assert log["summary"]["gpus_per_server"] == 4
    assert log["gpu_assignments"]["0"]["server_id"] == 0
    assert (tmp_path / "static_scheduler.log").exists()
