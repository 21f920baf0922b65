"""Configurations from files: models with inheritance, workflows with their edges."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gsched.cluster import LARGEST
from gsched.errors import InputError, Problem
from gsched.files import PathLike
from gsched.load.documents import Document
from gsched.load.fields import Fields, known_names, show
from gsched.load.placement import read_placement
from gsched.workload import Config, Model, Node, Workflow

_MODEL_FIELDS = tuple(name for name in Model.__slots__ if name != "id")
_NODE_FIELDS = ("id", "model", "inputs", "outputs", "config_options")
_WORKFLOW_FIELDS = ("name", "nodes", "edges", "weight")


def load_config(path: PathLike, warnings: list[Problem] | None = None) -> Config:
    """Return the models and workflows of a JSON or YAML file.

    Args:
        path: the file.
        warnings: gets what gsched worked around.

    Raises:
        InputError: the file is not a valid configuration; every problem of it is listed.
    """
    return read_config(Document(Path(path)), warnings)


def read_config(document: Document, warnings: list[Problem] | None = None) -> Config:
    """Return the models and workflows of a document; otherwise like `load_config`."""
    config = _read(document)
    problems = document.problems()
    if config is None:
        raise InputError(problems)
    if warnings is not None:
        warnings.extend(problems)
    return config


def _read(document: Document) -> Config | None:
    """Return the configuration, or None after noting an error."""
    root = document.value
    if not isinstance(root, dict):
        document.error((), f"must hold a mapping with models and workflows, not {show(root)}", "see docs/formats.md")
        return None
    fields = Fields(document, (), root)
    parts = {name: fields.mapping(name) for name in ("models", "workflows") if fields.require(name, f"{name}: {{…}}")}
    for name, part in parts.items():
        if not part and isinstance(root[name], dict):
            fields.error(name, "is empty", "define at least one")
    models = _models(document, parts.get("models", {}))
    workflows = {
        id: workflow
        for id, value in parts.get("workflows", {}).items()
        if (workflow := _workflow(document, id, value, parts.get("models", {})))
    }
    placement = read_placement(document, fields, parts.get("models", {}))
    return None if document.failed else Config(models, workflows, placement)


def _models(document: Document, values: Mapping[str, Any]) -> dict[str, Model]:
    models = {}
    for id, value in values.items():
        place = ("models", id)
        if not isinstance(value, dict):
            document.error(place, f"must be a mapping, not {show(value)}", "see docs/formats.md")
        elif (inherited := _inherit(document, id, values)) is not None:
            Fields(document, place, value).warn_of_typos(_MODEL_FIELDS)
            before = len(document.findings)
            models[id] = _model(Fields(document, place, inherited), id)
            own = [found for found in document.findings[before:] if found.place == place or found.place[2] in value]
            document.findings[before:] = own  # the base model's own errors are noted there
    return models


def _inherit(document: Document, id: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a model's fields over those of its base models, or None after noting an error."""
    line = [id]
    fields = dict(values[id])
    while (base := values[line[-1]].get("base_model")) is not None:
        place = ("models", line[-1], "base_model")
        if base in line:
            if id == base == min(line):  # else each model of the circle would report it
                document.error(place, f"inherits from itself: {' → '.join((*line, base))}", "break the circle")
            return None
        if not isinstance(base, str) or not isinstance(values.get(base), dict):
            if len(line) == 1:
                document.error(place, f"names an unknown model {show(base)}", known_names(base, values))
            return None
        fields = values[base] | fields
        line.append(base)
    return fields


def _model(fields: Fields, id: str) -> Model:
    fields.require("memory_gb", "the memory that the model takes on all its GPUs together")
    model = Model(
        id=id,
        memory_gb=fields.number("memory_gb") or 0.0,
        gpus_required=fields.count("gpus_required", 1),
        load_time_seconds=fields.number("load_time_seconds"),
        name=fields.text("name"),
        type=fields.text("type"),
        tokens_per_second=fields.number("tokens_per_second", positive=True),
        token_mean=fields.number("token_mean", positive=True),
        token_std=fields.number("token_std") or 0.0,
        inference_time_mean=fields.number("inference_time_mean"),
        inference_time_std=fields.number("inference_time_std") or 0.0,
        base_model=fields.text("base_model") or None,
        config=fields.mapping("config"),
    )
    if (model.mean_duration or 0.0) > LARGEST:
        fields.error("tokens_per_second", f"makes a node take {model.mean_duration:g} s", "correct the profile")
    return model


