"""What a log tells over time: who waited, who was served, and what each GPU did."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gsched.checker.columns import unique_codes
from gsched.log import Gangs, Labels, Log
from gsched.workload import Config, Floats

Numbers = npt.NDArray[np.int64] | Floats


class Steps(NamedTuple):
    """A count over time: `level[i]` from `time[i]` until `time[i + 1]`, the last for good, 0 before the first."""

    time: Numbers
    level: npt.NDArray[np.int64]


def concurrent(begin: Numbers, end: Numbers) -> Steps:
    """Return how many of n intervals are open at a time, where that changes."""
    time, moment = np.unique(np.concatenate([begin, end]), return_inverse=True)
    change = np.bincount(moment[: len(begin)], minlength=len(time))
    change -= np.bincount(moment[len(begin) :], minlength=len(time))
    changes = np.flatnonzero(change)
    return Steps(time[changes], np.cumsum(change[changes]))


def occupied_from(log: Log) -> Floats:
    """Return when each row begins to occupy its GPUs: when loading begins, in a log that tells, shape (n,)."""
    return log.start_time if log.switch_time is None else log.start_time - log.switch_time


def gangs_of(log: Log, config: Config | None = None) -> Gangs:
    """Return the GPUs of each row; where a log lacks them, those that the model needs, of an unknown model the first.

    Args:
        log: n rows.
        config: what models need; without it, gangs that the log lacks are their first GPUs.
    """
    if log.gpu_ids is not None:
        return log.gpu_ids
    models = config.models if config else {}
    sizes = [models[name].gpus_required if name in models else 1 for name in log.model_name.values]
    return Gangs.consecutive(log.gpu_id, np.array(sizes, np.int32)[log.model_name.codes])


def waits(log: Log) -> dict[str, tuple[Floats, Floats]]:
    """Return from when until when each model's nodes were ready and waited; nothing where a log lacks `ready_time`."""
    if log.ready_time is None:
        return {}
    ready, begin = log.ready_time, np.maximum(log.ready_time, occupied_from(log))
    return {name: (ready[rows], begin[rows]) for name, rows in by_text(log.model_name).items()}


def by_text(labels: Labels) -> dict[str, npt.NDArray[np.intp]]:
    """Return the rows of each text that occurs, in the order of the column's values."""
    codes, values = unique_codes(labels)
    order = np.argsort(codes, kind="stable")
    first = np.searchsorted(codes[order], np.arange(len(values) + 1))
    return {
        text: order[first[code] : first[code + 1]] for code, text in enumerate(values) if first[code] < first[code + 1]
    }
