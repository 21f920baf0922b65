"""A corpus of broken workloads: what a user may hand to gsched, and the lines that gsched answers with.

A case changes some of the valid files below. `expected` are the beginnings of the lines on standard error, all of them
and in this order; "error:" and the file's name are left out of them. Files that are not text are written by a function.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

CONFIG = """\
models:
  llm:
    memory_gb: 16
    load_time_seconds: 4
    tokens_per_second: 50
    token_mean: 100
  big:
    memory_gb: 140
    gpus_required: 4
    load_time_seconds: 30
workflows:
  chain:
    nodes:
      - {id: a, model: llm, inputs: [prompt], outputs: [text]}
      - {id: b, model: big, inputs: [text], outputs: [image]}
      - {id: c, model: llm, inputs: [image], outputs: [verdict]}
    edges:
      - {from: a, to: b}
      - {from: b, to: c}
"""

REQUESTS = """\
requests:
  - request_id: r0
    timestamp: "2024-01-01T10:00:00"
    workflow_id: chain
    node_execution_times: {a: 1.5, b: 2.5, c: 1}
  - request_id: r1
    timestamp: "2024-01-01T10:00:01"
    workflow_id: chain
    node_execution_times: {a: 0.5, b: 2.5, c: 1}
"""

LINES = """\
{"request_id": "r0", "timestamp": "2024-01-01T10:00:00", "workflow_id": "chain", "node_execution_times": {"b": 2.5}}

{"request_id": "r1", "timestamp": "2024-01-01T10:00:01", "workflow_id": "chain", "node_execution_times": {"b": 2.5}}
"""

Content = str | bytes | Callable[[Path], object]


class Broken(NamedTuple):
    """A broken input: files (None: not there) besides the valid ones, words of the command, lines of the answer."""

    expected: tuple[str, ...]
    files: Mapping[str, Content | None] = {}
    command: tuple[str, ...] = ("validate", "--config", "config.yaml", "--requests", "requests.yaml")


def write(folder: Path, files: Mapping[str, Content | None]) -> None:
    """Write the valid files, changed by those of a case."""
    for name, content in ({"config.yaml": CONFIG, "requests.yaml": REQUESTS} | dict(files)).items():
        path = folder / name
        if callable(content):
            content(path)
        elif content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def edited(text: str, *changes: tuple[str, str]) -> str:
    """The text with the first occurrence of each `old` replaced."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def beginnings(name: str, expected: str | tuple[str, ...]) -> tuple[str, ...]:
    """The beginnings of lines in full: before a line's number stands the name, before anything else a blank too."""
    texts = (expected,) if isinstance(expected, str) else expected
    heads = [f"error: {name}:{'' if text[0].isdigit() else ' '}" for text in texts]
    return tuple(text if text.startswith("warning: ") else head + text for head, text in zip(heads, texts, strict=True))


def config(*changes: tuple[str, str], expected: str | tuple[str, ...]) -> Broken:
    return Broken(beginnings("config.yaml", expected), {"config.yaml": edited(CONFIG, *changes)})


def requests(*changes: tuple[str, str], expected: str | tuple[str, ...]) -> Broken:
    return Broken(beginnings("requests.yaml", expected), {"requests.yaml": edited(REQUESTS, *changes)})


def other(name: str, content: Content | None, expected: str | tuple[str, ...]) -> Broken:
    """Requests in another file."""
    command = ("validate", "--config", "config.yaml", "--requests", name)
    return Broken(beginnings(name, expected), {name: content}, command)


def lines(*changes: tuple[str, str], expected: str | tuple[str, ...]) -> Broken:
    return other("requests.jsonl", edited(LINES, *changes), expected)


def other_config(name: str, content: Content | None, expected: str | tuple[str, ...]) -> Broken:
    """A config in another file."""
    return Broken(beginnings(name, expected), {name: content}, ("validate", "--config", name))


def model_config(**model: object) -> str:
    """A config of one model with these fields, as JSON."""
    flow = {"nodes": [{"id": "a", "model": "llm"}], "edges": []}
    return json.dumps({"models": {"llm": {"memory_gb": 1, **model}}, "workflows": {"chain": flow}}, indent=1)


