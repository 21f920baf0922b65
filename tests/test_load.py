import json
import math
import re
from dataclasses import replace
from pathlib import Path

import broken_files
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from broken import CONFIG, LINES, REQUESTS, edited, write
from hypothesis import given
from hypothesis import strategies as st
from strategies import SECOND, urgent, workloads

from gsched.checker import check
from gsched.checker.outcome import read_outcome
from gsched.cluster import Cluster
from gsched.errors import InputError, Problem
from gsched.load import load_config, load_workload, save_config, save_requests
from gsched.load.save import Dumper
from gsched.load.timestamps import nanoseconds
from gsched.load.yaml_values import parse_yaml
from gsched.log_files import read_log
from gsched.report.text import log_lines
from gsched.simulator import simulate
from gsched.workload import Config, Model, Node, Workflow, Workload

ROOT = Path(__file__).parents[1]
FORMATS = ["json", "jsonl", "yaml", "parquet", "YML"]

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [
        "1e5",
        "08",
        "1.5e3",
        "no",
        "null",
        "~",
        "2024-01-01",
        "0x1F",
        "1_000",
        "<<",
        "-",
        "a: b",
        "#",
        "{}",
        "\x85\u2028",
        "🙂",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("load")


@st.composite
def named_workloads(draw: st.DrawFn) -> Workload:
    """Workloads with ids and details that formats find hard."""
    workload = draw(workloads().flatmap(urgent))
    count = workload.request_count
    ids = draw(st.lists(texts.filter(bool), min_size=count, max_size=count, unique=True))
    details = {
        name: [json.dumps(draw(st.dictionaries(texts, values, max_size=2))) for _ in range(count)]
        for name in draw(st.sets(st.sampled_from(["input_data", "node_configs", "metadata"])))
    }
    shift = draw(st.sampled_from([0, 1, 1_000, 7_000_000_000 * SECOND]))
    return replace(workload, request_ids=ids, timestamp=workload.timestamp + shift, details=details)


def parsed(details: dict[str, list[str]]) -> dict[str, list[object]]:
    """The details that say anything, as values."""
    columns = {name: [json.loads(text) for text in column] for name, column in details.items()}
    return {name: column for name, column in columns.items() if any(column)}


@pytest.mark.parametrize("suffix", FORMATS)
@given(named_workloads())
def test_what_is_saved_is_loaded(folder, suffix, workload):
    config, requests = folder / "config.json", folder / f"requests.{suffix}"
    save_config(workload.config, config)
    save_requests(workload, requests)
    loaded = load_workload(config, requests, details=True)
    assert loaded.config.models == workload.config.models
    assert [flow.parents for flow in loaded.workflows] == [flow.parents for flow in workload.workflows]
    assert list(loaded.request_ids) == list(workload.request_ids)
    assert loaded.workflow.tolist() == workload.workflow.tolist()
    assert loaded.timestamp.tolist() == workload.timestamp.tolist()
    assert loaded.duration.tobytes() == (workload.duration + 0.0).tobytes()
    for name in ("deadline", "tier"):
        held, read = getattr(workload, name), getattr(loaded, name)
        assert (None if read is None else read.tolist()) == (None if held is None else held.tolist())
    assert parsed(loaded.details) == parsed(workload.details)
    assert load_workload(config, requests).details == {}


def test_a_config_survives_saving_in_full(tmp_path):
    base = Model("base", 80.0, 4, 5.0, "Base", "llm", 50.0, 100.0, 10.0, config={"top_p": [0.5, 1.0]})
    child = Model("child", 8.0, 1, None, "", "", inference_time_mean=1.5, inference_time_std=0.5, base_model="base")
    nodes = Node("a", "base", ("x",), ("y",), ("top_p",)), Node("b", "child")
    config = Config({"base": base, "child": child}, {"w": Workflow("w", nodes, ((0, 1),), "W", 0.5)})
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config


# What is taken as it is

ACCEPTED: dict[str, tuple[str, str]] = {
    "plain": (CONFIG, REQUESTS),
    "CRLF": (CONFIG.replace("\n", "\r\n"), REQUESTS.replace("\n", "\r\n")),
    "no final newline": (CONFIG.rstrip(), REQUESTS.rstrip()),
    "byte order mark": (f"\ufeff{CONFIG}", f"\ufeff{REQUESTS}"),
    "a list without a key": (CONFIG, edited(REQUESTS, ("requests:\n", ""))),
    "comments": (f"# config\n{CONFIG}", f"{REQUESTS}# end\n"),
    "document markers": (f"---\n{CONFIG}...\n", f"--- \n{REQUESTS}"),
    "exponents": (CONFIG, edited(REQUESTS, ("a: 1.5", "a: 15e-1"))),
    "integers as numbers": (CONFIG, edited(REQUESTS, ("c: 1}", "c: 1.0}"))),
    "anchors and merges": (
        CONFIG,
        edited(
            REQUESTS,
            ("- request_id: r0", "- &first\n    request_id: r0"),
            ("- request_id: r1", "- <<: *first\n    request_id: r1"),
            ('01"\n    workflow_id: chain', '01"'),
        ),
    ),
}


@pytest.mark.parametrize(("config", "requests"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_variations_mean_the_same(config, requests, tmp_path):
    write(tmp_path, {"config.yaml": config, "requests.yaml": requests})
    workload = load_workload(tmp_path / "config.yaml", tmp_path / "requests.yaml")
    assert list(workload.request_ids) == ["r0", "r1"]
    assert workload.duration.tolist() == [1.5, 2.5, 1.0, 0.5, 2.5, 1.0]
    assert workload.arrival("online").tolist() == [0.0, 1.0]


def test_json_lines_may_have_blank_lines_and_crlf(tmp_path):
    write(tmp_path, {"requests.jsonl": LINES.replace("\n", "\r\n").rstrip()})
    workload = load_workload(tmp_path / "config.yaml", tmp_path / "requests.jsonl")
    assert workload.duration.tolist() == [2.0, 2.5, 2.0, 2.0, 2.5, 2.0]


def loaded(tmp_path: Path, config: str = CONFIG, requests: str = REQUESTS) -> tuple[Workload, list[Problem]]:
    warnings: list[Problem] = []
    write(tmp_path, {"config.yaml": config, "requests.yaml": requests})
    return load_workload(tmp_path / "config.yaml", tmp_path / "requests.yaml", warnings=warnings), warnings


@pytest.mark.parametrize(("given_seconds", "held"), [("-0.0", 0.0), ("5e-324", 5e-324), ("0", 0.0), ("1e15", 1e15)])
def test_odd_but_fair_times(given_seconds, held, tmp_path):
    workload, warnings = loaded(tmp_path, requests=edited(REQUESTS, ("b: 2.5", f"b: {given_seconds}")))
    assert workload.duration[1] == held
    assert not warnings
    for gpus in (4, 6, 8, 16):
        cluster = Cluster(gpus)
        for mode in ("offline", "online"):
            assert check(simulate(workload, cluster, mode=mode), workload, cluster).valid


def test_timestamps_may_be_tied_and_out_of_order(tmp_path):
    requests = edited(REQUESTS, ("10:00:00", "10:00:09"), ("10:00:01", "10:00:09"))
    assert loaded(tmp_path, requests=requests)[0].arrival("online").tolist() == [0.0, 0.0]
    requests = edited(REQUESTS, ("10:00:00", "10:00:09"))
    assert loaded(tmp_path, requests=requests)[0].arrival("online").tolist() == [8.0, 0.0]


@pytest.mark.parametrize(
    ("text", "expected", "zone"),
    [
        ("1970-01-01", 0, "naive"),
        ("1970-01-01T00:00:01", 1_000_000_000, "naive"),
        ("1970-01-01 00:00:01", 1_000_000_000, "naive"),
        (" 1970-01-01T00:00:00,000001 ", 1_000, "naive"),
        ("1970-01-01T00:00:00.000001Z", 1_000, "zoned"),
        ("1970-01-01T00:00:00.0000012", 1_200, "naive"),
        ("1970-01-01T00:00:00.000001234", 1_234, "naive"),
        ("1970-01-01T00:00:00.0000012349", 1_234, "naive"),
        ("1970-01-01T01:00:00.0000012+01:00", 1_200, "zoned"),
        ("2262-04-11T23:47:16.854775807", 2**63 - 1, "naive"),
        (1.5, 1_500_000_000, "zoned"),
        (0, 0, "zoned"),
    ],
)
def test_timestamps_are_read_to_the_nanosecond(text, expected, zone):
    assert nanoseconds(text) == (expected, zone)


def test_the_longest_possible_span_does_not_overflow(tmp_path):
    requests = edited(REQUESTS, ("2024-01-01T10:00:00", "1970-01-01"), ("2024-01-01T10:00:01", "2262-04-11T23:47:16"))
    assert loaded(tmp_path, requests=requests)[0].arrival("online").tolist() == [0.0, 9223372036.0]


# Parquet of others


@pytest.mark.parametrize(
    "timestamp",
    [
        ["2024-01-01T10:00:00", "2024-01-01T10:00:01"],
        [1_704_103_200, 1_704_103_201],
        [1_704_103_200.0, 1_704_103_201.0],
        pa.array([1_704_103_200, 1_704_103_201], pa.timestamp("s")),
        pa.array([1_704_103_200_000, 1_704_103_201_000], pa.timestamp("ms", "Europe/Berlin")),
    ],
    ids=["texts", "integers", "floats", "seconds", "zoned"],
)
@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
@pytest.mark.parametrize("number", [pa.float64(), pa.float32()])
def test_parquet_columns_may_be_of_related_types(timestamp, text, number, tmp_path):
    times = [[("b", 2.5)], [("b", 2.5), ("a", 0.5)]]
    columns = {
        "workflow_id": pa.array(["chain", "chain"], text),
        "other": [1, 2],
        "node_execution_times": pa.array(times, pa.map_(pa.string(), number)),
        "timestamp": timestamp,
        "request_id": pa.array(["r0", "r1"], text),
    }
    write(tmp_path, {"r.parquet": lambda path: pq.write_table(pa.table(columns), path)})
    workload = load_workload(tmp_path / "config.yaml", tmp_path / "r.parquet")
    assert workload.duration.tolist() == [2.0, 2.5, 2.0, 0.5, 2.5, 2.0]
    assert workload.arrival("online").tolist() == [0.0, 1.0]
    assert workload.timestamp[0] == 1_704_103_200 * SECOND


# Tiers and deadlines


def with_urgency(first: str, second: str = "") -> str:
    """Requests of which the first and the second have further fields."""
    return edited(REQUESTS, ("b: 2.5, c: 1}\n", f"b: 2.5, c: 1}}\n{first}")) + second


def test_tiers_and_deadlines_are_read(tmp_path):
    both = with_urgency("    deadline: 30\n    tier: 3\n", "    deadline: 0.1\n    tier: 100\n")
    workload, warnings = loaded(tmp_path, requests=both)
    assert workload.tier.tolist() == [3, 100]
    assert workload.deadline.tolist() == [30.0, 0.1]
    assert workload.due("online").tolist() == [30.0, 1.1]
    assert not warnings


def test_what_has_no_tier_is_of_the_first_and_what_has_no_deadline_has_none(tmp_path):
    workload, _ = loaded(tmp_path, requests=with_urgency("    tier: 2\n", "    tier: null\n    deadline: 0\n"))
    assert workload.tier.tolist() == [2, 1]
    assert workload.deadline.tolist() == [np.inf, 0.0]


@pytest.mark.parametrize("fields", ["", "    tier: 1\n", "    deadline: null\n    tier: null\n"])
def test_where_nobody_is_urgent_nothing_is_held_or_saved(fields, tmp_path):
    workload, _ = loaded(tmp_path, requests=with_urgency(fields))
    assert workload.tier is None
    assert workload.deadline is None
    for suffix in ("json", "yaml", "parquet"):
        save_requests(workload, tmp_path / f"saved.{suffix}")
    assert pq.read_schema(tmp_path / "saved.parquet").names[3:] == ["node_execution_times"]
    for suffix in ("json", "yaml"):
        text = (tmp_path / f"saved.{suffix}").read_text()
        assert "tier" not in text
        assert "deadline" not in text


def test_a_request_without_a_deadline_is_saved_without_one(tmp_path):
    workload, _ = loaded(tmp_path, requests=with_urgency("    deadline: 30\n"))
    save_requests(workload, tmp_path / "saved.jsonl")
    first, second = map(json.loads, (tmp_path / "saved.jsonl").read_text().splitlines())
    assert first["deadline"] == 30
    assert "deadline" not in second
    save_requests(workload, tmp_path / "saved.parquet")
    assert pq.read_table(tmp_path / "saved.parquet")["deadline"].to_pylist() == [30.0, None]


def test_misspelt_tiers_and_deadlines_are_told(tmp_path):
    _, warnings = loaded(tmp_path, requests=with_urgency("    dead_line: 3\n    teir: 2\n"))
    assert [warning.message + "; " + warning.hint for warning in warnings] == [
        "is an unknown field; did you mean deadline?",
        "is an unknown field; did you mean tier?",
    ]


@pytest.mark.parametrize(
    ("tier", "deadline", "held"),
    [
        (pa.array([2, None], pa.int8()), pa.array([0.1, None]), ([2, 1], [0.1, np.inf])),
        (pa.array([100, 1], pa.uint64()), pa.array([None, 30], pa.int64()), ([100, 1], [np.inf, 30.0])),
        (pa.array([1, None], pa.int64()), pa.array([0.5, 0], pa.float32()), (None, [0.5, 0.0])),
        (pa.nulls(2), pa.nulls(2), (None, None)),
        (pa.nulls(2, pa.int32()), pa.nulls(2, pa.float64()), (None, None)),
        (pa.chunked_array([[1], [2]]), pa.chunked_array([[None], [1e15]], pa.float64()), ([1, 2], [np.inf, 1e15])),
    ],
)
def test_parquet_tiers_and_deadlines_may_be_empty_and_of_related_types(tier, deadline, held, tmp_path):
    write(tmp_path, {"r.parquet": broken_files.parquet(tier=tier, deadline=deadline)})
    workload = load_workload(tmp_path / "config.yaml", tmp_path / "r.parquet")
    found = tuple(None if column is None else column.tolist() for column in (workload.tier, workload.deadline))
    assert found == held


# Durations and inheritance


def test_a_node_without_a_time_takes_what_its_model_says(tmp_path):
    config = edited(CONFIG, ("    load_time_seconds: 30", "    load_time_seconds: 30\n    inference_time_mean: 7.5"))
    workload, _ = loaded(tmp_path, config, edited(REQUESTS, ("{a: 1.5, b: 2.5, c: 1}", "{a: 0}")))
    assert workload.duration.tolist() == [0.0, 7.5, 2.0, 0.5, 2.5, 1.0]


def test_tokens_say_more_than_a_mean_time(tmp_path):
    config = edited(CONFIG, ("    token_mean: 100", "    token_mean: 100\n    inference_time_mean: 9"))
    workload, _ = loaded(tmp_path, config, edited(REQUESTS, ("a: 1.5, ", "")))
    assert workload.duration[0] == 2.0
    half = edited(config, ("    token_mean: 100\n", ""))
    assert loaded(tmp_path, half, edited(REQUESTS, ("a: 1.5, ", "")))[0].duration[0] == 9.0


def test_a_model_inherits_what_it_does_not_say(tmp_path):
    tuned = "  tuned: {base_model: big, token_mean: 5}\n"
    config = edited(CONFIG, ("  big:\n    memory_gb: 140\n", f"{tuned}  big:\n    base_model: llm\n"))
    workload, warnings = loaded(tmp_path, config)
    tuned, big = workload.config.models["tuned"], workload.config.models["big"]
    assert (tuned.memory_gb, tuned.gpus_required, tuned.load_time_seconds, tuned.token_mean) == (16.0, 4, 30.0, 5.0)
    assert (big.memory_gb, big.token_mean, big.base_model, tuned.base_model) == (16.0, 100.0, "llm", "big")
    assert not warnings
    for gpus in (4, 6, 8, 16):
        cluster = Cluster(gpus)
        for mode in ("offline", "online"):
            assert check(simulate(workload, cluster, mode=mode), workload, cluster).valid


# Warnings


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            [("from: b,", "from: image,")],
            '19: workflows.chain.edges[1].from: "image" is an output; taken as its node "b"',
        ),
        (
            [("to: c}", "to: c}\n      - {from: a, to: image}")],
            '20: workflows.chain.edges[2].to: "image" is an output; taken as its node "b"|'
            '20: workflows.chain.edges[2]: repeats the edge from "a" to "b"; remove it',
        ),
        (
            [("gpus_required: 4", "gpu_required: 4")],
            "9: models.big.gpu_required: is an unknown field; did you mean gpus_req",
        ),
        (
            [("    load_time_seconds: 30\n", "")],
            "7: models.big.load_time_seconds: is missing, so a first load takes memory",
        ),
        (
            [("    load_time_seconds: 30\n", ""), ("gpus_required: 4", "gpu_required: 4")],
            "9: models.big.gpu_required: is an unknown field|7: models.big.load_time_seconds: is missing",
        ),
        ([("    edges:", "    edgs: []\n    edges:")], ""),
        ([("    edges:\n", "    comment: hello\n    edges:\n")], ""),
    ],
)
def test_what_gsched_works_around_is_a_warning(changes, expected, tmp_path):
    workload, warnings = loaded(tmp_path, edited(CONFIG, *changes))
    assert workload.workflows[0].parents == ((), (0,), (1,))
    starts = [f"{tmp_path}/config.yaml:{text}" for text in expected.split("|") if text]
    assert [str(warning)[: len(start)] for warning, start in zip(warnings, starts, strict=True)] == starts
    assert all(warning.severity == "warning" for warning in warnings)


