import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gsched.arrivals import draw_arrivals, parse_profile
from gsched.cli import main
from gsched.errors import InputError
from gsched.generator import SHORTEST, USUAL_VALUES, generate, parse_weights, statistics
from gsched.load import load_workload
from gsched.urgency import parse_deadlines, parse_tiers, tier_figures
from gsched.workload import Config, Model, Node, Workflow, Workload

LLM = Model("llm", memory_gb=14, type="llm", tokens_per_second=50, token_mean=512, token_std=128)
BIG = replace(LLM, id="big", gpus_required=4, tokens_per_second=20, token_mean=1024, base_model="llm")
PAINTER = Model(
    "painter",
    memory_gb=8,
    type="image_generation",
    inference_time_mean=2.0,
    inference_time_std=0.5,
    config={"width": [512, 768], "style": "oil", "guidance_scale": [1.5]},
)
ILLUSTRATE = Workflow(
    "illustrate",
    (
        Node("write", "llm", ("user_prompt",), ("prompt",)),
        Node("paint", "painter", ("prompt", "mood_board"), ("image",), ("width", "style", "temperature")),
    ),
    ((0, 1),),
)
DEBATE = Workflow(
    "debate",
    (
        Node("merge", "llm", ("pro", "con")),  # listed before its parents
        Node("pro", "big", ("user_prompt",), ("pro",)),
        Node("con", "llm", ("user_prompt",), ("con",)),
    ),
    ((1, 0), (2, 0)),
)
CONFIG = Config({m.id: m for m in (LLM, BIG, PAINTER)}, {f.id: f for f in (ILLUSTRATE, DEBATE)})


def single(model: Model, *options: str) -> Config:
    """Return a config of one workflow with one node."""
    return Config({model.id: model}, {"flow": Workflow("flow", (Node("node", model.id, config_options=options),))})


def columns(workload: Workload, name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in workload.details[name].to_pylist()]


def times_of(workload: Workload, request: int) -> dict[str, float]:
    nodes = workload.workflows[workload.workflow[request]].nodes
    first = workload.first_node[request]
    return {node.id: float(workload.duration[first + i]) for i, node in enumerate(nodes)}


@st.composite
def profiles(draw: st.DrawFn) -> tuple[float, tuple[tuple[float, float], ...] | None]:
    """Draw a duration and a profile for it, or none."""
    steps = draw(st.lists(st.floats(1e-3, 100), min_size=1, max_size=6))
    times = np.cumsum([0, *steps]).tolist()
    rates = draw(st.lists(st.sampled_from([0.0, 0.1, 1.0, 7.0]), min_size=len(steps), max_size=len(steps)))
    profile = tuple(zip(times[:-1], rates, strict=True))
    return times[-1], profile if any(rates) and draw(st.booleans()) else None


@given(
    count=st.integers(1, 60),
    timing=profiles(),
    process=st.sampled_from(["poisson", "uniform", "gamma"]),
    cv=st.floats(0.001, 1000),
    seed=st.integers(0, 2**64),
)
@example(count=1, timing=(1.0, None), process="gamma", cv=1000.0, seed=0)
def test_arrivals_are_counted_sorted_and_within_the_duration(count, timing, process, cv, seed):
    duration, profile = timing
    times = draw_arrivals(
        count, duration, np.random.default_rng(seed), process, cv if process == "gamma" else 1.0, profile
    )
    assert len(times) == count
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] <= duration
    for (begin, rate), (end, _) in zip(profile or (), [*(profile or ())[1:], (duration, 0.0)], strict=False):
        if rate == 0:
            assert not np.any((times > begin + 1e-9) & (times < end - 1e-9))


@pytest.mark.parametrize("cv", [0.3, 1.0, 3.0])
def test_gaps_of_gamma_arrivals_vary_as_asked(cv):
    times = draw_arrivals(200_000, 1.0, np.random.default_rng(1), "gamma", cv)
    gaps = np.diff(times)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_poisson_arrivals_have_exponential_gaps_and_counts_as_varied_as_they_are_many():
    times = draw_arrivals(100_000, 10_000.0, np.random.default_rng(2))
    counts = np.bincount(times.astype(int), minlength=10_000)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.05)
    gaps = np.diff(times)
    assert np.mean(gaps > gaps.mean()) == pytest.approx(np.exp(-1), abs=0.005)


def test_uniform_arrivals_are_evenly_spaced():
    assert draw_arrivals(3, 20.0, np.random.default_rng(0), "uniform").tolist() == [5.0, 10.0, 15.0]


@pytest.mark.parametrize("process", ["poisson", "uniform", "gamma"])
def test_profile_decides_the_share_of_each_stretch(process):
    times = draw_arrivals(50_000, 20.0, np.random.default_rng(3), process, profile=parse_profile("0:1,5:4,6:0,16:1"))
    shares = np.histogram(times, [0, 5, 6, 16, 20])[0] / 50_000
    assert shares == pytest.approx([5 / 13, 4 / 13, 0, 4 / 13], abs=0.01)


