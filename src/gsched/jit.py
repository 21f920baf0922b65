"""Run the same functions interpreted or compiled.

Functions marked with `kernel` are ordinary Python. Interpreted, they work on lists, which need no compiler and no
numba import. Compiled, they work on arrays of the same content. `compiled` builds the machine code on first use and
keeps it in the user's cache directory, under a name derived from gsched's own sources, so that it is never stale.
"""

import functools
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

OPT: Any = eval(os.environ.get("OPT","{}"))
OPT2: Any = eval(os.environ.get("OPT2","{}"))
_kernels: list[Callable[..., Any]] = []


def kernel(function: F) -> F:
    """Mark a function that compiled code may call; it stays callable as it is."""
    _kernels.append(function)
    return function


@kernel
def lowest_bit(word: int) -> int:
    """Return the index of the lowest set bit of a positive word."""
    return (word & -word).bit_length() - 1


def compiled(function: F) -> F:
    """Return `function` compiled by numba, from the cache where possible."""
    import numba

    _register_kernels(len(_kernels))
    directory, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(_cache_directory())
    try:
        return numba.njit(cache=True, error_model="numpy", **OPT2)(function)  # type: ignore[no-any-return]
    finally:
        numba.config.CACHE_DIR = directory


@functools.cache
def _register_kernels(count: int) -> None:
    """Tell numba of the first `count` kernels (policies may add more later)."""
    from numba.core.extending import overload
    from numba.extending import register_jitable

    for function in _kernels[:count]:
        if function is lowest_bit:
            overload(lowest_bit, strict=False)(_lowest_bit_overload)
        else:
            register_jitable(**OPT)(function)


def _lowest_bit_overload(word: Any) -> Callable[[int], int]:
    from numba.core import cgutils, types  # noqa: F401
    from numba.extending import intrinsic

    @intrinsic
    def count_trailing_zeros(typing_context: Any, word: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

        return types.int64(types.int64), generate

    return lambda word: count_trailing_zeros(word)


@functools.cache
def _cache_directory() -> Path:
    """Return the folder for compiled code; its name changes with any of gsched's sources."""
    digest = hashlib.blake2b(digest_size=8)
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    root = os.environ.get("GSCHED_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "gsched" / f"py{sys.version_info[0]}{sys.version_info[1]}-{digest.hexdigest()}"