def test_models_that_no_request_uses_are_no_reason_to_warn(tmp_path):
    unused = "  spare:\n    nodes:\n      - {id: a, model: big}\n"
    config = edited(CONFIG, ("    load_time_seconds: 30\n", ""), ("model: big", "model: llm")) + unused
    workload, warnings = loaded(tmp_path, config)
    assert list(workload.config.workflows) == ["chain", "spare"]
    assert not warnings
    for gpus in (4, 6, 8, 16):
        cluster = Cluster(gpus)
        for mode in ("offline", "online"):
            assert check(simulate(workload, cluster, mode=mode), workload, cluster).valid


def test_every_problem_is_reported_with_its_line(tmp_path):
    """At the size of a real file: a thousand requests, each with another fault."""
    lines = ["requests:"]
    for i in range(1000):
        lines += [f"- request_id: r{i}", f"  timestamp: {'x' if i % 2 else '2024-01-01'}", "  workflow_id: chain"]
        lines += [f"  node_execution_times: {{b: {'1' if i % 2 else '-1'}}}"]
    with pytest.raises(InputError) as caught:
        loaded(tmp_path, requests="\n".join(lines))
    found = [problem.source.rpartition(":")[2] for problem in caught.value.problems]
    assert found == [str(4 * i + (3 if i % 2 else 5)) for i in range(1000)]