@given(requests=st.integers(1, 40), seed=st.integers(0, 2**64), minutes=st.floats(1e-4, 1e4))
def test_workloads_keep_their_promises(requests, seed, minutes):
    workload = generate(CONFIG, requests, minutes, seed=seed)
    assert workload.request_count == requests == len(set(workload.request_ids))
    start = np.datetime64("2024-01-01T10:00:00", "ns").astype(np.int64)
    assert start <= workload.timestamp[0]
    assert workload.timestamp[-1] <= start + round(minutes * 60e6) * 1000
    assert np.all(np.diff(workload.timestamp) >= 0)
    assert np.all(workload.timestamp % 1000 == 0)
    assert np.all(workload.duration > 0)
    for request, configs in enumerate(columns(workload, "node_configs")):
        flow = workload.workflows[workload.workflow[request]]
        assert configs.keys() == {node.id for node in flow.nodes if node.config_options}
        for paint in configs.values():
            assert list(paint) == ["width", "style", "temperature"]
            assert paint["width"] in (512, 768)
            assert paint["style"] == "oil"
            assert paint["temperature"] in USUAL_VALUES["temperature"]
    for request, inputs in enumerate(columns(workload, "input_data")):
        expected = {"user_prompt": f"Sample prompt for request {request}"}
        if workload.workflow[request] == 0:
            expected["mood_board"] = f"Sample mood board for request {request}"
        assert inputs == expected
    for request, metadata in enumerate(columns(workload, "metadata")):
        times, chain = times_of(workload, request), workload.workflow[request] == 0
        path = sum(times.values()) if chain else times["merge"] + max(times["pro"], times["con"])
        assert metadata["total_estimated_time"] == pytest.approx(sum(times.values()), abs=1e-8)
        assert metadata["critical_path_time"] == pytest.approx(path, abs=1e-8)
        assert metadata["base_models_used"] == (["llm", "painter"] if chain else ["llm"])


def test_golden_example():
    workload = generate(CONFIG, 3, 1.0, seed=7)
    stamps = workload.timestamp.astype("datetime64[ns]").astype("datetime64[us]").astype(str).tolist()
    assert workload.request_ids == ["req_0000", "req_0001", "req_0002"]
    assert stamps == ["2024-01-01T10:00:24.513000", "2024-01-01T10:00:36.321257", "2024-01-01T10:00:50.307415"]
    assert workload.workflow.tolist() == [1, 0, 0]
    assert workload.duration.tolist() == [8.44, 34.7, 13.12, 11.66, 2.813990054, 12.26, 1.227740353]
    assert {name: texts[1].as_py() for name, texts in workload.details.items()} == {
        "input_data": '{"user_prompt": "Sample prompt for request 1", "mood_board": "Sample mood board for request 1"}',
        "node_configs": '{"paint": {"width": 768, "style": "oil", "temperature": 1.0}}',
        "metadata": '{"base_models_used": ["llm", "painter"], "total_estimated_time": 14.473990054, '
        '"critical_path_time": 14.473990054}',
    }


FINGERPRINT = """
import hashlib, json
from gsched.generator import generate, statistics
from gsched.load import load_workload
from gsched.workload import Config, Model, Node, Workflow
model = Model("m", 1, token_mean=9, tokens_per_second=2, token_std=3, type="llm")
flows = {name: Workflow(name, (Node("n", "m", ("x", "y", "z"), (), ("width", "top_k")),)) for name in "abc"}
workload = generate(Config({"m": model}, flows), 100, seed=5)
texts = [column.to_pylist() for column in workload.details.values()]
figures = json.dumps(statistics(workload, {"duration": 20}))
arrays = [workload.timestamp, workload.workflow, workload.duration]
print(hashlib.sha256(repr([texts, figures, *(array.tolist() for array in arrays)]).encode()).hexdigest())
"""


