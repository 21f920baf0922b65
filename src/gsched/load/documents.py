"""Text files as plain values, with the problems found in them and the lines on which those stand."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gsched.errors import InputError, Problem, Severity
from gsched.files import read_bytes
from gsched.load.yaml_values import parse_yaml, whole_number

TEXT_SUFFIXES = (".json", ".jsonl", ".yaml", ".yml")
LARGEST_LOCATED = 20_000_000  # characters; finding lines in larger files would take longer than it is worth

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>u[dD][89a-fA-F]..)|.)", re.DOTALL)

Place = tuple[str | int, ...]


class _Finding(NamedTuple):
    place: Place
    message: str
    hint: str
    severity: Severity
    line: int = 0  # where it is known without looking for the place


class Document:
    """A text file's content as plain values, and a collector for what is wrong with them.

    Raises:
        InputError: the file cannot be read, or is not text of the format that its suffix says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suffix = path.suffix.lower()
        self.findings: list[_Finding] = []
        self._text = _read_text(path)
        self._repeats: list[str] = []
        try:
            self.value = self._parse()
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise InputError([_syntax_problem(error, path, self._text)]) from None

    def _parse(self) -> Any:
        if self.suffix in (".yaml", ".yml"):
            return parse_yaml(self._text, self._twice)
        self._refuse_half_characters()
        if self.suffix == ".jsonl":
            return [self._parse_line(number, line) for number, line in self.numbered_lines()]
        value = self._load(self._text)
        if self._repeats:
            for key, line in _repeated_keys(compose(self._text)) or [(key, 0) for key in self._repeats]:
                self._twice(key, line)
        return value

    def _load(self, text: str) -> Any:
        return json.loads(text, object_pairs_hook=self._object, parse_int=whole_number)

    def _parse_line(self, number: int, line: str) -> Any:
        self._repeats.clear()
        try:
            value = self._load(line)
        except json.JSONDecodeError as error:
            raise json.JSONDecodeError(error.msg, "\n" * (number - 1) + line, number - 1 + error.pos) from None
        for key in self._repeats:
            self._twice(key, number)
        return value

    def numbered_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not blank, with their numbers."""
        lines = enumerate(self._text.split("\n"), 1)
        return ((number, line) for number, line in lines if line.strip())

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return a JSON object, after noting the keys that stand in it twice."""
        result = dict(pairs)
        if len(result) < len(pairs):
            self._repeats += [pairs[i][0] for i in _repeated([key for key, _ in pairs])]
        return result

    def _twice(self, key: str, line: int) -> None:
        """Note a key that stands twice: all but its last value would be lost."""
        message = f'key "{key}" stands twice in one mapping'
        self.findings.append(_Finding((), message, "remove or rename one of them", "error", line))

    def _refuse_half_characters(self) -> None:
        """Raise an `InputError` for the half of a surrogate pair, which no file could be written with."""
        if not _SURROGATE.search(self._text):
            return
        half = next((found for found in _ESCAPE.finditer(self._text) if found["half"]), None)
        if half:
            line = self._text.count("\n", 0, half.start()) + 1
            raise InputError.one(f"{self.path}:{line}", "", f"{half[0]} is half a character", "write both halves")

    def error(self, place: Place, message: str, hint: str = "") -> None:
        """Note what makes the file unusable, at a place such as `("requests", 3, "timestamp")`."""
        self.findings.append(_Finding(place, message, hint, "error"))

    def warn(self, place: Place, message: str, hint: str = "") -> None:
        """Note what gsched works around."""
        self.findings.append(_Finding(place, message, hint, "warning"))

    @property
    def failed(self) -> bool:
        """Whether an error was noted."""
        return any(finding.severity == "error" for finding in self.findings)

    def problems(self, since: int = 0) -> list[Problem]:
        """Return what was noted after the first `since`, in the order of the file, with lines if they can be found."""
        line_of = _Lines(self)
        located = [(finding.line or line_of(finding.place), finding) for finding in self.findings[since:]]
        located.sort(key=lambda pair: pair[0])
        return [
            Problem(f"{self.path}:{line}" if line else str(self.path), spell(place), message, hint, severity)
            for line, (place, message, hint, severity, _) in located
        ]