def test_a_large_workflow_is_read_in_linear_time(tmp_path):
    nodes = [{"id": f"n{i}", "model": "m", "outputs": [f"o{i}"]} for i in range(20_000)]
    edges = [{"from": f"n{i}", "to": f"n{i + 1}"} for i in range(len(nodes) - 1)]
    config = {"models": {"m": {"memory_gb": 1}}, "workflows": {"w": {"nodes": nodes, "edges": edges}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_config(tmp_path / "config.json").workflows["w"].order == tuple(range(20_000))


# YAML


@given(
    st.dictionaries(texts, values), st.sampled_from([True, False, None]), st.sampled_from([None, '"', "'", "|", ">"])
)
def test_yaml_is_read_as_pyyaml_reads_it(value, flow, style):
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=flow, default_style=style, allow_unicode=True)
    expected = yaml.load(text, Loader=yaml.CSafeLoader)
    if style is None:
        assert parse_yaml(text, pytest.fail) == expected == value
    else:  # every number is then tagged, which gsched does not read
        assert as_texts(parse_yaml(re.sub(r"!!(int|float|bool|null) ", "", text), pytest.fail)) == as_texts(value)


def as_texts(value: object) -> object:
    """The value with texts for its scalars, as a dumper with a style writes them."""
    if isinstance(value, dict):
        return {key: as_texts(part) for key, part in value.items()}
    if isinstance(value, list):
        return [as_texts(part) for part in value]
    return value if isinstance(value, str) else yaml.safe_dump(value).split("\n")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T10:00:00.5Z", "2024-01-01T10:00:00.5Z"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("1e5", 1e5),
        ("1.5E3", 1500.0),
        ("010", 10),
        ("08", 8),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("=", "="),
        ("-inf", "-inf"),
        ("nan", "nan"),
        ("+1", 1),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("1.2.3", "1.2.3"),
        ("!!str 5", "5"),
        ("~", None),
        ("TRUE", True),
        ("-.INF", -math.inf),
        ("{1: a, true: b, null: c, 2024-01-01: d}", {"1": "a", "true": "b", "null": "c", "2024-01-01": "d"}),
        ("{a: &x {b: 1, c: 2}, d: {c: 3, <<: *x}}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("[&x {b: 1}, &y {b: 2, e: 3}, {<<: [*x, *y]}]", [{"b": 1}, {"b": 2, "e": 3}, {"b": 1, "e": 3}]),
        ('{"<<": {b: 1}}', {"<<": {"b": 1}}),
        ("[&x word, *x, &y [1], *y]", ["word", "word", [1], [1]]),
    ],
)  # fmt: skip
def test_yaml_words_mean_what_is_documented(text, expected):
    found = parse_yaml(text, pytest.fail)
    assert found == expected
    assert type(found) is type(expected)