def test_same_seed_gives_the_same_in_every_process():
    def fingerprint(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", FINGERPRINT]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert fingerprint("1") == fingerprint("2")


def test_seeds_differ():
    first, second = generate(CONFIG, seed=1), generate(CONFIG, seed=2)
    assert not np.array_equal(first.timestamp, second.timestamp)
    assert not np.array_equal(first.workflow, second.workflow)


def test_adding_a_model_and_a_workflow_leaves_the_arrivals():
    added = Workflow("added", (Node("n", "extra", config_options=("width",)),))
    wider = Config({"extra": replace(LLM, id="extra"), **CONFIG.models}, {"added": added, **CONFIG.workflows})
    assert np.array_equal(generate(CONFIG, seed=4).timestamp, generate(wider, seed=4).timestamp)


def test_what_one_node_draws_does_not_change_what_others_draw():
    before = generate(CONFIG, seed=4)
    changed = replace(ILLUSTRATE, nodes=(replace(ILLUSTRATE.nodes[0], model="big"), ILLUSTRATE.nodes[1]))
    longer = replace(changed, nodes=(*changed.nodes, Node("frame", "painter", (), (), ("height",))))
    after = generate(Config(CONFIG.models, {**CONFIG.workflows, "illustrate": longer}), seed=4)
    assert np.array_equal(before.workflow, after.workflow)
    for request in range(before.request_count):
        old, new = times_of(before, request), times_of(after, request)
        old.pop("write", None)
        assert {node: new[node] for node in old} == old
    paints = [[config.get("paint") for config in columns(w, "node_configs")] for w in (before, after)]
    assert paints[0] == paints[1]


def test_nodes_draw_independently_of_each_other():
    twins = Workflow("twins", (Node("a", "llm"), Node("b", "llm")))
    workload = generate(Config({"llm": LLM}, {"twins": twins}), 20_000, seed=1)
    first, second = workload.duration.reshape(-1, 2).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[:-1], np.diff(workload.timestamp))[0, 1]) < 0.02


def test_options_of_one_node_are_drawn_independently():
    config = single(LLM, "width", "height")
    drawn = [paint["node"] for paint in columns(generate(config, 9_000, seed=1), "node_configs")]
    counts = Counter((paint["width"], paint["height"]) for paint in drawn)
    assert len(counts) == 9
    assert max(counts.values()) < 1.15 * 1000


def test_base_models_are_listed_by_first_use():
    flow = Workflow("flow", (Node("last", "painter"), Node("first", "big")), ((1, 0),))
    metadata = columns(generate(Config(CONFIG.models, {"flow": flow}), 1, seed=1), "metadata")
    assert metadata[0]["base_models_used"] == ["llm", "painter"]


def test_workflows_come_as_often_as_weighted():
    heavy = Config(CONFIG.models, {"illustrate": replace(ILLUSTRATE, weight=4.0), "debate": DEBATE})

    def share(config: Config, weights: dict[str, float] | None) -> float:
        return float(np.mean(generate(config, 40_000, seed=1, weights=weights).workflow == 0))

    assert share(CONFIG, None) == pytest.approx(0.5, abs=0.01)
    assert share(heavy, None) == pytest.approx(0.8, abs=0.01)
    assert share(heavy, {"debate": 12.0}) == pytest.approx(0.25, abs=0.01)
    assert share(heavy, {"debate": 0.0}) == 1
    assert share(CONFIG, {"illustrate": 1e308, "debate": 1e308}) == pytest.approx(0.5, abs=0.01)


def test_token_times_follow_the_profile_in_whole_tokens():
    tokens = generate(single(LLM), 50_000, seed=1).duration * 50
    assert tokens.mean() == pytest.approx(512, rel=0.01)
    assert tokens.std() == pytest.approx(128, rel=0.01)
    assert np.abs(tokens - np.rint(tokens)).max() < 1e-6
    scarce = generate(single(replace(LLM, token_mean=1.0, token_std=5.0)), 1000, seed=1).duration * 50
    assert scarce.min() == 1


def test_inference_times_follow_the_profile_and_stay_positive():
    times = generate(single(PAINTER), 50_000, seed=1).duration
    assert times.mean() == pytest.approx(2, rel=0.01)
    assert times.std() == pytest.approx(0.5, rel=0.01)
    wild = generate(single(replace(PAINTER, inference_time_std=50.0)), 1000, seed=1).duration
    assert wild.min() == SHORTEST * 2


@pytest.mark.parametrize(("requests", "last"), [(1, "req_0000"), (10_000, "req_9999"), (10_001, "req_10000")])
def test_request_ids_have_one_width(requests, last):
    ids = generate(single(PAINTER), requests, seed=1).request_ids
    assert ids[-1] == last
    assert {len(request_id) for request_id in ids} == {len(last)}


@pytest.mark.parametrize(
    ("start", "utc"),
    [
        ("2024-01-01T10:00:00", "2024-01-01T10:00:00"),
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00"),
        ("2024-01-01T10:00:00.5+02:00", "2024-01-01T08:00:00.5"),
        ("1999-12-31", "1999-12-31T00:00:00"),
    ],
)
def test_start_is_utc_unless_it_names_a_zone(start, utc):
    stamp = generate(single(PAINTER), 1, 2.0, seed=1, start=start, arrivals="uniform").timestamp[0]
    assert stamp == (np.datetime64(utc, "ns") + np.timedelta64(60, "s")).astype(np.int64)