def _workflow(document: Document, id: str, value: object, models: Mapping[str, Any]) -> Workflow | None:
    place = ("workflows", id)
    if not isinstance(value, dict):
        document.error(place, f"must be a mapping, not {show(value)}", "see docs/formats.md")
        return None
    fields = Fields(document, place, value)
    fields.warn_of_typos(_WORKFLOW_FIELDS)
    weight = fields.number("weight")
    if not fields.require("nodes", "the list of its nodes"):
        return None
    nodes = _nodes(document, fields, value["nodes"], models)
    edges = _edges(document, fields, [] if value.get("edges") is None else value["edges"], nodes)
    workflow = Workflow(id, tuple(nodes), tuple(edges), fields.text("name"), 1.0 if weight is None else weight)
    if len(workflow.order) < len(nodes):
        circle = [node.id for i, node in enumerate(nodes) if i not in workflow.order]
        fields.error("edges", f"form a cycle through or before {', '.join(circle)}", "remove one of its edges")
    return workflow


def _nodes(document: Document, workflow: Fields, values: object, models: Mapping[str, Any]) -> list[Node]:
    if not isinstance(values, list) or not values:
        found = "an empty list" if values == [] else show(values)
        workflow.error("nodes", f"must be a list of at least one node, not {found}", "see docs/formats.md")
        return []
    nodes: dict[str, Node] = {}
    for i, value in enumerate(values):
        place = (*workflow.place, "nodes", i)
        if not isinstance(value, dict):
            document.error(place, f"must be a mapping, not {show(value)}", "write {id: …, model: …}")
            continue
        fields = Fields(document, place, value)
        fields.warn_of_typos(_NODE_FIELDS)
        fields.require("model", "the id of its model")
        if not fields.require("id", "a unique id"):
            continue
        node = Node(
            fields.text("id"), fields.text("model"), *map(fields.texts, ("inputs", "outputs", "config_options"))
        )
        if node.id in nodes:
            fields.error("id", f'"{node.id}" is the id of an earlier node', "give each node its own id")
        if node.model and models and node.model not in models:
            fields.error("model", f'"{node.model}" is an unknown model', known_names(node.model, models))
        nodes[node.id] = node
    return list(nodes.values())


def _edges(document: Document, workflow: Fields, values: object, nodes: list[Node]) -> list[tuple[int, int]]:
    if not isinstance(values, list):
        workflow.error("edges", f"must be a list, not {show(values)}", "write [{from: …, to: …}]")
        return []
    ends = _Ends(nodes)
    edges: dict[tuple[int, int], None] = {}
    for i, value in enumerate(values):
        place = (*workflow.place, "edges", i)
        if not isinstance(value, dict):
            document.error(place, f"must be a mapping, not {show(value)}", "write {from: …, to: …}")
            continue
        fields = Fields(document, place, value)
        start, end = ends.position(fields, "from"), ends.position(fields, "to")
        if start is None or end is None:
            continue
        if start == end:
            document.error(place, f'leads from "{nodes[start].id}" to itself', "remove it")
        elif (start, end) in edges:
            document.warn(place, f'repeats the edge from "{nodes[start].id}" to "{nodes[end].id}"', "remove it")
        edges[start, end] = None
    return [edge for edge in edges if edge[0] != edge[1]]


class _Ends:
    """What the ends of a workflow's edges may name: nodes, or outputs of nodes."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._ids = [node.id for node in nodes]
        self._position = {id: i for i, id in enumerate(self._ids)}
        self._producers: dict[str, list[int]] = {}
        for i, node in enumerate(nodes):
            for output in dict.fromkeys(node.outputs):
                self._producers.setdefault(output, []).append(i)

    def position(self, fields: Fields, name: str) -> int | None:
        """Return the position of the node that an end names, by its id or else by an output that it alone has."""
        if not fields.require(name, "the id of a node"):
            return None
        meant = fields.text(name)
        producers = self._producers.get(meant, [])
        if not meant or meant in self._position:
            return self._position.get(meant)
        if len(producers) == 1:
            fields.warn(name, f'"{meant}" is an output', f'taken as its node "{self._ids[producers[0]]}"')
            return producers[0]
        if producers:
            fields.error(name, f'"{meant}" is an output of {len(producers)} nodes', "name the node")
        else:
            fields.error(name, f'"{meant}" is no node of this workflow', known_names(meant, self._ids))
        return None
