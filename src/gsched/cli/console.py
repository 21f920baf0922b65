"""Where commands print: results to standard output, everything else to standard error."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gsched.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gsched.checker import Report

SHOWN_PROBLEMS = 50
_WIDEST_TABLE = 1000


def out() -> "Console":
    """Return the console for results; plain text when piped."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def err() -> "Console":
    """Return the console for messages and progress."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_table(table: "Table") -> None:
    """Print a table closer where that makes it fit, and never cut: broken lines can be read, shortened cells cannot."""
    console = out()
    wanted, console.width = console.width, _WIDEST_TABLE
    if console.measure(table).maximum > wanted:
        table.padding = (0, 0)
    console.print(table)


def counted(count: int, noun: str) -> str:
    """Return a number and what it counts, in the singular or plural."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def print_problems(problems: Iterable[Problem]) -> None:
    """Print problems to standard error, one line each; of very many, the first."""
    listed = list(problems)
    for problem in listed[:SHOWN_PROBLEMS]:
        print(f"{problem.severity}: {problem}".replace("\n", " "), file=sys.stderr)
    if len(listed) > SHOWN_PROBLEMS:
        print(f"… and {counted(len(listed) - SHOWN_PROBLEMS, 'more problem')}", file=sys.stderr)


class Stages:
    """A progress line on a terminal: the stage of a long command, and how far it is."""

    def __init__(self, *, visible: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=err(), transient=True, disable=not visible)
        self._task = self._progress.add_task("", total=None)

    def stage(self, name: str) -> None:
        """Begin a stage whose length is not known."""
        self._progress.reset(self._task, description=name, total=None)

    def advance(self, done: int, total: int, name: str | None = None) -> None:
        """Tell how far the stage is, and give it another name where that has changed."""
        self._progress.update(self._task, completed=done, total=total, description=name)

    def share(self, done: float) -> None:
        """Tell which share of the stage is done, 0 to 1."""
        self._progress.update(self._task, completed=done, total=1.0)

    @contextmanager
    def shown(self) -> Iterator["Stages"]:
        """Show the line while the block runs."""
        with self._progress:
            yield self


@contextmanager
def stages(*, quiet: bool) -> Iterator[Stages]:
    """Show the stages of a command while the block runs, on a terminal, unless it is to be quiet."""
    with Stages(visible=not quiet and sys.stderr.isatty()).shown() as shown:
        yield shown


def print_verdict(report: "Report") -> None:
    """Print what a check found."""
    from rich.text import Text

    console = out()
    for violation in report.violations:
        console.print(Text(f"{violation.rule}: {violation.message}", style="red"))
    for sentence in report.unchecked:
        console.print(Text(sentence, style="yellow"))
    rules = f"{counted(len(report.rules_checked), 'rule')} checked"
    if report.valid:
        console.print(Text(f"\nThe schedule is valid ({rules}).", style="bold green"))
    else:
        found = counted(sum(violation.count for violation in report.violations), "violation")
        console.print(Text(f"\nThe schedule is NOT valid: {found} ({rules}).", style="bold red"))