def test_statistics_by_hand():
    workload = Workload(
        CONFIG,
        ["a", "b", "c"],
        np.array([0, 1, 0], np.int32),
        np.array([0, 60, 240], np.int64) * 10**9,
        np.array([36.0, 18.0, 9.0, 90.0, 9.0, 36.0, 18.0]),
    )
    assert statistics(workload, {"seed": 3, "duration": 5.0, "weights": None}) == {
        "total_requests": 3,
        "total_nodes": 7,
        "requested_duration_minutes": 5.0,
        "realised_duration_minutes": 4.0,
        "requested_rate_per_minute": 0.6,
        "realised_rate_per_minute": 0.5,
        "workflows": {"illustrate": {"requests": 2, "percent": 66.67}, "debate": {"requests": 1, "percent": 33.33}},
        "tiers": {},
        "estimated_gpu_hours": {
            "total": 0.135,
            "by_model": {"llm": 0.025, "big": 0.1, "painter": 0.01},
            "by_model_type": {"llm": 0.125, "image_generation": 0.01},
        },
        "base_model_usage": {"llm": 5, "painter": 2},
        "generation": {
            "gsched_version": "0.1.0",
            "seed": 3,
            "duration": 5.0,
            "weights": None,
            "first_timestamp": "1970-01-01T00:00:00.000000",
            "last_timestamp": "1970-01-01T00:04:00.000000",
        },
    }


def test_statistics_of_one_request_have_no_rate():
    figures = statistics(generate(single(replace(PAINTER, type="")), 1, seed=1), {"duration": 20})
    assert figures["realised_rate_per_minute"] is None
    assert list(figures["estimated_gpu_hours"]["by_model_type"]) == ["unspecified"]