def test_yaml_tells_keys_that_stand_twice():
    twice = []
    parse_yaml("a: 1\nb: {c: 1,\n  c: 2}\n'a': 2\n<<: {b: 3}\n", lambda key, line: twice.append((key, line)))
    assert twice == [("c", 3), ("a", 4)]


# The documentation


def test_the_examples_of_the_documentation_are_true(tmp_path):
    text = (ROOT / "docs" / "formats.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    assert [language for language, _ in blocks] == ["yaml"] * 3 + ["json", "python"] + ["json"] * 3
    config, rules, requests, line, parquet, log, trouble, placement = (content for _, content in blocks)
    outcome = read_outcome({"simulate": True}, json.loads(trouble))
    assert (len(outcome.failures), len(outcome.interruptions), outcome.wrong) == (1, 2, {})
    assert json.loads(placement).keys() == {"placement", "gpu_assignments", "server_assignments"}
    write(tmp_path, {"config.yaml": config + rules, "requests.yaml": requests, "one.jsonl": line, "log.json": log})
    exec(parquet.replace('"requests.parquet"', repr(str(tmp_path / "requests.parquet"))), {})
    workload = load_workload(tmp_path / "config.yaml", tmp_path / "requests.yaml")
    for other in ("one.jsonl", "requests.parquet"):
        same = load_workload(tmp_path / "config.yaml", tmp_path / other)
        assert list(same.request_ids) == list(workload.request_ids)
        assert np.array_equal(same.duration, workload.duration)
        assert np.array_equal(same.timestamp, workload.timestamp)
        assert (same.tier.tolist(), same.deadline.tolist()) == ([2], [60.0])
    simulated = simulate(workload, Cluster(4), mode="online")
    shown = read_log(tmp_path / "log.json")
    assert check(shown, workload).valid
    assert shown.start_time.tolist() == simulated.start_time.tolist()
    assert shown.summary.items() <= simulated.summary.items()
    assert set(re.findall(r"^    (\[.*)$", text, re.MULTILINE)) <= set(log_lines(simulated, workload, events=True))
    assert [name for name in simulated.summary if f"`{name}`" not in text] == []


REAL = ROOT.parent / "shared" / "data"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real workload is not at hand")
def test_a_real_workload_is_read_without_a_warning():
    warnings: list[Problem] = []
    workload = load_workload(REAL / "simple_config.json", REAL / "simple_requests.yaml", warnings=warnings)
    assert (workload.request_count, workload.node_count) == (500, 1486)
    assert not warnings
    for gpus in (4, 6, 8, 16):
        cluster = Cluster(gpus)
        for mode in ("offline", "online"):
            assert check(simulate(workload, cluster, mode=mode), workload, cluster).valid
