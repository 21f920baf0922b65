"""The `placement` section of a configuration: what a static deployment has to keep to."""

from collections.abc import Collection
from typing import Any

from gsched.cluster import MOST_GPUS
from gsched.load.documents import Document, Place
from gsched.load.fields import Fields, known_names, show
from gsched.workload import Pin, PlacementRules

_SECTION_FIELDS = ("pins", "groups")
_PIN_FIELDS = ("model", "gpus", "servers")


def read_placement(document: Document, root: Fields, models: Collection[str]) -> PlacementRules:
    """Return the pins and groups of a configuration, after noting what is wrong with them.

    Args:
        document: the configuration.
        root: its fields.
        models: ids of its models.
    """
    section = Fields(document, ("placement",), root.mapping("placement"))
    section.warn_of_typos(_SECTION_FIELDS)
    pins: dict[str, Pin] = {}
    for i, value in enumerate(section.entries("pins")):
        pin = _pin(document, ("placement", "pins", i), value, models)
        if pin and pin.model in pins:
            document.error(("placement", "pins", i), f'pins model "{pin.model}" again', "make one pin of both")
        elif pin:
            pins[pin.model] = pin
    groups = [
        _group(document, ("placement", "groups", i), value, models) for i, value in enumerate(section.entries("groups"))
    ]
    return PlacementRules(tuple(pins.values()), tuple(group for group in groups if group))


def _pin(document: Document, place: Place, value: object, models: Collection[str]) -> Pin | None:
    if not isinstance(value, dict):
        document.error(place, f"must be a mapping, not {show(value)}", "write {model: …, gpus: [0]}")
        return None
    fields = Fields(document, place, value)
    fields.warn_of_typos(_PIN_FIELDS)
    before = len(document.findings)
    if not fields.require("model", "the id of the model to pin"):
        return None
    model = fields.text("model")
    if model and model not in models:
        fields.error("model", f'"{model}" is an unknown model', known_names(model, models))
    where = {name: _numbers(fields, name) for name in ("gpus", "servers")}
    if ("gpus" in value) == ("servers" in value):
        document.error(place, "must name either gpus or servers", "write gpus: [0] or servers: [0]")
    failed = any(finding.severity == "error" for finding in document.findings[before:])
    return None if failed else Pin(model, **where)


def _numbers(fields: Fields, name: str) -> tuple[int, ...]:
    """Return a list of different positions, in ascending order."""
    values: list[Any] = fields.entries(name)
    if values == [] and name in fields:
        fields.error(name, "is empty", "name at least one")
    if not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < MOST_GPUS for v in values):
        fields.error(name, "must be a list of whole numbers, counted from 0", "write [0, 1]")
        return ()
    if len(set(values)) < len(values):
        fields.error(name, "names one twice", "name each once")
    return tuple(sorted(values))


def _group(document: Document, place: Place, value: object, models: Collection[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        document.error(place, f"must be a list of models, not {show(value)}", "write [one, two]")
        return ()
    if len(set(value)) < max(len(value), 2):
        document.error(place, "must name two or more different models", "correct or remove it")
        return ()
    for i, model in enumerate(value):
        if model not in models:
            document.error((*place, i), f'"{model}" is an unknown model', known_names(model, models))
    return tuple(value)