def problem(**arguments: Any) -> str:
    """Return the one line that says what is wrong with the arguments."""
    with pytest.raises(InputError) as caught:
        generate(**{"config": CONFIG, "seed": 1, **arguments})
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"requests": 0}, "requests: must be between 1 and 100,000,000, not 0"),
        ({"requests": -5}, "requests: must be between 1"),
        ({"requests": 10**12}, "not 1,000,000,000,000"),
        ({"duration": 0}, "duration: must be a positive number of minutes"),
        ({"duration": float("nan")}, "duration: must be a positive number"),
        ({"duration": float("inf")}, "duration: must be a positive number"),
        ({"duration": 1e15}, "start: arrivals must lie in the years 1970 to 2262; start later or earlier, or"),
        ({"start": "1600-01-01"}, "start: arrivals must lie"),
        ({"start": "1969-12-31T23:59:59.999999"}, "start: arrivals must lie"),
        ({"start": "1970-01-01T00:00+00:01"}, "start: arrivals must lie"),
        ({"start": "2262-04-11T23:47:16", "duration": 0.0143}, "start: arrivals must lie"),
        ({"start": "tomorrow"}, "start: 'tomorrow' is not a date and time; for example"),
        ({"seed": -1}, "seed: must not be negative"),
        ({"arrivals": "bursty"}, "arrivals: 'bursty' is not an arrival process; choose one of poisson, uniform, gamma"),
        ({"burstiness": 2.0}, "burstiness: 2.0 has no effect on poisson arrivals"),
        ({"burstiness": 0.0, "arrivals": "gamma"}, "burstiness: must be between 0.001 and 1000"),
        ({"burstiness": float("nan"), "arrivals": "gamma"}, "burstiness: must be between"),
        ({"profile": ()}, "profile: must begin at minute 0"),
        ({"profile": ((1, 1),)}, "profile: must begin at minute 0"),
        ({"profile": ((0, 1), (20, 2))}, "profile: minutes must ascend and stay below the duration (20 minutes)"),
        ({"profile": ((0, 1), (5, 2), (5, 1))}, "profile: minutes must ascend"),
        ({"profile": ((0, -1), (5, 2))}, "profile: rates must not be negative"),
        ({"profile": ((0, 0),)}, "profile: rates must not be negative and not all zero"),
        ({"profile": ((0, float("nan")),)}, "profile: rates must not be"),
        ({"weights": {"nope": 1.0}}, "weights: no such workflow: 'nope'; the config has illustrate, debate"),
        ({"weights": {"debate": -1.0}}, "weights: debate: must be a number that is not negative"),
        ({"weights": {"debate": float("inf")}}, "weights: debate: must be a number"),
        ({"weights": {"debate": 0.0, "illustrate": 0.0}}, "weights: no workflow has a weight above 0"),
        (
            {"config": single(LLM, "colour")},
            "config: workflows.flow.nodes.node: no values are known for the config option",
        ),
        ({"config": single(replace(LLM, config={"width": []}), "width")}, "list them under models.llm.config.width"),
        ({"config": single(replace(LLM, token_mean=None))}, "model llm has no execution time profile; add tokens_per"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    assert message in problem(**arguments)


def test_every_node_that_cannot_be_drawn_is_named_unless_it_never_comes():
    blank = replace(PAINTER, inference_time_mean=None)
    config = Config({**CONFIG.models, "painter": blank, "llm": replace(LLM, token_mean=None)}, CONFIG.workflows)
    with pytest.raises(InputError) as caught:
        generate(config, seed=1, weights={"illustrate": 0})
    places = [problem.place for problem in caught.value.problems]
    assert places == ["workflows.debate.nodes.merge", "workflows.debate.nodes.con"]


@pytest.mark.parametrize("text", ["", "0", "0:1,", "0:1:2", "a:b", "0=1"])
def test_malformed_profiles_are_refused(text):
    with pytest.raises(InputError, match="is not a list of MINUTE:RATE"):
        parse_profile(text)


@pytest.mark.parametrize("text", ["", "a", "a=", "a=b", "a=1,", "a:1", "a=1,a=2"])
def test_malformed_weights_are_refused(text):
    with pytest.raises(InputError, match=r"^weights: .*is not a list of WORKFLOW=WEIGHT|names a workflow twice"):
        parse_weights(text)


def test_weights_are_read():
    assert parse_weights("a=3, b c=0.5,d=e=1") == {"a": 3.0, "b c": 0.5, "d=e": 1.0}


# Tiers and deadlines


@given(seed=st.integers(0, 2**64), shares=st.dictionaries(st.integers(1, 100), st.floats(0.1, 10), min_size=1))
def test_tiers_and_deadlines_leave_all_the_rest_as_it_was(seed, shares):
    plain = generate(CONFIG, 30, seed=seed)
    urgent = generate(CONFIG, 30, seed=seed, tiers=shares, deadlines=dict.fromkeys(shares, "5s+2x"))
    assert (plain.tier, plain.deadline) == (None, None)
    for column in ("workflow", "timestamp", "duration"):
        assert np.array_equal(getattr(plain, column), getattr(urgent, column))
    assert plain.details == urgent.details
    assert urgent.tier is None or set(urgent.tier.tolist()) <= shares.keys()
    again = generate(CONFIG, 30, seed=seed, tiers=dict(reversed(shares.items())), deadlines={min(shares): "1s"})
    assert np.array_equal(urgent.tier, again.tier)  # the order in which they are given does not matter


def test_tiers_are_drawn_as_often_as_asked():
    tier = generate(single(PAINTER), 100_000, seed=1, tiers={1: 2, 5: 6, 3: 0}).tier
    assert np.unique(tier).tolist() == [1, 5]
    assert np.mean(tier == 1) == pytest.approx(0.25, abs=0.005)


def test_tiers_and_workflows_are_drawn_independently():
    workload = generate(CONFIG, 40_000, seed=1, tiers={1: 1, 2: 1})
    shares = [np.mean(workload.tier[workload.workflow == flow] == 1) for flow in (0, 1)]
    assert shares == pytest.approx([0.5, 0.5], abs=0.015)


def test_deadlines_follow_from_tiers_and_critical_paths():
    rules = {1: "30s", 2: "2x", 3: "1.5s+0.5x", 4: "none"}
    workload = generate(CONFIG, 400, seed=1, tiers=dict.fromkeys((1, 2, 3, 4, 5), 1), deadlines=rules)
    critical_path = [data["critical_path_time"] for data in columns(workload, "metadata")]
    for tier, path, deadline in zip(workload.tier, critical_path, workload.deadline, strict=True):
        expected = {1: 30.0, 2: 2 * path, 3: 1.5 + path / 2}.get(int(tier), np.inf)
        assert deadline == pytest.approx(expected, abs=1e-9)
        assert deadline == round(deadline, 9) or tier > 3


def test_deadlines_without_tiers_are_for_all():
    workload = generate(single(PAINTER), 9, seed=1, deadlines={1: "30s"})
    assert workload.tier is None
    assert workload.deadline.tolist() == [30.0] * 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tiers": {0: 1}}, "tiers: a tier is a whole number from 1 to 100, not 0; 1 is the most important"),
        ({"tiers": {101: 1}}, "tiers: a tier is a whole number from 1 to 100, not 101"),
        ({"tiers": {1: -1}}, "tiers: 1: must be a share that is not negative, not -1; for example 1=0.2,2=0.5,3=0.3"),
        ({"tiers": {1: 1, 2: float("inf")}}, "tiers: 2: must be a share that is not negative, not inf"),
        ({"tiers": {1: float("nan")}}, "tiers: 1: must be a share that is not negative, not nan"),
        ({"tiers": {1: 0, 2: 0}}, "tiers: no tier has a share above 0"),
        ({"tiers": {}}, "tiers: no tier has a share above 0"),
        ({"deadlines": {2: "30s"}}, "deadlines: no request is of tier 2; there is 1"),
        ({"deadlines": {2: "none"}, "tiers": {1: 1, 3: 1}}, "deadlines: no request is of tier 2; there is 1, 3"),
        ({"deadlines": {1: "-1s"}}, "deadlines: '-1s' is not a deadline; write 30s, 2x, 10s+2x or none"),
        ({"deadlines": {1: "1e15x"}}, "deadlines: '1e15x' makes one above 1e+15 s; choose a smaller one"),
        *(
            ({"deadlines": {1: text}}, f"deadlines: {text!r} is not a deadline")
            for text in ("", "30", "x", "s", "30 m", "nans", "infx", "1s+", "1s2x", "+2x", "1x-1s", "1e300x", "None")
        ),
    ],
)
def test_bad_tiers_and_deadlines_are_named(arguments, message):
    assert message in problem(**arguments)


