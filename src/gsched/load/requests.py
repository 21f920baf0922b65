"""Requests from text files: one mapping each."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gsched.load.documents import Document, Place
from gsched.load.durations import Given, resolve
from gsched.load.fields import Fields, closest, known_names, number_complaint, show
from gsched.load.timestamps import nanoseconds
from gsched.workload import LOWEST_TIER, Config, Floats, Ints, Workload

DETAILS = ("input_data", "node_configs", "metadata")
FIELDS = ("request_id", "timestamp", "workflow_id", "node_execution_times", "tier", "deadline", *DETAILS)


class _Row(NamedTuple):
    """A request without errors in its own fields."""

    position: int
    id: str
    workflow: int
    timestamp: int
    times: Mapping[str, float]
    tier: int
    deadline: float


def read_requests(document: Document, config: Config | None, *, details: bool) -> Workload | None:
    """Return the workload of a document of requests, or None after noting errors in it.

    Args:
        document: a mapping with a list `requests`, or that list itself.
        config: models and workflows; None where they could not be read, then only what needs none is checked.
        details: whether to keep the columns that do not matter to scheduling.
    """
    found = _request_list(document)
    if found is None:
        return None
    base, values = found
    reader = _Reader(document, base, config)
    rows = [row for i, value in enumerate(values) if (row := reader.row(i, value))]
    if config is None or not rows:
        return None
    workflow = np.array([row.workflow for row in rows], np.int32)

    def note(row: int, node: str, message: str, hint: str) -> None:
        document.error((*base, rows[row].position, "node_execution_times", node), message, hint)

    duration = resolve(config, workflow, _given(rows), note)
    if document.failed:
        return None
    return Workload(
        config,
        [row.id for row in rows],
        workflow,
        np.array([row.timestamp for row in rows], np.int64),
        duration,
        _details(values) if details else {},
        _deadlines(rows),
        _tiers(rows),
    )


def _request_list(document: Document) -> tuple[Place, list[Any]] | None:
    root = document.value
    base: Place = ()
    if isinstance(root, dict):
        base = ("requests",)
        if "requests" not in root:
            meant = closest("requests", [str(key) for key in root])
            document.error((), "has no requests", f"rename {meant} to requests" if meant else "add requests: […]")
            return None
        root = root["requests"]
    if not isinstance(root, list):
        document.error(base, f"must be a list of requests, not {show(root)}", "see docs/formats.md")
        return None
    if not root:
        document.error(base, "holds no requests", "generate some with gsched generate")
        return None
    return base, root


class _Reader:
    """Reads the requests of one document, in order."""

    def __init__(self, document: Document, base: Place, config: Config | None) -> None:
        self._document = document
        self._base = base
        self._workflows = {id: i for i, id in enumerate(config.workflows)} if config else None
        self._ids: dict[str, int] = {}
        self._zone: str | None = None

    def row(self, position: int, value: object) -> _Row | None:
        """Return a request, or None after noting what is wrong with it."""
        place = (*self._base, position)
        if not isinstance(value, dict):
            self._document.error(place, f"must be a mapping, not {show(value)}", "see docs/formats.md")
            return None
        before = len(self._document.findings)
        fields = Fields(self._document, place, value)
        if value.keys() - _FIELD_SET:
            fields.warn_of_typos(FIELDS)
        id = self._id(fields, position)
        workflow = self._workflow(fields)
        timestamp = self._timestamp(fields, value)
        times = self._times(fields)
        tier = fields.count("tier", 1, LOWEST_TIER) if "tier" in value else 1
        deadline = fields.number("deadline") if "deadline" in value else None
        findings = self._document.findings[before:]
        if any(finding.severity == "error" for finding in findings):
            return None
        return _Row(position, id, workflow, timestamp, times, tier, math.inf if deadline is None else deadline)

    def _id(self, fields: Fields, position: int) -> str:
        if not fields.require("request_id", "a unique id"):
            return ""
        id = fields.text("request_id")
        earlier = self._ids.setdefault(id, position)
        if id and earlier != position:
            fields.error("request_id", f'"{id}" is the id of request {earlier} too', "give each request its own id")
        return id

    def _workflow(self, fields: Fields) -> int:
        if not fields.require("workflow_id", "the id of its workflow"):
            return -1
        id = fields.text("workflow_id")
        if self._workflows is None:
            return -1
        if id and id not in self._workflows:
            fields.error("workflow_id", f'"{id}" is an unknown workflow', known_names(id, self._workflows))
        return self._workflows.get(id, -1)

    def _timestamp(self, fields: Fields, value: Mapping[str, Any]) -> int:
        if not fields.require("timestamp", "its arrival as an ISO 8601 text"):
            return 0
        try:
            timestamp, zone = nanoseconds(value["timestamp"])
        except ValueError as error:
            fields.error("timestamp", str(error), "write it like 2024-01-01T10:00:00.000000")
            return 0
        self._zone = self._zone or zone
        if zone != self._zone:
            fields.error("timestamp", f"is {zone}, those before it are {self._zone}", "give all or none a time zone")
        return timestamp

    def _times(self, fields: Fields) -> Mapping[str, float]:
        times = fields.mapping("node_execution_times")
        for node, seconds in times.items():
            if type(seconds) is not float and (complaint := number_complaint(seconds)):
                self._document.error((*fields.place, "node_execution_times", node), *complaint)
        return times


_FIELD_SET = frozenset(FIELDS)


def _given(rows: Sequence[_Row]) -> Given:
    """Return the execution times of all requests as flat columns."""
    position: dict[str, int] = {}
    node = [position.setdefault(id, len(position)) for row in rows for id in row.times]
    seconds = [seconds for row in rows for seconds in row.times.values()]
    first = np.cumsum([0, *(len(row.times) for row in rows)], dtype=np.int64)
    return Given(first, np.array(node, np.int32), list(position), np.array(seconds, np.float64))


def _deadlines(rows: Sequence[_Row]) -> Floats | None:
    """Return the deadlines of all requests, or None where none has one."""
    column = np.array([row.deadline for row in rows], np.float64)
    return None if np.isinf(column).all() else column


def _tiers(rows: Sequence[_Row]) -> Ints | None:
    """Return the tiers of all requests, or None where all are 1."""
    column = np.array([row.tier for row in rows], np.int32)
    return None if (column == 1).all() else column


def _details(values: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the columns that any request has, as texts of JSON."""
    columns = [name for name in DETAILS if any(name in value for value in values)]
    return {name: [json.dumps(value.get(name) or {}, ensure_ascii=False) for value in values] for name in columns}