CASES: dict[str, Broken] = {
    "edge to nothing": config(
        ("to: c}", "to: report}"),
        expected='19: workflows.chain.edges[1].to: "report" is no node of this workflow; known: a',
    ),
    "edge misspelt": config(
        ("id: c,", "id: check,"),
        ("to: c}", "to: chek}"),
        expected=('19: workflows.chain.edges[1].to: "chek" is no node of this workflow; did you mean check?',),
    ),
    "edge to an output of two nodes": config(
        ("[verdict]", "[text]"),
        ("from: b,", "from: text,"),
        expected='19: workflows.chain.edges[1].from: "text" is an output of 2 nodes; name the node',
    ),
    "edge to itself": config(
        ("from: b, to: c", "from: b, to: b"),
        expected='19: workflows.chain.edges[1]: leads from "b" to itself; remove it',
    ),
    "edge to itself by an output": config(
        ("from: b, to: c", "from: b, to: image"),
        expected=(
            'warning: config.yaml:19: workflows.chain.edges[1].to: "image" is an output; taken as its node "b"',
            '19: workflows.chain.edges[1]: leads from "b" to itself; remove it',
        ),
    ),
    "edge without from": config(
        ("{from: a, ", "{"),
        expected="18: workflows.chain.edges[0]: has no from; add the id of a node",
    ),
    "edge is a text": config(
        ("{from: a, to: b}", "a-b"),
        expected='18: workflows.chain.edges[0]: must be a mapping, not "a-b"; write {from: …, to: …}',
    ),
    "edges are a mapping": config(
        ("    edges:\n      - {from: a, to: b}\n      - {from: b, to: c}\n", "    edges: {a: b}\n"),
        expected="17: workflows.chain.edges: must be a list, not a mapping; write",
    ),
    "cycle": config(
        ("from: b, to: c}", "from: b, to: c}\n      - {from: c, to: a}"),
        expected="17: workflows.chain.edges: form a cycle through or before a, b, c; remove one",
    ),
    "duplicate node": config(
        ("id: c,", "id: b,"),
        ("to: c}", "to: a}"),
        expected=(
            '16: workflows.chain.nodes[2].id: "b" is the id of an earlier node; give each node its own',
            "17: workflows.chain.edges: form a cycle through or before a, b; remove one of its edges",
        ),
    ),
    "duplicate model": config(
        ("  big:", "  llm:"),
        expected=(
            '7: key "llm" stands twice in one mapping; remove or rename one of them',
            '15: workflows.chain.nodes[1].model: "big" is an unknown model; known: llm',
        ),
    ),
    "duplicate model in JSON": other_config(
        "config.json",
        model_config().replace('"llm": {', '"llm": {"memory_gb": 2},\n  "llm": {'),
        '4: key "llm" stands twice in one mapping; remove or rename one of them',
    ),
    "unknown model": config(
        ("model: big", "model: bigg"),
        expected='15: workflows.chain.nodes[1].model: "bigg" is an unknown model; did you mean big?',
    ),
    "model of a node is a number": config(
        ("model: big", "model: 7"),
        expected="15: workflows.chain.nodes[1].model: must be a text, not 7; put it in quotes",
    ),
    "model of a node is a list": config(
        ("model: big", "model: [big]"),
        expected="15: workflows.chain.nodes[1].model: must be a text, not a list; put it in quotes",
    ),
    "node without id and model": config(
        ("id: b, model: big, ", ""),
        expected=(
            "15: workflows.chain.nodes[1]: has no model; add the id of its model",
            "15: workflows.chain.nodes[1]: has no id; add a unique id",
            '18: workflows.chain.edges[0].to: "b" is no node of this workflow; known: a, c',
            '19: workflows.chain.edges[1].from: "b" is no node of this workflow; known: a, c',
        ),
    ),
    "node without a model": config(
        ("model: big, ", ""),
        expected="15: workflows.chain.nodes[1]: has no model; add the id of its model",
    ),
    "node with an empty id": config(
        ("edges:\n      - {from: a, to: b}\n      - {from: b, to: c}\n", "edges: []\n"),
        ("id: c", 'id: ""'),
        expected="16: workflows.chain.nodes[2]: has no id; add a unique id",
    ),
    "node is null": config(
        ("{id: c, model: llm, inputs: [image], outputs: [verdict]}", ""),
        ("      - {from: b, to: c}\n", ""),
        expected="16: workflows.chain.nodes[2]: must be a mapping, not nothing; write {id: …, model",
    ),
    "outputs are a text": config(
        ("outputs: [text]", "outputs: text"),
        expected='14: workflows.chain.nodes[0].outputs: must be a list of texts, not "text"; write [one',
    ),
    "nodes are a mapping": other_config(
        "config.json",
        '{"models": {"m": {"memory_gb": 1}},\n"workflows": {"w": {"nodes":\n{"a": "m"}}}}',
        "2: workflows.w.nodes: must be a list of at least one node, not a mapping; see docs",
    ),
    "no nodes": other_config(
        "config.json",
        '{"models": {"m": {"memory_gb": 1}},\n"workflows": {"w": {"nodes": []}}}',
        "2: workflows.w.nodes: must be a list of at least one node, not an empty list; see docs",
    ),
    "no memory_gb": config(
        ("    memory_gb: 140\n", ""),
        expected="7: models.big: has no memory_gb; add the memory that the model takes on all its GPUs",
    ),
    "negative memory": config(
        ("memory_gb: 140", "memory_gb: -140"),
        expected="8: models.big.memory_gb: must be at least 0, not -140; correct the sign",
    ),
    "memory with a unit": config(
        ("memory_gb: 140", "memory_gb: 140 GB"),
        expected='8: models.big.memory_gb: must be a number, not the text "140 GB"; write a plain number',
    ),
    "memory is NaN": config(
        ("memory_gb: 140", "memory_gb: .nan"),
        expected="8: models.big.memory_gb: must be finite, not nan; give a finite number",
    ),
    "memory is a boolean": config(
        ("memory_gb: 140", "memory_gb: true"),
        expected="8: models.big.memory_gb: must be a number, not true; give a number",
    ),
    "memory of 400 digits": config(
        ("memory_gb: 140", f"memory_gb: 1{'0' * 400}"),
        expected="8: models.big.memory_gb: must be at most 1e+15, not 10000000000000000000",
    ),
    "memory of 5000 digits in JSON": other_config(
        "config.json",
        edited(model_config(), ('"memory_gb": 1', f'"memory_gb": 1{"0" * 5000}')),
        "4: models.llm.memory_gb: must be finite, not inf; give a finite number",
    ),
    "memory is infinite in JSON": other_config(
        "config.json",
        model_config(memory_gb=float("inf")),
        "4: models.llm.memory_gb: must be finite, not inf; give a finite number",
    ),
    "load time is NaN": config(
        ("load_time_seconds: 30", "load_time_seconds: .NaN"),
        expected="10: models.big.load_time_seconds: must be finite, not nan",
    ),
    "half a GPU": config(
        ("gpus_required: 4", "gpus_required: 0.5"),
        expected="9: models.big.gpus_required: must be a whole number from 1 to 1000000, not 0.5",
    ),
    "no GPUs": config(
        ("gpus_required: 4", "gpus_required: 0"),
        expected="9: models.big.gpus_required: must be a whole number from 1 to 1000000, not 0",
    ),
    "GPUs beyond counting": config(
        ("gpus_required: 4", f"gpus_required: 1{'0' * 400}"),
        expected="9: models.big.gpus_required: must be a whole number from 1 to 1000000, not 1000000",
    ),
    "GPUs are a boolean": config(
        ("gpus_required: 4", "gpus_required: true"),
        expected="9: models.big.gpus_required: must be a whole number from 1 to 1000000, not true",
    ),
    "no tokens a second": config(
        ("tokens_per_second: 50", "tokens_per_second: 0"),
        expected="5: models.llm.tokens_per_second: must be above 0, not 0; correct the sign",
    ),
    "tokens a second too few to divide by": config(
        ("tokens_per_second: 50", "tokens_per_second: 5e-324"),
        expected="5: models.llm.tokens_per_second: makes a node take inf s; correct the profile",
    ),
    "base_model unknown": config(
        ("    memory_gb: 140", "    memory_gb: 140\n    base_model: llms"),
        expected='9: models.big.base_model: names an unknown model "llms"; did you mean llm?',
    ),
    "base_model is a list": config(
        ("    memory_gb: 140", "    memory_gb: 140\n    base_model: [llm]"),
        expected="9: models.big.base_model: names an unknown model a list; known: llm, big",
    ),
    "base_model in a circle": config(
        ("    memory_gb: 140", "    memory_gb: 140\n    base_model: llm"),
        ("    memory_gb: 16", "    memory_gb: 16\n    base_model: big"),
        expected="4: models.llm.base_model: inherits from itself: big → llm → big; break the circle",
    ),
    "base_model is itself": config(
        ("    memory_gb: 140", "    memory_gb: 140\n    base_model: big"),
        expected="9: models.big.base_model: inherits from itself: big → big; break the circle",
    ),
    "base_model with a wrong value": config(
        ("    memory_gb: 140", "    base_model: llm"),
        ("memory_gb: 16", "memory_gb: lots"),
        expected='3: models.llm.memory_gb: must be a number, not the text "lots"; write a plain number',
    ),
    "model is a text": config(
        ("  big:\n    memory_gb: 140\n    gpus_required: 4\n    load_time_seconds: 30\n", "  big: large\n"),
        expected='7: models.big: must be a mapping, not "large"; see docs/formats.md',
    ),
    "models are a list": other_config(
        "config.json",
        '{"models": [{"memory_gb": 1}], "workflows": {"w": {"nodes": [{"id": "a", "model": "m"}]}}}',
        "1: models: must be a mapping, not a list; write {name: value}",
    ),
    "no models": config(("models:", "model:"), expected="has no models; add models: {…}"),
    "models empty": other_config(
        "config.yaml",
        "models: {}\nworkflows: {}\n",
        (
            "1: models: is empty; define at least one",
            "2: workflows: is empty; define at least one",
        ),
    ),
    "workflow is a list": config(
        ("  chain:\n", "  more: []\n  chain:\n"),
        expected="12: workflows.more: must be a mapping, not a list; see docs/formats.md",
    ),
    "weight is negative": config(
        ("    nodes:", "    weight: -1\n    nodes:"),
        expected="13: workflows.chain.weight: must be at least 0, not -1",
    ),
    "config is a list": other_config(
        "config.json",
        "[1, 2]",
        "must hold a mapping with models and workflows, not a list; see docs",
    ),
    "config is a number": other_config(
        "config.json", "17", "must hold a mapping with models and workflows, not 17; see docs"
    ),
    "config is JSON Lines": other_config(
        "config.jsonl",
        LINES,
        "must hold a mapping with models and workflows, not a list; see docs",
    ),
    "several problems": config(
        ("memory_gb: 16", "memory_gb: .inf"),
        ("model: big", "model: huge"),
        ("to: c}", "to: d}"),
        expected=(
            "3: models.llm.memory_gb: must be finite, not inf; give a finite number",
            '15: workflows.chain.nodes[1].model: "huge" is an unknown model; known: llm, big',
            '19: workflows.chain.edges[1].to: "d" is no node of this workflow; known: a, b, c',
        ),
    ),
    "problems of both files": Broken(
        (
            "error: config.yaml:8: models.big.memory_gb: must be at least 0, not -1",
            'error: requests.yaml:3: requests[0].timestamp: "soon" is no ISO 8601 timestamp; write it like 2024',
            'error: requests.yaml:6: requests[1].request_id: "r0" is the id of request 0 too; give each request its',
        ),
        {
            "config.yaml": edited(CONFIG, ("memory_gb: 140", "memory_gb: -1")),
            "requests.yaml": edited(REQUESTS, ('"2024-01-01T10:00:00"', "soon"), ("request_id: r1", "request_id: r0")),
        },
    ),
    "line breaks and escapes in a name": other_config(
        "config.json",
        model_config(**{"base_model": "a\nerror: b\x1b[31m\r"}),
        '5: models.llm.base_model: names an unknown model "a\\nerror: b\\x1b[31m\\r"; known: llm',
    ),
}
