"""A binary heap in slices of flat columns, smallest (key, sequence) first, for interpreted and compiled code alike."""

from typing import Any, NamedTuple

from gsched.jit import kernel


class Heap(NamedTuple):
    """Columns that hold any number of heaps, each in the slots from its own `base` on; sizes are kept by the caller."""

    key: Any  # float64
    sequence: Any  # int64, breaks ties
    value: Any  # int32


@kernel
def heap_push(heap: Heap, base: int, size: int, key: float, sequence: int, value: int) -> None:
    """Add an entry to the heap of `size` entries at `base`; the caller then counts one more."""
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if (heap.key[base + up], heap.sequence[base + up]) < (key, sequence):
            break
        _move(heap, base + up, base + at)
        at = up
    _put(heap, base + at, key, sequence, value)


@kernel
def heap_pop(heap: Heap, base: int, size: int) -> int:
    """Take the first entry's value out of the heap of `size` entries at `base`; the caller then counts one less."""
    first: int = heap.value[base]
    last = base + size - 1
    key = heap.key[last]
    sequence = heap.sequence[last]
    at = base
    down = base + 1
    while down < last:
        if down + 1 < last and (heap.key[down + 1], heap.sequence[down + 1]) < (heap.key[down], heap.sequence[down]):
            down += 1
        if (key, sequence) < (heap.key[down], heap.sequence[down]):
            break
        _move(heap, down, at)
        at = down
        down = base + 2 * (at - base) + 1
    _put(heap, at, key, sequence, heap.value[last])
    return first


@kernel
def _move(heap: Heap, source: int, target: int) -> None:
    heap.key[target] = heap.key[source]
    heap.sequence[target] = heap.sequence[source]
    heap.value[target] = heap.value[source]


@kernel
def _put(heap: Heap, at: int, key: float, sequence: int, value: int) -> None:
    heap.key[at] = key
    heap.sequence[at] = sequence
    heap.value[at] = value
