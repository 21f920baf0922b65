"""A binary heap in slices of flat columns, smallest (key, sequence) first, for interpreted and compiled code alike."""

from typing import Any, NamedTuple

from gsched.jit import kernel


class Heap(NamedTuple):
    """Columns that hold any number of heaps, each in the slots from its own `base` on; sizes are kept by the caller."""

    key: Any  # float64
    sequence: Any  # int64, breaks ties
    value: Any  # int32


@kernel
def before(key: float, sequence: int, other_key: float, other_sequence: int) -> bool:
    """Tell whether one entry comes out before another."""
    return key < other_key or (key == other_key and sequence < other_sequence)


@kernel
def heap_push(heap: Heap, base: int, size: int, key: float, sequence: int, value: int) -> None:
    """Add an entry to the heap of `size` entries at `base`; the caller then counts one more."""
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if not before(key, sequence, heap.key[base + up], heap.sequence[base + up]):
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
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size - 1:
            break
        if down + 1 < size - 1 and before(
            heap.key[base + down + 1], heap.sequence[base + down + 1], heap.key[base + down], heap.sequence[base + down]
        ):
            down += 1
        if before(key, sequence, heap.key[base + down], heap.sequence[base + down]):
            break
        _move(heap, base + down, base + at)
        at = down
    _put(heap, base + at, key, sequence, heap.value[last])
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
