"""Requests to files of every format."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import yaml

from gsched.errors import InputError
from gsched.files import PathLike, whole_file
from gsched.load.documents import TEXT_SUFFIXES
from gsched.load.parquet import write_parquet
from gsched.load.yaml_values import NUMBER
from gsched.workload import Config, Longs, Model, Node, PlacementRules, Workflow, Workload

_CHUNK = 500


class Dumper(yaml.CSafeDumper):
    """Writes YAML 1.1 with quotes around all texts that YAML 1.2 would take for numbers."""


Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def save_requests(workload: Workload, path: PathLike) -> None:
    """Write the requests of a workload, in the format of the path's suffix.

    Raises:
        InputError: the suffix is unknown or the file cannot be written.
    """
    writers = {".json": _write_json, ".jsonl": _write_lines, ".parquet": write_parquet}
    writers |= {".yaml": _write_yaml, ".yml": _write_yaml}
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in writers:
        known = ", ".join((*TEXT_SUFFIXES, ".parquet"))
        raise InputError.one(path, "", f'has an unknown suffix "{target.suffix}"', f"use {known}")
    with whole_file(target) as file:
        writers[suffix](workload, file)


def save_config(config: Config, path: PathLike) -> None:
    """Write a configuration as JSON; what is at its default is left out, unless a base model may say otherwise.

    Raises:
        InputError: the file cannot be written.
    """
    content = {
        "models": {model.id: _fields(model) for model in config.models.values()},
        "workflows": {flow.id: _workflow(flow) for flow in config.workflows.values()},
    }
    if config.placement != PlacementRules():
        content["placement"] = _placement(config.placement)
    with whole_file(Path(path)) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


def _placement(rules: PlacementRules) -> dict[str, Any]:
    pins = [{name: value for name, value in asdict(pin).items() if value} for pin in rules.pins]
    return {name: value for name, value in (("pins", pins), ("groups", rules.groups)) if value}


def _fields(part: Model | Node) -> dict[str, Any]:
    """Return the fields of a model or node that differ from their defaults; of a model with a base model, all."""
    values = {field.name: getattr(part, field.name) for field in fields(part) if field.name != "id"}
    if isinstance(part, Model) and part.base_model:
        return values
    defaults = {field.name: field.default for field in fields(part)}
    return {name: value for name, value in values.items() if value != defaults[name] and value not in ((), {})}


def _workflow(flow: Workflow) -> dict[str, Any]:
    named = {name: value for name, value in (("name", flow.name), ("weight", flow.weight)) if value not in ("", 1.0)}
    nodes = [{"id": node.id, **_fields(node)} for node in flow.nodes]
    edges = [{"from": flow.nodes[a].id, "to": flow.nodes[b].id} for a, b in flow.edges]
    return {**named, "nodes": nodes, "edges": edges}


def timestamp_texts(timestamp: Longs) -> list[str]:
    """Return timestamps as ISO 8601 texts, to the microsecond where that is exact."""
    unit: Literal["ns", "us"] = "ns" if (timestamp % 1000).any() else "us"
    texts: list[str] = np.datetime_as_string(timestamp.view("datetime64[ns]"), unit=unit).tolist()
    return texts


def _rows(workload: Workload) -> Iterator[dict[str, Any]]:
    """Yield the requests as they stand in a text file."""
    node_ids = [[node.id for node in flow.nodes] for flow in workload.workflows]
    flow_ids = list(workload.config.workflows)
    first, seconds = workload.first_node.tolist(), workload.duration.tolist()
    tier = None if workload.tier is None else workload.tier.tolist()
    deadline = None if workload.deadline is None else workload.deadline.tolist()
    details = list(workload.details.items())
    columns = zip(workload.request_ids, timestamp_texts(workload.timestamp), workload.workflow.tolist(), strict=True)
    for i, (id, timestamp, flow) in enumerate(columns):
        times = dict(zip(node_ids[flow], seconds[first[i] : first[i + 1]], strict=True))
        row = {"request_id": id, "timestamp": timestamp, "workflow_id": flow_ids[flow], "node_execution_times": times}
        if tier:
            row["tier"] = tier[i]
        if deadline and deadline[i] < math.inf:
            row["deadline"] = deadline[i]
        yield row | {name: json.loads(str(texts[i])) for name, texts in details}


def _write_json(workload: Workload, file: IO[bytes]) -> None:
    separator = '{\n  "requests": [\n    '
    for row in _rows(workload):
        file.write((separator + json.dumps(row, ensure_ascii=False)).encode())
        separator = ",\n    "
    file.write(b"\n  ]\n}\n")


def _write_lines(workload: Workload, file: IO[bytes]) -> None:
    for row in _rows(workload):
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_yaml(workload: Workload, file: IO[bytes]) -> None:
    file.write(b"requests:\n")
    rows: list[dict[str, Any]] = []
    for row in _rows(workload):
        rows.append(row)
        if len(rows) == _CHUNK:
            file.write(_yaml(rows))
            rows = []
    if rows:
        file.write(_yaml(rows))


def _yaml(rows: list[dict[str, Any]]) -> bytes:
    text: bytes = yaml.dump(rows, Dumper=Dumper, sort_keys=False, allow_unicode=True, encoding="utf-8")
    return text