@pytest.mark.parametrize("text", ["", "1", "1=", "1=a", "gold=1", "1.5=1", "1=1,", "1=1=1", "1:1", "1=1,1=2"])
def test_malformed_tiers_are_refused(text):
    with pytest.raises(InputError, match=r"^tiers: .*is not a list of TIER=SHARE|names a tier twice"):
        parse_tiers(text)


@pytest.mark.parametrize("text", ["gold=30s", "=30s", "1=30s,", "1=30s,2", "1=1s=2s", "1=30s,1=2x"])
def test_malformed_deadlines_are_refused(text):
    with pytest.raises(InputError, match=r"^deadlines: .*is not a list of TIER=DEADLINE|names a tier twice"):
        parse_deadlines(text, [1])


def test_tiers_and_deadlines_are_parsed():
    assert parse_tiers("2=0.5, 1 = 3") == {2: 0.5, 1: 3.0}
    assert parse_deadlines("2=3x,1= 30s,4=none", [1, 2]) == {2: "3x", 1: "30s", 4: "none"}
    assert parse_deadlines(" 10s+2x", [1, 3]) == {1: "10s+2x", 3: "10s+2x"}


def test_figures_of_tiers_by_hand():
    workload = generate(single(PAINTER), 5, seed=1)
    urgent = replace(workload, tier=[2, 1, 2, 2, 2], deadline=[5.0, np.inf, 1.0, np.inf, 2.0])
    assert tier_figures(workload) == {}
    assert tier_figures(urgent) == {
        "1": {"requests": 1, "percent": 20.0, "with_deadline": 0, "median_deadline_seconds": None},
        "2": {"requests": 4, "percent": 80.0, "with_deadline": 3, "median_deadline_seconds": 2.0},
    }
    assert tier_figures(replace(urgent, tier=None))["1"]["with_deadline"] == 3
    assert statistics(urgent, {"duration": 20})["tiers"] == tier_figures(urgent)


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG_TEXT))
    return path


CONFIG_TEXT = {
    "models": {
        "llm": {"memory_gb": 14, "load_time_seconds": 5, "tokens_per_second": 50, "token_mean": 512, "token_std": 128},
        "painter": {
            "memory_gb": 8,
            "load_time_seconds": 5,
            "inference_time_mean": 2.0,
            "config": {"width": [512, 768]},
        },
    },
    "workflows": {
        "illustrate": {
            "nodes": [
                {"id": "write", "model": "llm", "inputs": ["user_prompt"], "outputs": ["prompt"]},
                {"id": "paint", "model": "painter", "inputs": ["prompt"], "config_options": ["width"]},
            ],
            "edges": [{"from": "write", "to": "paint"}],
        },
        "write": {"nodes": [{"id": "write", "model": "llm", "inputs": ["user_prompt"], "outputs": ["text"]}]},
    },
}


def run(*arguments: object) -> int:
    """Return the exit status of `gsched generate`."""
    with pytest.raises(SystemExit) as exit_:
        main(["generate", *map(str, arguments)])
    return int(exit_.value.code or 0)


@pytest.mark.parametrize("start", ["1970-01-01", "2262-04-11T23:45:16"])
def test_the_first_and_last_years_can_be_read_back(config_file, tmp_path, start):
    arguments = ("--num-requests", 9, "--duration", 2, "--seed", 1, "--start", start, "--format", "json")
    assert run("--config", config_file, "--out", tmp_path, *arguments) == 0
    assert load_workload(config_file, tmp_path / "generated_requests.json").request_count == 9


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.mark.parametrize("format_", ["json", "yaml", "jsonl", "parquet"])
def test_each_format_reads_back_as_it_was_drawn(config_file, tmp_path, format_):
    out = tmp_path / "out"
    assert run("--config", config_file, "--num-requests", 40, "--seed", 3, "--format", format_, "--out", out) == 0
    assert written(out).keys() == {f"generated_requests.{format_}", "generated_stats.json"}
    read = load_workload(config_file, out / f"generated_requests.{format_}", details=True)
    drawn = generate(read.config, 40, seed=3)
    assert list(read.request_ids) == drawn.request_ids
    for column in ("workflow", "timestamp", "duration"):
        assert np.array_equal(getattr(read, column), getattr(drawn, column))
    for name, texts in drawn.details.items():
        assert [json.loads(str(text)) for text in read.details[name]] == [json.loads(text.as_py()) for text in texts]


