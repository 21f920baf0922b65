"""YAML as plain values, built straight from libyaml's events.

That is several times faster than PyYAML's constructors, keeps dates as texts, `no` a text and `1e5` a number, and
builds nothing but dicts, lists, texts, numbers, booleans and None.
"""

import math
from collections.abc import Callable
from typing import Any

import yaml

_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_WORDS |= dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan)
_WORDS |= {sign + word: float(f"{sign}inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")}
_PLAIN_TAGS = {None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq"))}

_NO_KEY = object()  # of a mapping whose next key has not come yet


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
    if len(builder.documents) > 1:
        raise yaml.MarkedYAMLError(problem="holds several documents")
    return builder.documents[0] if builder.documents else None


class _Builder:
    """Puts values into the innermost open container as the events come."""

    def __init__(self, on_twice: Callable[[str, int], None]) -> None:
        self.documents: list[Any] = []
        self._on_twice = on_twice
        self._open: list[Any] = [self.documents]
        self._keys: list[Any] = [_NO_KEY]
        self._anchors: list[str | None] = [None]
        self._named: dict[str | None, Any] = {}
        self.handlers: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: lambda event: self._begin(event, {}),
            yaml.SequenceStartEvent: lambda event: self._begin(event, []),
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
        }

    def _scalar(self, event: Any) -> None:
        value = _plain(event.value) if event.implicit[0] else event.value
        if event.tag not in _PLAIN_TAGS:
            raise _error(f"tag {event.tag} is not supported", event)
        if event.anchor:
            self._named[event.anchor] = value
        self._add(event, value)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._named:
            raise _error(f"alias *{event.anchor} refers to nothing complete before it", event)
        self._add(event, self._named[event.anchor])

    def _begin(self, event: Any, container: Any) -> None:
        if event.tag not in _PLAIN_TAGS:
            raise _error(f"tag {event.tag} is not supported", event)
        self._open.append(container)
        self._keys.append(_NO_KEY)
        self._anchors.append(event.anchor)

    def _end(self, event: Any) -> None:
        container = self._open.pop()
        self._keys.pop()
        anchor = self._anchors.pop()
        if anchor:
            self._named[anchor] = container
        self._add(event, container)

    def _add(self, event: Any, value: Any) -> None:
        container, key = self._open[-1], self._keys[-1]
        if type(container) is list:
            container.append(value)
        elif key is _NO_KEY:
            if isinstance(value, dict | list):
                raise _error("a key must be text", event)
            if value in container:
                self._on_twice(str(value), event.start_mark.line + 1)
            self._keys[-1] = value
        else:
            _set(container, key, value)
            self._keys[-1] = _NO_KEY


def _set(mapping: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a key, or merge the mappings that `<<` refers to, whose values lose against the mapping's own."""
    if key == "<<" and isinstance(value, dict | list):
        for part in value if isinstance(value, list) else [value]:
            for name, inherited in part.items() if isinstance(part, dict) else ():
                mapping.setdefault(name, inherited)
    else:
        mapping[key] = value


def _plain(text: str) -> Any:
    """Return what an unquoted scalar stands for."""
    if text and text[0] in "-+.0123456789":
        try:
            return int(text) if text.lstrip("+-").isdecimal() else float(text)
        except ValueError:
            pass
    return _WORDS.get(text, text)


def _error(message: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=event.start_mark)
