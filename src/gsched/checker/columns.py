"""Columns of a log: what is worked out over all of them, block by block where they are large."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsched.log import Labels
from gsched.workload import Longs

ABSOLUTE = 1e-6  # seconds
RELATIVE = 1e-9
_BLOCK = 2**16  # values at a time
_GPU_BITS = 32
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]


def blocks(length: int) -> Iterator[slice]:
    """Yield slices, at least one, that make up a column: what is computed block by block takes little memory."""
    return (slice(start, start + _BLOCK) for start in range(0, max(length, 1), _BLOCK))


def take(values: Array, position: Array) -> Array:
    """Return `values[position]`; numpy would make 64-bit positions of all the others first."""
    taken = np.empty(len(position), values.dtype)
    for part in blocks(len(position)):
        taken[part] = values[position[part]]
    return taken


def as_before(column: Array) -> Bools:
    """Return which values equal the one before them."""
    same = np.zeros(len(column), np.bool_)
    np.equal(column[1:], column[:-1], out=same[1:])
    return same


def ranges(first: Longs, size: Longs) -> Longs:
    """Return the ranges of `size` numbers from `first` on, one after another."""
    end = np.cumsum(size)
    numbers: Longs = np.arange(size.sum()) + np.repeat(first - (end - size), size)
    return numbers


def keys_of(model: Array, gpu: Array) -> Longs:
    """Return a number for each pair of a model's number and a GPU."""
    keys: Longs = (model.astype(np.int64) << _GPU_BITS) | gpu
    return keys


def key_of(model: int, gpu: int) -> int:
    """Return that number for one pair."""
    return model << _GPU_BITS | gpu


def model_of(key: int) -> int:
    """Return the model of one of `keys_of`."""
    return key >> _GPU_BITS


def unique_codes(labels: Labels) -> tuple[Array, Sequence[str]]:
    """Return the codes and values of a column such that equal texts have equal codes."""
    position: dict[str, int] = {}
    renamed = [position.setdefault(text, len(position)) for text in labels.values]
    if len(position) == len(renamed):
        return labels.codes, labels.values
    return np.array(renamed, np.int32)[labels.codes], list(position)


def matched(labels: Labels, names: Sequence[str]) -> Array:
    """Return the position in `names` of each row's text, -1 where it is not there."""
    if labels.values is names or list(labels.values) == list(names):
        return labels.codes
    position = {name: i for i, name in enumerate(names)}
    found = np.fromiter((position.get(text, -1) for text in labels.values), np.int32, len(labels.values))
    return found[labels.codes]