def test_defaults_are_those_of_the_documentation(config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--config", config_file) == 0
    names = {"generated_requests.json", "generated_requests.yaml", "generated_stats.json"}
    assert written(tmp_path).keys() == names | {"config.json"}
    figures = json.loads(Path("generated_stats.json").read_text())
    generation = figures["generation"]
    assert figures["total_requests"] == 500
    assert figures["requested_duration_minutes"] == 20
    assert generation["arrivals"] == "poisson"
    assert generation["start"] == "2024-01-01T10:00:00"
    assert "2024-01-01T10:00:00" <= generation["first_timestamp"] < generation["last_timestamp"] <= "2024-01-01T10:20"


def test_a_run_without_a_seed_can_be_repeated(config_file, tmp_path):
    first, second, again = tmp_path / "first", tmp_path / "second", tmp_path / "again"
    for folder in (first, second):
        assert run("--config", config_file, "--num-requests", 9, "--out", folder) == 0
    seed = json.loads((first / "generated_stats.json").read_text())["generation"]["seed"]
    assert run("--config", config_file, "--num-requests", 9, "--out", again, "--seed", seed) == 0
    assert written(first) == written(again)
    assert written(first) != written(second)


def test_files_are_the_same_bytes_in_every_process(config_file, tmp_path):
    def files(hash_seed: str) -> dict[str, bytes]:
        out = tmp_path / hash_seed
        for format_ in ("both", "parquet"):
            arguments = ["--config", config_file, "--num-requests", 50, "--seed", 1, "--format", format_, "--out", out]
            command = [sys.executable, "-m", "gsched", "generate", "--quiet", *map(str, arguments)]
            subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=True)
        return written(out)

    assert files("1") == files("2")
    assert len(written(tmp_path / "1")) == 4


def test_report_is_plain_text_when_piped(config_file, tmp_path, capsys):
    arguments = ("--config", config_file, "--num-requests", 4, "--seed", 8, "--weights", "write=0", "--out", tmp_path)
    assert run(*arguments) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert text.startswith("Generated 4 requests of 8 nodes, seed 8\n")
    assert "illustrate          4   100.0%" in text
    assert "generated_stats.json" in text


def test_names_in_the_report_are_printable(config_file, tmp_path, capsys):
    config_file.write_text(config_file.read_text().replace("illustrate", r"a\nb\u001b[2J"))
    assert run("--config", config_file, "--num-requests", 4, "--seed", 8, "--out", tmp_path) == 0
    text = capsys.readouterr().out
    assert text.replace("\n", "").isprintable()
    assert r"a\nb\x1b[2J" in text


