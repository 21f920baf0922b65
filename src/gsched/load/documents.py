"""Text files as plain values, with the problems found in them and the lines on which those stand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gsched.errors import InputError, Problem, Severity
from gsched.files import read_bytes
from gsched.load.yaml_values import parse_yaml

TEXT_SUFFIXES = (".json", ".jsonl", ".yaml", ".yml")
LARGEST_LOCATED = 20_000_000  # characters; finding lines in larger files would take longer than it is worth

Place = tuple[str | int, ...]


class _Finding(NamedTuple):
    place: Place
    message: str
    hint: str
    severity: Severity


class Document:
    """A text file's content as plain values, and a collector for what is wrong with them.

    Raises:
        InputError: the file cannot be read, or is not text of the format that its suffix says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: list[_Finding] = []
        self._text = _read_text(path)
        try:
            self.value = self._parse()
        except json.JSONDecodeError as error:
            message = f"is not valid JSON: {error.msg} (column {error.colno})"
            raise InputError.one(f"{path}:{error.lineno}", "", message, _syntax_hint(self._text)) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            message = f"is not valid YAML: {error.problem or error.context}"
            raise InputError.one(where, "", message, "check the indentation and the quotes") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise InputError.one(path, "", f"cannot be parsed ({type(error).__name__})", "check its end") from None

    def _parse(self) -> Any:
        if self.path.suffix == ".json":
            return json.loads(self._text, object_pairs_hook=self._object)
        if self.path.suffix == ".jsonl":
            return [self._parse_line(number, line) for number, line in self._numbered_lines()]
        return parse_yaml(self._text, lambda key, line: self._twice(key, f" (again on line {line})"))

    def _parse_line(self, number: int, line: str) -> Any:
        try:
            return json.loads(line, object_pairs_hook=self._object)
        except json.JSONDecodeError as error:
            raise json.JSONDecodeError(error.msg, "\n" * (number - 1) + line, number - 1 + error.pos) from None

    def _numbered_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not blank, with their numbers."""
        lines = enumerate(self._text.split("\n"), 1)
        return ((number, line) for number, line in lines if line.strip())

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return a JSON object, after noting the keys that stand in it twice."""
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            for key in sorted({key for key in keys if keys.count(key) > 1}):
                self._twice(key, "")
        return result

    def _twice(self, key: str, where: str) -> None:
        """Note a key that stands twice: all but its last value would be lost."""
        self.error((), f"key {key!r} stands twice in one object{where}", "remove or rename one of them")

    def error(self, place: Place, message: str, hint: str = "") -> None:
        """Note what makes the file unusable, at a place such as `("requests", 3, "timestamp")`."""
        self.findings.append(_Finding(place, message, hint, "error"))

    def warn(self, place: Place, message: str, hint: str = "") -> None:
        """Note what gsched works around."""
        self.findings.append(_Finding(place, message, hint, "warning"))

    def problems(self) -> list[Problem]:
        """Return what was noted, each with its line where that can be found."""
        lines = _Lines(self)
        return [Problem(lines.source(finding.place), spell(finding.place), *finding[1:]) for finding in self.findings]


def _read_text(path: Path) -> str:
    if path.suffix not in TEXT_SUFFIXES:
        raise InputError.one(path, "", f"has an unknown suffix {path.suffix!r}", f"use {', '.join(TEXT_SUFFIXES)}")
    content = read_bytes(path)
    if content[:4] == b"PAR1":
        raise InputError.one(path, "", f"is a Parquet file under a {path.suffix} name", "rename it to .parquet")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError.one(path, f"byte {error.start}", "is not UTF-8 text", "save the file as UTF-8") from None
    if not text.strip():
        raise InputError.one(path, "", "is empty", "name another file")
    if "\0" in text:
        raise InputError.one(path, "", "holds zero bytes, so it is no text", "name another file")
    return text


def _syntax_hint(text: str) -> str:
    complete = text.rstrip().endswith(("}", "]"))
    return "correct that line" if complete else "the file seems to be cut off, make it anew"


def spell(place: Place) -> str:
    """Return a place as a reader would write it: `requests[3].timestamp`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


class _Lines:
    """Finds the lines of places; the text is parsed again for that, once, and only when asked."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._root: Any = None
        self._tried = False

    def source(self, place: Place) -> str:
        """Return `path:line` for a place, or the path alone where the line cannot be told."""
        line = self._line(place)
        return f"{self._document.path}:{line}" if line else str(self._document.path)

    def _line(self, place: Place) -> int | None:
        document = self._document
        if document.path.suffix == ".jsonl":
            return _nth_line(document, place)
        if not self._tried:
            self._tried = True
            self._root = _compose(document._text)
        node, line = self._root, None
        for part in place:
            node = _child(node, part)
            if node is None:
                break
            line = node.start_mark.line + 1
        return line


def _nth_line(document: Document, place: Place) -> int | None:
    if not place or not isinstance(place[0], int):
        return None
    return [number for number, _ in document._numbered_lines()][place[0]]


def _compose(text: str) -> Any:
    """Return YAML's nodes, which know their lines; nearly all JSON is YAML too."""
    if len(text) > LARGEST_LOCATED:
        return None
    try:
        return yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None


def _child(node: Any, part: str | int) -> Any:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        return node.value[part] if part < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    return None
