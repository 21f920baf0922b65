"""The one style of tables for the terminal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def plain_table() -> "Table":
    """Return an empty table without frames, which reads well when piped, too."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)


def decimals(values: Iterable[float | None]) -> int:
    """Return how many decimals times need to be told apart in few characters."""
    largest = max((value for value in values if value is not None), default=0.0)
    return 0 if largest >= 1000 else 1 if largest >= 10 else 2