def test_json_and_quiet(config_file, tmp_path, capsys):
    arguments = ("--config", config_file, "--num-requests", 4, "--seed", 8, "--out", tmp_path, "--output-prefix", "a")
    assert run(*arguments, "--json") == 0
    assert capsys.readouterr().out == (tmp_path / "a_stats.json").read_text()
    assert run(*arguments, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_prefix_may_begin_with_a_folder(config_file, tmp_path):
    arguments = ("--config", config_file, "--num-requests", 4, "--seed", 8, "--format", "jsonl")
    assert run(*arguments, "--out", tmp_path / "out", "--output-prefix", "deep/a") == 0
    assert run(*arguments, "--output-prefix", tmp_path / "b") == 0
    assert (tmp_path / "out/deep/a_requests.jsonl").read_text() == (tmp_path / "b_requests.jsonl").read_text()


def test_profile_burstiness_and_weights_reach_the_generator(config_file, tmp_path):
    arguments = ("--arrivals", "gamma", "--burstiness", 2, "--profile", "0:1,5:4", "--weights", "write=3", "--start")
    assert (
        run("--config", config_file, "--seed", 1, "--out", tmp_path, "--format", "json", *arguments, "2025-01-01") == 0
    )
    read = load_workload(config_file, tmp_path / "generated_requests.json")
    options = {"arrivals": "gamma", "burstiness": 2.0, "profile": ((0, 1), (5, 4)), "weights": {"write": 3.0}}
    drawn = generate(read.config, seed=1, start="2025-01-01", **options)
    assert np.array_equal(read.timestamp, drawn.timestamp)
    assert np.array_equal(read.workflow, drawn.workflow)


URGENT = ("--tiers", "1=1,2=3", "--deadlines", "1=30s,2=2x")


@pytest.mark.parametrize("format_", ["json", "yaml", "jsonl", "parquet"])
def test_tiers_and_deadlines_reach_the_generator_and_the_files(config_file, tmp_path, format_):
    arguments = ("--config", config_file, "--num-requests", 40, "--seed", 3, "--format", format_, "--out", tmp_path)
    assert run(*arguments, *URGENT, "--quiet") == 0
    read = load_workload(config_file, tmp_path / f"generated_requests.{format_}")
    drawn = generate(read.config, 40, seed=3, tiers={1: 1.0, 2: 3.0}, deadlines={1: "30s", 2: "2x"})
    assert read.tier.tolist() == drawn.tier.tolist()
    assert read.deadline.tolist() == drawn.deadline.tolist()


def test_tiers_are_told_in_the_report_and_by_validate(config_file, tmp_path, capsys):
    assert run("--config", config_file, "--num-requests", 8, "--seed", 3, "--out", tmp_path, *URGENT[:3], "1=30s") == 0
    tiers = json.loads((tmp_path / "generated_stats.json").read_text())["tiers"]
    assert tiers.keys() == {"1", "2"}
    count = tiers["1"]["requests"]
    report = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", str(count), f"{count / 0.08:.1f}%", str(count), "30.00"] in report
    assert ["2", str(8 - count), f"{100 - count / 0.08:.1f}%", "0", "-"] in report
    with pytest.raises(SystemExit):
        main(["validate", "--config", str(config_file), "--requests", str(tmp_path / "generated_requests.yaml")])
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"tier 1: {count} request")
    assert first.endswith(f"({count / 0.08:g}%), {count} with a deadline (median 30 s)")
    assert second.endswith(f"({100 - count / 0.08:g}%), 0 with a deadline")


def test_the_shipped_example_is_what_its_command_makes(tmp_path):
    root = Path(__file__).parents[1]
    text = (root / "docs" / "generating.md").read_text().replace("\\\n", "")
    command = next(line for line in text.splitlines() if "examples/support.json" in line and line.startswith("gsched"))
    words = command.split()[2:]
    words[words.index("examples")] = str(tmp_path)
    words[words.index("examples/support.json")] = str(root / "examples" / "support.json")
    assert run(*words, "--quiet") == 0
    shipped = (root / "examples" / "support_requests.yaml").read_bytes()
    assert (tmp_path / "support_requests.yaml").read_bytes() == shipped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tiers", "gold"], "tiers: 'gold' is not a list of TIER=SHARE; for example 1=0.2,2=0.5,3=0.3"),
        (["--tiers", "1=0"], "tiers: no tier has a share above 0"),
        (["--deadlines", "30"], "deadlines: '30' is not a deadline; write 30s, 2x, 10s+2x or none"),
        (["--deadlines", "1=30s,2=60s"], "deadlines: no request is of tier 2; there is 1"),
        (["--num-requests", "0"], "requests: must be between 1 and"),
        (["--num-requests", "many"], "--num-requests"),
        (["--duration", "nan"], "duration: must be a positive number of minutes, not nan"),
        (["--profile", "5"], "profile: '5' is not a list of MINUTE:RATE; for example 0:1,5:4,6:1"),
        (["--weights", "5"], "weights: '5' is not a list of WORKFLOW=WEIGHT; for example"),
        (["--weights", "draw=1"], "weights: no such workflow: 'draw'; the config has illustrate, write"),
        (["--format", "xml"], "xml"),
        (["--output-prefix", ""], "--output-prefix: '' is no beginning of a file's name; end it with"),
        (["--output-prefix", "a/"], "--output-prefix: 'a/' is no beginning of a file's name"),
        (["--output-prefix", "/"], "--output-prefix: '/' is no beginning of a file's name"),
        (["--arrivals", "weekly"], "weekly"),
        (["--start", "now"], "start: 'now' is not a date and time"),
        (["--config", "nowhere.json"], "nowhere.json: no such file"),
    ],
)
def test_bad_options_end_in_one_line_and_no_file(config_file, tmp_path, capsys, arguments, message):
    assert run("--config", config_file, "--out", tmp_path / "out", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert written(tmp_path / "out") == {}


def test_an_unwritable_folder_is_named(config_file, capsys):
    assert run("--config", config_file, "--out", config_file / "below") == 2
    captured = capsys.readouterr()
    assert "cannot be written" in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_config_that_cannot_be_drawn_from_is_named_by_its_path(config_file, capsys):
    content = json.loads(config_file.read_text())
    content["workflows"]["illustrate"]["nodes"][1]["config_options"] = ["colour"]
    config_file.write_text(json.dumps(content))
    assert run("--config", config_file) == 2
    assert f"error: {config_file}: workflows.illustrate.nodes.paint: no values" in capsys.readouterr().err
