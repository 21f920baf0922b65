"""Reading the fields of one mapping of a document, noting what is wrong with each."""

import difflib
import math
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from gsched.cluster import LARGEST, MOST_GPUS
from gsched.load.documents import Document, Place

_COMPARED = 1000  # names that are worth comparing with a misspelt one


class Fields:
    """The fields of a mapping that stands at `place`; a method returns None (or nothing) for what it had to note."""

    def __init__(self, document: Document, place: Place, value: Mapping[str, Any]) -> None:
        self._document = document
        self.place = place
        self._value = value

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) not in (None, "")

    def error(self, name: str, message: str, hint: str = "") -> None:
        """Note an error in a field."""
        self._document.error((*self.place, name), message, hint)

    def warn(self, name: str, message: str, hint: str = "") -> None:
        """Note a warning about a field."""
        self._document.warn((*self.place, name), message, hint)

    def require(self, name: str, what: str) -> bool:
        """Note it where a field is missing or an empty text."""
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

    def count(self, name: str, default: int, most: int = MOST_GPUS) -> int:
        """Return a whole number from 1 to `most`."""
        value = self._value.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            self.error(name, f"must be a whole number from 1 to {most}, not {show(value)}", "correct it")
            return default
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._value.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.error(name, f"must be a list of texts, not {show(value)}", "write [one, two]")
            return ()
        return tuple(value)

    def entries(self, name: str) -> list[Any]:
        """Return a list of anything."""
        value = self._value.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.error(name, f"must be a list, not {show(value)}", "write [one, two]")
            return []
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Return a mapping."""
        value = self._value.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.error(name, f"must be a mapping, not {show(value)}", "write {name: value}")
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
        return f"must be a number, not the text {show(value)}", "write a plain number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {show(value)}", "give a number"
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be finite, not {value}", "give a finite number"
    if value < 0 or (positive and value == 0):
        return f"must be {'above 0' if positive else 'at least 0'}, not {show(value)}", "correct the sign or the value"
    if value > LARGEST:
        return f"must be at most {LARGEST:g}, not {show(value)}", "correct the value or its unit"
    return None


def closest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that a misspelt one most likely means."""
    return _closest(name, tuple(islice(known, _COMPARED)))


@lru_cache
def _closest(name: str, known: tuple[str, ...]) -> str | None:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return found[0] if found else None


def known_names(name: object, known: Collection[str]) -> str:
    """Return a hint at what an unknown name may have meant."""
    meant = closest(str(name), known)
    if meant:
        return f"did you mean {meant}?"
    return f"known: {', '.join(islice(known, 8))}{', …' if len(known) > 8 else ''}"


def show(value: object) -> str:
    """Return a value as a message can hold it."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
