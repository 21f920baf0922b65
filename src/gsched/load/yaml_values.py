"""YAML as plain values, built straight from libyaml's events.

That is several times faster than PyYAML's constructors and builds nothing but dicts with texts as keys, lists, texts,
numbers, booleans and None. Words mean what YAML 1.2 says: dates stay texts, `no` is a text, `1e5` a number, `010` ten.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import yaml

_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_WORDS |= dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan)
_WORDS |= {sign + word: float(f"{sign}inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")}
NUMBER = re.compile(r"[-+]?(?:(?P<whole>[0-9]+)|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)$")
_PLAIN_TAGS = {None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq"))}

_NO_KEY = object()  # of a mapping whose next key has not come yet
_MERGE: Any = object()  # the key << without quotes
MAX_DEPTH = 200  # tens of thousands of levels would overflow the C stack when lines are looked up


def parse_yaml(text: str, on_twice: Callable[[str, int], None]) -> Any:
    """Return the value of a YAML document.

    Args:
        text: the document.
        on_twice: called with a key that stands in one mapping twice, and its line.

    Raises:
        yaml.YAMLError: it is not valid, or uses more of YAML than values need.
    """
    builder = _Builder(on_twice)
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        handle = builder.handlers.get(type(event))
        if handle:
            handle(event)
    return builder.documents[0] if builder.documents else None


class _Builder:
    """Puts values into the innermost open container as the events come."""

    def __init__(self, on_twice: Callable[[str, int], None]) -> None:
        self.documents: list[Any] = []
        self._on_twice = on_twice
        self._open: list[Any] = [self.documents]
        self._keys: list[Any] = [None]  # the key that waits for its value; None in a list
        self._anchors: list[str | None] = [None]
        self._named: dict[str | None, Any] = {}
        self.handlers: dict[type, Callable[[Any], None]] = {
            yaml.DocumentStartEvent: self._begin_document,
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: lambda event: self._begin(event, {}, _NO_KEY),
            yaml.SequenceStartEvent: lambda event: self._begin(event, [], None),
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
        }

    def _begin_document(self, event: Any) -> None:
        if self.documents:
            raise _error("a second document begins here", event)

    def _scalar(self, event: Any) -> None:
        if event.tag not in _PLAIN_TAGS:
            raise _error(f"tag {event.tag} is not supported", event)
        value = event.value
        if event.implicit[0]:
            is_key = self._keys[-1] is _NO_KEY
            value = (_MERGE if value == "<<" else value) if is_key else _plain(value)
        if event.anchor:
            self._named[event.anchor] = value
        self._add(event, value)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._named:
            raise _error(f"alias *{event.anchor} refers to nothing complete before it", event)
        self._add(event, self._named[event.anchor])

    def _begin(self, event: Any, container: Any, key: Any) -> None:
        if event.tag not in _PLAIN_TAGS:
            raise _error(f"tag {event.tag} is not supported", event)
        if len(self._open) > MAX_DEPTH:
            raise _error(f"is nested more than {MAX_DEPTH} levels deep", event)
        self._open.append(container)
        self._keys.append(key)
        self._anchors.append(event.anchor)

    def _end(self, event: Any) -> None:
        container = self._open.pop()
        self._keys.pop()
        anchor = self._anchors.pop()
        if type(container) is dict and _MERGE in container:
            container = _merged(container, event)
        if anchor:
            self._named[anchor] = container
        self._add(event, container)

    def _add(self, event: Any, value: Any) -> None:
        container, key = self._open[-1], self._keys[-1]
        if key is None:
            container.append(value)
        elif key is not _NO_KEY:
            container[key] = value
            self._keys[-1] = _NO_KEY
        elif isinstance(value, str) or value is _MERGE:
            if value in container:
                self._on_twice("<<" if value is _MERGE else value, event.start_mark.line + 1)
            self._keys[-1] = value
        else:
            raise _error("a key must be a text", event)


def _merged(mapping: dict[Any, Any], event: Any) -> dict[str, Any]:
    """Return a mapping with those that its `<<` refers to; its own values win, then those of the first."""
    own = dict(mapping)
    inherited = own.pop(_MERGE)
    parts = inherited if isinstance(inherited, list) else [inherited]
    if not all(isinstance(part, dict) for part in parts):
        raise _error("<< can only merge mappings", event)
    result: dict[str, Any] = {}
    for part in (*reversed(parts), own):
        result |= part
    return result


def _plain(text: str) -> Any:
    """Return what an unquoted scalar stands for."""
    if text and text[0] in "-+.0123456789" and (number := NUMBER.fullmatch(text)):
        return whole_number(text) if number["whole"] else float(text)
    return _WORDS.get(text, text)


def whole_number(text: str) -> int | float:
    """Return an integer; where it has more digits than Python reads (thousands), infinity."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _error(message: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=event.start_mark)
