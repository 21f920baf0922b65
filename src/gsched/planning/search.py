"""The smallest of several sizes that will do, where asking is expensive and more is not always better."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

BELOW = 3
"""So many of the sizes right below an answer are tried, too."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        answer: the smallest size that was tried and will do; None where none that was tried will.
        tried: what each size that was tried lacks, 0 where it will do, in the order in which they were tried.
    """

    answer: int | None
    tried: Mapping[int, float]


def smallest(sizes: Sequence[int], lack: Callable[[int], float], below: int = BELOW) -> Found:
    """Search for the smallest size that will do.

    Sizes are tried in steps that double, until one will do. If none does, sizes halfway between the one that lacks
    least and those tried next to it are tried, again and again, until one will do or its neighbours have been tried.
    From one that will do, the search goes on halfway between it and the largest smaller one that was tried, until they
    are neighbours; then through the sizes right below the answer, which starts again from each that will do. So,
    whatever `lack` says:

    - the answer will do, and no smaller size that was tried will;
    - each of the `below` sizes right below the answer was tried and will not do;
    - without an answer, the smallest and the largest size were tried, and the neighbours of the one that lacks least,
      and none will do;
    - where every size above one that will do will do, too, the answer is the smallest of all that will;
    - no size is tried twice.

    Args:
        sizes: ascending, at least one.
        lack: asked once for each size that is tried: 0 where it will do, else by how much it will not, above 0.
        below: how many of the sizes right below an answer are tried, at least 1.
    """
    tried: dict[int, float] = {}

    def ask(position: int) -> float:
        if sizes[position] not in tried:
            tried[sizes[position]] = lack(sizes[position])
        return tried[sizes[position]]

    known = _gallop(ask, len(sizes))
    while all(known.values()) and (between := _beside_best(known)):
        known |= {position: ask(position) for position in between}
    high = min((position for position, lacks in known.items() if not lacks), default=None)
    if high is None:
        return Found(None, tried)
    low = max((position for position in known if position < high), default=-1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ask(middle) else (low, middle)
    position = high - 1
    while position >= max(0, high - below):
        high = high if ask(position) else position
        position -= 1
    return Found(sizes[high], tried)


def _gallop(ask: Callable[[int], float], count: int) -> dict[int, float]:
    """Return what positions 0, 1, 3, 7, … and the last lack, up to the first that will do."""
    position = 0
    known = {0: ask(0)}
    while known[position] and position < count - 1:
        position = min(2 * position + 1, count - 1)
        known[position] = ask(position)
    return known


def _beside_best(known: Mapping[int, float]) -> list[int]:
    """Return the positions halfway between the one that lacks least and those known next to it."""
    best = min(known, key=lambda position: (known[position], position))
    next_to = [
        max((position for position in known if position < best), default=best),
        min((position for position in known if position > best), default=best),
    ]
    return [(best + other) // 2 for other in next_to if abs(best - other) > 1]
