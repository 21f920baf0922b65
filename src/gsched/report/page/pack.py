"""The data of the Gantt chart in few bytes: columns of integers, as text that any page can hold."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gsched.checker.interruptions import fault
from gsched.checker.outcome import read_outcome
from gsched.report.schedule import Schedule

UNKNOWN = 2**32 - 1
_FINEST = 2**27  # ticks of the longest time: finer than anyone sees
_TYPES = ((np.uint8, 1), (np.uint16, 2), (np.uint32, 4))


def pack(schedule: Schedule, models: Mapping[str, int]) -> str:
    """Return a schedule as JSON, its columns as base64 of little-endian integers, each after its bytes per value.

    Args:
        schedule: what is drawn.
        models: the number of each model on the page.
    """
    log, bars = schedule.log, schedule.bars
    unit = 10.0 ** math.ceil(math.log10((schedule.makespan or 1.0) / _FINEST))
    columns: dict[str, npt.NDArray[Any]] = {
        "begin": _ticks(schedule.begin, unit),
        "load": _ticks(schedule.start - schedule.begin, unit),
        "run": _ticks(schedule.end - schedule.start, unit),
        "request": log.request_id.codes[schedule.rows],
        "step": log.node_id.codes[schedule.rows],
        "model": np.array([models.get(name, 0) for name in log.model_name.values], np.int64)[schedule.model],
        "node": bars.node,
        "row": bars.row,
        "size": bars.size,
    }
    if schedule.ready is not None:
        columns["wait"] = _ticks(schedule.begin - schedule.ready, unit)
    gpus = schedule.gpus
    arrays = {name: _smallest(column) for name, column in columns.items()}
    parts = {
        "unit": unit,
        "makespan": schedule.makespan,
        "requests": list(log.request_id.values),
        "steps": list(log.node_id.values),
        "gpus": None if np.array_equal(gpus, np.arange(len(gpus))) else gpus.tolist(),
        "rows": len(gpus),
        "stops": _stops(schedule),
        "server": schedule.cluster.server_size if schedule.cluster else 0,
        "columns": {
            name: [array.itemsize, base64.b64encode(array.tobytes()).decode()] for name, array in arrays.items()
        },
    }
    return json_text(parts)


def _stops(schedule: Schedule) -> list[dict[str, Any]]:
    """Return when GPUs were not to be had, as far as the chart reaches."""
    end = schedule.makespan
    stops = read_outcome(schedule.log.summary, schedule.log.extra).interruptions
    seen = [(stop, np.intersect1d(stop.gpu_ids, schedule.gpus)) for stop in stops if not fault(stop)]
    return [
        {
            "rows": np.searchsorted(schedule.gpus, gpus).tolist(),
            "begin": stop.start_time,
            "end": min(stop.end, max(end, stop.start_time)),
            "reason": stop.reason,
        }
        for stop, gpus in seen
        if stop.start_time <= end
    ]


def _ticks(seconds: npt.NDArray[np.float64], unit: float) -> npt.NDArray[np.int64]:
    """Return times in units, `UNKNOWN` where there is none."""
    return np.where(np.isnan(seconds), UNKNOWN, np.rint(np.nan_to_num(seconds) / unit)).astype(np.int64)


def _smallest(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a column of numbers, none below 0, in the smallest of the types that a browser reads."""
    largest = int(column.max(initial=0))
    kind = next(kind for kind, size in _TYPES if largest < 256**size)
    return column.astype(np.dtype(kind).newbyteorder("<"))


def json_text(value: Any) -> str:
    """Return JSON that can stand inside a script element: without `<`, and in ASCII, as ids may hold anything."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
