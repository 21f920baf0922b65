"""Reading the fields of one mapping of a document, noting what is wrong with each."""

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any

from gsched.load.documents import Document, Place


class Fields:
    """The fields of a mapping that stands at `place`; a method returns None (or nothing) for what it had to note."""

    def __init__(self, document: Document, place: Place, value: Mapping[str, Any]) -> None:
        self._document = document
        self.place = place
        self._value = value

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) is not None

    def error(self, name: str, message: str, hint: str = "") -> None:
        """Note an error in a field."""
        self._document.error((*self.place, name), message, hint)

    def warn(self, name: str, message: str, hint: str = "") -> None:
        """Note a warning about a field."""
        self._document.warn((*self.place, name), message, hint)

    def require(self, name: str, what: str) -> bool:
        """Note it where a field is missing."""
        if name not in self:
            self._document.error(self.place, f"has no {name}", f"add {what}")
        return name in self

    def text(self, name: str) -> str:
        """Return a text, "" where there is none."""
        value = self._value.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.error(name, f"must be a text, not {show(value)}", "put it in quotes")
            return ""
        return value

    def number(self, name: str, *, positive: bool = False) -> float | None:
        """Return a finite number of at least 0 (or above 0, where it must be positive)."""
        value = self._value.get(name)
        if value is None:
            return None
        complaint = number_complaint(value, positive=positive)
        if complaint:
            self.error(name, *complaint)
            return None
        return float(value)

    def count(self, name: str, default: int) -> int:
        """Return a whole number of at least 1."""
        value = self._value.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.error(name, f"must be a whole number of at least 1, not {show(value)}")
            return default
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._value.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.error(name, f"must be a list of texts, not {show(value)}")
            return ()
        return tuple(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """Return a mapping."""
        value = self._value.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.error(name, f"must be a mapping, not {show(value)}")
            return {}
        return value

    def warn_of_typos(self, known: Collection[str]) -> None:
        """Warn of fields that nobody reads and whose names are close to one that is missing."""
        for name in self._value:
            if name not in known and (meant := closest(name, [k for k in known if k not in self._value])):
                self.warn(name, "is an unknown field", f"did you mean {meant}?")


def number_complaint(value: object, *, positive: bool = False) -> tuple[str, str] | None:
    """Return what is wrong with a number and what to do, or None."""
    if isinstance(value, str):
        return f"must be a number, not the text {show(value)}", "remove the quotes"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {show(value)}", "give a number"
    if not math.isfinite(value):
        return f"must be finite, not {value}", "give a finite number"
    if value < 0 or (positive and value == 0):
        return f"must be {'above 0' if positive else 'at least 0'}, not {value}", "correct the sign or the value"
    return None


def closest(name: object, known: Collection[str]) -> str | None:
    """Return the known name that a misspelt one most likely means."""
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.75)
    return found[0] if found else None


def known_names(name: object, known: Collection[str]) -> str:
    """Return a hint at what an unknown name may have meant."""
    meant = closest(name, known)
    if meant:
        return f"did you mean {meant}?"
    names = list(known)
    return f"known: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"


def show(value: object) -> str:
    """Return a value as a message can hold it."""
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing", bool: str(value).lower()}
    text = kinds.get(type(value)) or (f'"{value}"' if isinstance(value, str) else str(value))
    return text if len(text) <= 60 else f"{text[:57]}…"
