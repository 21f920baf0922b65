"""How a rule is broken: what the rules of the checker find."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from gsched.checker.columns import Array

T = TypeVar("T")


class Problem(NamedTuple):
    """One way in which a rule is broken: what is wrong, the items to blame (if any), and what to say of each."""

    what: str
    items: Array | list[int]
    describe: Callable[[int], str]
    in_rows: bool = True  # items are rows of the log


Problems = Iterator[Problem]


def plain(text: str) -> Problem:
    """Return a problem for which no item is to blame."""
    return Problem("", [0], lambda _: text, in_rows=False)


def listed(what: str, texts: list[str]) -> Problem:
    """Return a problem of items that are known by a text each."""
    return Problem(what, list(range(len(texts))), texts.__getitem__, in_rows=False)


def known(value: T | None) -> T:
    """Return what the rule's `needs` promise."""
    assert value is not None
    return value