def _read_text(path: Path) -> str:
    content = read_bytes(path)
    if content[:4] == b"PAR1":
        raise InputError.one(path, "", "is a Parquet file", "rename it to .parquet")
    if path.suffix.lower() not in TEXT_SUFFIXES:
        raise InputError.one(path, "", f'has an unknown suffix "{path.suffix}"', f"use {', '.join(TEXT_SUFFIXES)}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError.one(path, f"byte {error.start}", "is not UTF-8 text", "save the file as UTF-8") from None
    if not text.strip():
        raise InputError.one(path, "", "is empty", "name another file")
    if "\0" in text:
        raise InputError.one(path, "", "holds zero bytes, so it is no UTF-8 text", "save the file as UTF-8")
    return text


def _syntax_problem(error: Exception, path: Path, text: str) -> Problem:
    """Return what a parser complained about."""
    if isinstance(error, json.JSONDecodeError):
        complete = text.rstrip().endswith(("}", "]"))
        hint = "correct that line" if complete else "the file seems to be cut off, make it anew"
        return Problem(f"{path}:{error.lineno}", "", f"is not valid JSON: {error.msg} (column {error.colno})", hint)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        source = f"{path}:{mark.line + 1}" if mark else str(path)
        message = f"is not valid YAML: {error.problem or error.context}"
        return Problem(source, "", message, "check indentation (no tabs), quotes, and whether the file is complete")
    if isinstance(error, RecursionError):
        return Problem(str(path), "", "is nested too deeply", "see docs/formats.md")
    return Problem(str(path), "", f"cannot be parsed: {' '.join(str(error).split())}", "correct it")


def spell(place: Place) -> str:
    """Return a place as a reader would write it: `requests[3].timestamp`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


class _Lines:
    """Finds the lines of places; the text is parsed again for that, once, and only when asked."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._root: Any = None
        self._numbers: list[int] | None = None

    def __call__(self, place: Place) -> int:
        """Return the line of a place, or 0 where it cannot be told."""
        document = self._document
        if self._numbers is None:
            lines = document.numbered_lines() if document.suffix == ".jsonl" else ()
            self._numbers = [number for number, _ in lines]
            self._root = None if self._numbers else compose(document._text)
        if self._numbers:
            return self._numbers[place[0]] if place and isinstance(place[0], int) else 0
        node, line = self._root, 0
        for part in place:
            mark, node = _child(node, part)
            if node is None:
                break
            line = mark.line + 1
        return line


def compose(text: str) -> Any:
    """Return YAML's nodes, which know their lines; nearly all JSON is YAML too. None where that cannot be had."""
    if len(text) > LARGEST_LOCATED:
        return None
    try:
        return yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None


def _child(node: Any, part: str | int) -> tuple[Any, Any]:
    """Return where the entry of a mapping or list begins, and its value; None for both where there is none."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark, node.value[part]
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark, value) for key, value in node.value if key.value == part), (None, None))
    return None, None


def _repeated_keys(root: Any) -> list[tuple[str, int]]:
    """Return the keys that stand in their mapping before, with their lines."""
    found = []
    open_nodes = [root]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, yaml.SequenceNode):
            open_nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            keys, values = zip(*node.value, strict=True) if node.value else ((), ())
            repeated = [keys[i] for i in _repeated([key.value for key in keys])]
            found += [(key.value, key.start_mark.line + 1) for key in repeated]
            open_nodes += values
    return sorted(found, key=lambda pair: pair[1])


def _repeated(keys: Sequence[str]) -> list[int]:
    """Return the positions of the keys that stand before too."""
    first: dict[str, int] = {}
    return [i for i, key in enumerate(keys) if first.setdefault(key, i) != i]
