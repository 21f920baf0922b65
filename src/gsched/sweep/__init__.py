"""Sweeps: many simulations, over policies, GPUs, loads, seeds and workloads, each schedule checked."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gsched.files import PathLike
from gsched.sweep.definition import Sweep
from gsched.sweep.journal import journal
from gsched.sweep.results import Results, write_results
from gsched.sweep.workers import here, on_ray


def run_sweep(
    sweep: Sweep,
    folder: PathLike,
    *,
    processes: int | None = None,
    ray: str | None = None,
    fresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Carry out a sweep, write its results into a folder and return them.

    Runs that the folder's journal has already are not repeated, so that a sweep that was stopped goes on. A run depends
    on nothing but its own settings, so the results are the same on however many processes.

    Args:
        sweep: the sweep.
        folder: for the journal, and for the results when all is done (docs/formats.md).
        processes: on this machine; by default one for each core.
        ray: address of a Ray cluster to use instead.
        fresh: whether to forget what the folder's journal has.
        progress: called with the number of runs that are done, and of all.

    Raises:
        InputError: the folder cannot be used, or those who carry out the runs fail.
    """
    keys = {case: sweep.key(case) for case in sweep.cases}
    different = {key: case for case, key in keys.items()}  # what has two names is carried out once
    folder = Path(folder)
    with journal(folder, fresh=fresh) as done:
        missing = [case for key, case in different.items() if key not in done.done]
        count = len(different) - len(missing)
        if progress:
            progress(count, len(different))
        with closing(on_ray(sweep, missing, ray) if ray and missing else here(sweep, missing, processes)) as runs:
            for case, run in runs:
                done.add(keys[case], run)
                count += 1
                if progress:
                    progress(count, len(different))
        results = Results([{**done.done[key], **case._asdict()} for case, key in keys.items()], sweep.about)
        write_results(results, folder)
    return results
