"""Run the same functions interpreted or compiled.

Functions marked with `kernel` are ordinary Python. Interpreted, they work on lists, which need no compiler and no
import of numba. Compiled, they work on arrays of the same content. `compiled` builds machine code on first use and
keeps it in the user's cache directory, under a name derived from gsched's own sources, so that it is never stale.
"""

import functools
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

# Kernels take views of arrays only, never allocate, and never outlive a call, so numba need not count references.
# Counting them costs more than the work itself, because a state is a tuple of some forty arrays.
_OPTIONS = {"_nrt": False}

_kernels: list[Callable[..., Any]] = []


def kernel(function: Function) -> Function:
    """Mark a function that compiled code may call; it stays callable as it is."""
    _kernels.append(function)
    return function


@kernel
def lowest_bit(word: int) -> int:
    """Return the index of the lowest set bit of a positive word."""
    return (word & -word).bit_length() - 1


def compiled(function: Function) -> Function:
    """Return `function` compiled by numba, from the cache where possible.

    It may call kernels, also as free variables, and must not allocate.
    """
    import numba

    njit: Any = numba.njit
    _register_kernels(len(_kernels))
    config: Any = numba.config
    directory, config.CACHE_DIR = config.CACHE_DIR, str(_cache_directory())
    try:
        machine_code: Function = njit(cache=True, error_model="numpy", **_OPTIONS)(function)
    finally:
        config.CACHE_DIR = directory
    return machine_code


def as_lists(state: Any) -> Any:
    """Return a named tuple of arrays, at any depth, as one of lists, which interpreted code reads much faster."""
    if isinstance(state, np.ndarray):
        return state.tolist()
    if isinstance(state, tuple):
        return type(state)(*map(as_lists, state)) if hasattr(state, "_fields") else tuple(map(as_lists, state))
    return state


@functools.cache
def _register_kernels(count: int) -> None:
    """Tell numba of the first `count` kernels; repeated when later modules have added more."""
    from numba.extending import overload, register_jitable

    for function in _kernels[:count]:
        if function is lowest_bit:
            overload(lowest_bit, strict=False)(_lowest_bit_compiled)
        else:
            register_jitable(forceinline=True, **_OPTIONS)(function)


def _lowest_bit_compiled(word: Any) -> Callable[[int], int]:  # noqa: ARG001 (numba passes the type)
    """Return the machine instruction's wrapper for `lowest_bit`."""
    from numba.core import types
    from numba.extending import intrinsic

    def define(_typing: Any, _word: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

        return types.int64(types.int64), generate

    count_trailing_zeros: Any = intrinsic(define)
    return lambda word: count_trailing_zeros(word)


@functools.cache
def _cache_directory() -> Path:
    """Return the folder for compiled code; its name changes with any of gsched's sources."""
    digest = hashlib.blake2b(digest_size=8)
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    root = os.environ.get("GSCHED_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "gsched" / f"py{sys.version_info[0]}{sys.version_info[1]}-{digest.hexdigest()}"
