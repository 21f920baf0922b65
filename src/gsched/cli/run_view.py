"""The live view of a run: how far it is, and what each GPU does."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gsched.cli.console import err

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gsched.live.run.loop import Loop
    from gsched.live.run.progress import Snapshot
    from gsched.workload import Workload

REFRESH = 0.25  # wall-clock seconds
SHOWN_GPUS = 64
_STYLES = {"empty": "dim", "idle": "", "loading": "yellow", "running": "green", "away": "bold red"}


@asynccontextmanager
async def shown(loop: "Loop", workload: "Workload", time_scale: float, *, quiet: bool) -> AsyncIterator[None]:
    """Show a run while the block lasts, on a terminal, unless it is to be quiet."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.live import Live

    from gsched.live.run.progress import snapshot

    with Live(console=err(), transient=True, auto_refresh=False) as live:

        async def refresh() -> None:
            while True:
                live.update(picture(snapshot(loop, workload), time_scale), refresh=True)
                await asyncio.sleep(REFRESH)

        task = asyncio.create_task(refresh())
        try:
            yield
        finally:
            task.cancel()


def picture(now: "Snapshot", time_scale: float) -> "RenderableType":
    """Return what is shown of a moment."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    head = Text(f"{now.done:,} of {now.requests:,} requests, {now.executed:,} of {now.nodes:,} nodes")
    if now.failed:
        head.append(f", {now.failed:,} failed", "bold red")
    left = "?" if math.isinf(now.left) else duration(now.left * time_scale)
    facts = Text(
        f"{now.time:,.1f} s of the workload, {left} to go; {now.loads:,} loads, {now.switches:,} switches", "dim"
    )
    cells = [
        Text(f"{number:>3} {gpu.model or '–':<12.12} {gpu.state}", _STYLES[gpu.state])
        for number, gpu in enumerate(now.gpus[:SHOWN_GPUS])
    ]
    rest = len(now.gpus) - SHOWN_GPUS
    more = [Text(f"… and {rest:,} more GPUs", "dim")] if rest > 0 else []
    lost = [Text(reason, "bold red") for reason in now.lost]
    bar = Padding(ProgressBar(max(now.nodes, 1), now.executed), 0)  # by itself, the bar does not end its line
    return Group(head, bar, facts, Columns(cells, padding=(0, 2)), *more, *lost)


def duration(seconds: float) -> str:
    """Return wall-clock seconds as a reader says them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
