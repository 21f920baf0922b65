"""Sweeps from files: a small YAML document (docs/sweeps.md)."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsched.arrivals import parse_profile
from gsched.cluster import MOST_GPUS
from gsched.errors import InputError, Problem
from gsched.files import PathLike, read_bytes
from gsched.generator import parse_weights
from gsched.load import load_config, load_workload
from gsched.load.documents import Document, Place
from gsched.load.fields import Fields, number_complaint, show
from gsched.sweep.definition import Choice, Source
from gsched.urgency import parse_deadlines, parse_tiers

CLUSTER_NUMBERS = ("gpu_memory_gb", "pcie_bandwidth", "switch_overhead")
MOST_SEEDS = 10_000

_FIELDS = ("workloads", "policies", "gpus", "loads", "seeds", "mode", "gpus_per_server", "residency", *CLUSTER_NUMBERS)
_DRAWN_TEXTS = ("arrivals", "profile", "weights", "tiers", "deadlines")
_WORKLOAD_FIELDS = ("config", "requests", "num_requests", "duration", "burstiness", *_DRAWN_TEXTS)


def read_sweep(path: PathLike, warnings: list[Problem] | None = None) -> dict[str, Any]:
    """Return the arguments of `Sweep` that a document gives; files that it names are relative to it.

    Args:
        path: the document.
        warnings: gets what gsched worked around.

    Raises:
        InputError: it cannot be used; every problem of it is listed.
    """
    document = Document(Path(path))
    if not isinstance(document.value, dict):
        raise InputError.one(path, "", f"must be a mapping, not {show(document.value)}", "see docs/sweeps.md")
    reader = _Reader(document, [] if warnings is None else warnings)
    arguments = reader.arguments()
    problems = document.problems()
    errors = [problem for problem in problems if problem.severity == "error"] + reader.problems
    if errors:
        raise InputError(errors)
    if warnings is not None:
        warnings.extend(problems)
    return arguments


def recorded(config: Path, requests: Path, warnings: list[Problem]) -> Source:
    """Return the source of requests that stand in a file.

    Raises:
        InputError: a file cannot be used.
    """
    workload = load_workload(config, requests, warnings=warnings)
    return Source(workload.config, workload, {}, _digests(config=config, requests=requests))


def drawn(config: Path, arguments: Mapping[str, Any], warnings: list[Problem]) -> Source:
    """Return the source of requests that are drawn from a seed, after trying whether they can be.

    Args:
        config: models and workflows.
        arguments: of `gsched.generate`, but for config and seed.
        warnings: gets what gsched worked around.

    Raises:
        InputError: the file cannot be used, or an argument makes no sense.
    """
    source = Source(load_config(config, warnings), None, arguments, _digests(config=config))
    source.workload(0)
    return source


def _digests(**paths: Path) -> dict[str, str]:
    return {kind: hashlib.sha256(read_bytes(path)).hexdigest() for kind, path in paths.items()}


class _Reader:
    """Reads a document into arguments of `Sweep`, and notes what is wrong in it."""

    def __init__(self, document: Document, warnings: list[Problem]) -> None:
        self._document, self._warnings = document, warnings
        self._root = Fields(document, (), document.value)
        self.problems: list[Problem] = []  # of the files that it names

    def arguments(self) -> dict[str, Any]:
        self._refuse_unknown(self._root, self._document.value, _FIELDS)
        found = {
            "sources": self._sources(),
            "choices": self._choices(),
            "gpus": self._numbers("gpus", whole=True),
            "loads": self._numbers("loads", whole=False),
            "seeds": self._seeds(),
            "mode": self._root.text("mode") or None,
            "cluster": self._cluster(),
        }
        for name in ("workloads", "policies", "gpus", "loads", "seeds"):
            if self._document.value.get(name) in ([], {}):
                self._root.error(name, "is empty", "name at least one, or leave it out")
        if found["mode"] not in (None, "offline", "online"):
            self._root.error("mode", f"must be offline or online, not {found['mode']}", "correct it")
        return {name: value for name, value in found.items() if value}

    def _refuse_unknown(self, fields: Fields, value: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in value:
            if name not in known:
                fields.error(str(name), "is an unknown field", f"there are {', '.join(known)}")

    def _cluster(self) -> dict[str, Any]:
        found: dict[str, Any] = {name: self._root.number(name) for name in CLUSTER_NUMBERS}
        if "gpus_per_server" in self._root:
            found["gpus_per_server"] = self._root.count("gpus_per_server", 1)
        found["residency"] = self._root.text("residency") or None
        return {name: value for name, value in found.items() if value is not None}

    def _numbers(self, name: str, *, whole: bool) -> tuple[Any, ...]:
        """Return a list of numbers above 0."""
        found = []
        for i, value in enumerate(self._root.entries(name)):
            complaint = number_complaint(value, positive=True)
            if not complaint and whole and (not isinstance(value, int) or value > MOST_GPUS):
                complaint = (f"must be a whole number from 1 to {MOST_GPUS:,}, not {show(value)}", "correct it")
            if complaint:
                self._document.error((name, i), *complaint)
            else:
                found.append(value if whole else float(value))
        return tuple(found)

    def _seeds(self) -> tuple[int, ...]:
        value = self._document.value.get("seeds")
        if type(value) is int and 1 <= value <= MOST_SEEDS:
            return tuple(range(1, value + 1))
        if isinstance(value, list) and all(type(seed) is int and seed >= 0 for seed in value):
            return tuple(value)
        if value is not None:
            hint = f"write seeds: 10 for 1 to 10 (at most {MOST_SEEDS:,}), or seeds: [1, 2, 3]"
            self._root.error("seeds", f"must be a number of seeds or a list of them, not {show(value)}", hint)
        return ()

    def _choices(self) -> dict[str, Choice]:
        choices: dict[str, Choice] = {}
        for i, value in enumerate(self._root.entries("policies")):
            fields = {"policy": value} if isinstance(value, str) else value
            if not isinstance(fields, dict) or not isinstance(fields.get("policy"), str):
                self._document.error(
                    ("policies", i), f"names no policy: {show(value)}", "write improved, or {policy: …}"
                )
                continue
            options = {str(name): given for name, given in fields.items() if name not in ("policy", "name")}
            policy = fields["policy"]
            choice = Choice(str(self._document.path.parent / policy) if ":" in policy else policy, options)
            try:
                usual = choice.found.name
            except InputError as error:
                problem = error.problems[0]
                self._document.error(("policies", i), f"{problem.place}: {problem.message}", problem.hint)
                continue
            name = str(fields.get("name") or usual)
            if name in choices:
                self._document.error(
                    ("policies", i), f"is a second policy {name}", "give it a name of its own: name: …"
                )
            choices[name] = choice
        return choices

    def _sources(self) -> dict[str, Source]:
        sources: dict[str, Source] = {}
        for name, value in self._root.mapping("workloads").items():
            place: Place = ("workloads", name)
            if not isinstance(value, dict):
                self._document.error(place, f"must be a mapping, not {show(value)}", "write {config: …, requests: …}")
                continue
            before = len(self._document.findings)
            fields = Fields(self._document, place, value)
            self._refuse_unknown(fields, value, _WORKLOAD_FIELDS)
            if not fields.require("config", "the path of a configuration") or len(self._document.findings) > before:
                continue
            try:
                sources[str(name)] = self._source(fields, value)
            except InputError as error:
                self._note(error, place)
        return sources

    def _source(self, fields: Fields, value: Mapping[str, Any]) -> Source:
        folder = self._document.path.parent
        config = folder / fields.text("config")
        if "requests" not in fields:
            return drawn(config, drawn_arguments(**{k: v for k, v in value.items() if k != "config"}), self._warnings)
        if extra := [name for name in value if name not in ("config", "requests")]:
            message = "is for requests that are drawn, but these are read"
            raise InputError.one("workload", extra[0], message, "remove it, or requests")
        return recorded(config, folder / fields.text("requests"), self._warnings)

    def _note(self, error: InputError, place: Place) -> None:
        """Note problems of a workload at its place in the document, and those of a file where they stand in that."""
        for problem in error.problems:
            if Path(problem.source.split(":")[0]).suffix:
                self.problems.append(problem)
            else:
                what = ": ".join(part for part in (problem.source, problem.place) if part)
                self._document.error(place, f"{what}: {problem.message}", problem.hint)


def drawn_arguments(
    num_requests: int | None = None,
    duration: float | None = None,
    arrivals: str | None = None,
    burstiness: float | None = None,
    profile: str | None = None,
    weights: str | None = None,
    tiers: str | None = None,
    deadlines: str | None = None,
) -> dict[str, Any]:
    """Return arguments of `gsched.generate` from what `gsched generate` calls its options, written as there.

    Raises:
        InputError: one cannot be read.
    """
    numbers = {"num_requests": num_requests, "duration": duration, "burstiness": burstiness}
    for name, value in numbers.items():
        if value is not None and (complaint := number_complaint(value, positive=True)):
            raise InputError.one("workload", name, *complaint)
    if isinstance(num_requests, float):
        raise InputError.one("workload", "num_requests", f"must be a whole number, not {num_requests}", "correct it")
    texts = {"arrivals": arrivals, "profile": profile, "weights": weights, "tiers": tiers, "deadlines": deadlines}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise InputError.one(
                "workload", name, f"must be a text, not {show(text)}", "write it as for gsched generate"
            )
    shares = None if tiers is None else parse_tiers(tiers)
    found = {
        "requests": num_requests,
        "duration": duration,
        "arrivals": arrivals,
        "burstiness": burstiness,
        "profile": None if profile is None else parse_profile(profile),
        "weights": None if weights is None else parse_weights(weights),
        "tiers": shares,
        "deadlines": None if deadlines is None else parse_deadlines(deadlines, shares or (1,)),
    }
    return {name: value for name, value in found.items() if value is not None}
