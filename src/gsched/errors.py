"""Problems in what a user gave: gathered, then reported together, one line each."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in an input: which file, where in it, what is wrong and what to do about it."""

    source: str
    place: str
    message: str
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.source, self.place) if part)
        text = f"{where}: {self.message}" if where else self.message
        return one_line(f"{text}; {self.hint}" if self.hint else text)


def one_line(text: str) -> str:
    """Return a text with escapes for line breaks and whatever else is not printable, as ids may hold anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class InputError(Exception):
    """The input cannot be used; `problems` holds every reason found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type["InputError"], tuple[tuple[Problem, ...]]]:
        return InputError, (self.problems,)  # so that it arrives whole from another process

    @classmethod
    def one(cls, source: object, place: str, message: str, hint: str = "") -> "InputError":
        """Return an error of a single problem."""
        return cls([Problem(str(source), place, message, hint)])


class PolicyError(Exception):
    """A policy decided something that the rules forbid, or waits while nothing is left to wait for."""


@dataclass(slots=True)
class Problems:
    """A collector for the errors of one source."""

    source: str
    found: list[Problem] = field(default_factory=list)

    def error(self, place: str, message: str, hint: str = "") -> None:
        """Note a problem that makes the input unusable."""
        self.found.append(Problem(self.source, place, message, hint))

    def raise_found(self) -> None:
        """Raise an `InputError` with everything found, if there is anything."""
        if self.found:
            raise InputError(self.found)
