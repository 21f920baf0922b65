"""The live view of a run."""

import asyncio
from typing import Any

import pytest
from live_runs import real, run
from rich.console import Console
from small import tiny
from strategies import Case

from gsched.cli.run_view import duration, picture
from gsched.cluster import Cluster
from gsched.live.run.progress import Gpu, GpuState, Snapshot, snapshot


def seen_at(case: Case, *times: float, **options: Any) -> list[Snapshot]:
    """What a run of a case looks like at these times."""
    found: list[Snapshot] = []
    fake = real(case)

    def during(loop: Any) -> None:
        for time in times:
            asyncio.get_running_loop().call_later(time, lambda: found.append(snapshot(loop, case.workload)))
        for time in options.get("lost", ()):
            asyncio.get_running_loop().call_later(time, fake.lost.add, 0)

    run(case, "baseline", fake, during)
    return found


def test_a_run_is_shown_as_it_goes() -> None:
    """Two requests for a chain of two nodes of 10 s, of which each begins by loading for 5 s or less."""
    case = Case(tiny({"a": 1, "b": 1}, "ab", 2, 10.0), Cluster(3), "offline")
    loading, running, later, last = seen_at(case, 1.0, 6.0, 16.0, 29.0)
    assert [gpu.state for gpu in loading.gpus] == [GpuState.LOADING, GpuState.LOADING, GpuState.EMPTY]
    assert (loading.executed, loading.done, loading.loads) == (0, 0, 2)
    assert [gpu.state for gpu in running.gpus] == [GpuState.RUNNING, GpuState.RUNNING, GpuState.EMPTY]
    assert [gpu.model for gpu in running.gpus] == ["a", "a", ""]
    assert (later.executed, later.nodes, later.requests) == (2, 4, 2)
    assert later.left == pytest.approx(later.time)
    assert last.executed >= 2


def test_what_is_lost_is_shown() -> None:
    case = Case(tiny({"a": 1}, "a", 8, 10.0), Cluster(2, 1), "offline")
    (seen,) = seen_at(case, 40.0, lost=[6.0])
    assert seen.gpus[0].state is GpuState.AWAY
    assert seen.lost[0].startswith("server 0 is lost")


def test_the_picture_says_all_of_it_line_by_line() -> None:
    gpus = [Gpu("llm", GpuState.RUNNING), Gpu("", GpuState.EMPTY)] + [Gpu("", GpuState.EMPTY)] * 70
    now = Snapshot(123.4, 45_600.0, 300, 120, 2, 1009, 555, 8, 31, ["server 1 is lost: it does not answer"], gpus)
    console = Console(width=90, force_terminal=True, color_system=None, record=True)
    console.print(picture(now, 0.005))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[0] == "120 of 300 requests, 555 of 1,009 nodes, 2 failed"
    assert lines[2] == "123.4 s of the workload, 3 min 48 s to go; 8 loads, 31 switches"
    assert lines[3].startswith("  0 llm          running")
    assert lines[-2:] == ["… and 8 more GPUs", "server 1 is lost: it does not answer"]


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")])
def test_durations_are_said_as_a_reader_says_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
