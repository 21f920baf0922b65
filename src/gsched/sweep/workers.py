"""Who carries out the simulations of a sweep: this process, others beside it, or a Ray cluster."""

import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any

from gsched.errors import InputError
from gsched.sweep.definition import Case, Sweep
from gsched.sweep.intervals import Run
from gsched.sweep.runs import Runner

Done = Generator[tuple[Case, Run], None, None]

_RAY_PATIENCE = 20.0  # seconds for a cluster to answer
_IN_FLIGHT = 4  # tasks for each core of a Ray cluster, so that none waits for the next


def here(sweep: Sweep, cases: Sequence[Case], processes: int | None = None) -> Done:
    """Yield the runs of cases as they are done, on this machine.

    Args:
        sweep: the sweep.
        cases: those to carry out.
        processes: how many to use; by default one for each core. A single one is this process.

    Raises:
        InputError: a process was ended from outside, such as for want of memory.
    """
    count = min(processes or len(os.sched_getaffinity(0)), len(cases))
    times = _times(cases, count)
    if count <= 1:
        yield from ((case, run) for runner in [Runner(sweep, times)] for case in cases for run in [runner(case)])
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (sweep, times))
    try:
        with _uninterrupted():
            futures: dict[Future[Run], Case] = {pool.submit(_run, case): case for case in cases}
        yield from ((futures[future], future.result()) for future in as_completed(futures))
    except BrokenProcessPool:
        hint = "use fewer --workers if memory is short (in a script, see docs/sweeps.md); the same command goes on"
        raise InputError.one("", "sweep", "one of its processes has died", hint) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off a Ctrl-C; processes that are started meanwhile never hear of one, as it is for this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _times(cases: Iterable[Case], processes: int) -> int:
    """Return how many simulations of one policy a process is about to do, on average."""
    cases = list(cases)
    return -(-len(cases) // (len({case.policy for case in cases}) * processes or 1))


_runners: dict[str, Runner] = {}  # of this process: one, of the sweep that it works for


def _begin(sweep: Sweep, times: int) -> None:
    """Prepare a process; when the one that waits for it is gone, this one ends, too."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _runners[""] = Runner(sweep, times)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _run(case: Case) -> Run:
    return _runners[""](case)


def on_ray(sweep: Sweep, cases: Sequence[Case], address: str) -> Done:
    """Yield the runs of cases as they are done, on all cores of a Ray cluster whose nodes have the same gsched.

    A node that is lost does not matter: its cases are carried out elsewhere.

    Args:
        sweep: the sweep.
        cases: those to carry out.
        address: of the cluster: `host:port`, `ray://host:port`, or `auto` for one on this machine.

    Raises:
        InputError: the cluster cannot be reached, or a case cannot be carried out there.
    """
    import ray

    from gsched.ray_cluster import join

    join(address, None, _RAY_PATIENCE)
    try:
        resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cores = max(1, int(resources.get("CPU", 1)))
        remote: Any = ray.remote(num_cpus=1, max_retries=3)(_run_on_ray)
        start = partial(remote.remote, ray.put(sweep), _times(cases, cores), uuid.uuid4().hex)
        yield from _as_done(cases, start, cores * _IN_FLIGHT)
    except ray.exceptions.RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        hint = "every node needs the same gsched; the same command goes on where this one stopped"
        raise InputError.one("", f"Ray cluster {address}", reason, hint) from None
    finally:
        ray.shutdown()


def _as_done(cases: Sequence[Case], start: Callable[[Case], Any], at_once: int) -> Done:
    """Yield the runs of Ray tasks as they are done, with so many under way."""
    import ray

    under_way: dict[Any, Case] = {}
    waiting = iter(cases)
    while True:
        for case in waiting:
            under_way[start(case)] = case
            if len(under_way) >= at_once:
                break
        if not under_way:
            return
        done, _ = ray.wait(list(under_way))
        for task in done:
            yield under_way.pop(task), ray.get(task)


def _run_on_ray(sweep: Sweep, times: int, key: str, case: Case) -> Run:
    if key not in _runners:
        _runners.clear()
        _runners[key] = Runner(sweep, times)
    return _runners[key](case)
