"""Run the same functions interpreted or compiled.

Functions marked with `kernel` are ordinary Python. Interpreted, they work on lists, which need no compiler and no
import of numba. Compiled, they work on arrays of the same content. `compiled` builds machine code on first use and
keeps it in the user's cache directory, under a name derived from gsched's own sources, so that it is never stale.
"""

import functools
import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

# Kernels take views of arrays only, never allocate, and never outlive a call, so numba need not count references.
# Counting them costs more than the work itself, because a state is a tuple of some forty arrays.
_OPTIONS = {"_nrt": False}
# Only compiled code calls a compiled kernel, so that it needs no way in for Python or C, which takes long to build.
_INNER = {"forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

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
    config: Any = numba.config
    count = len(_kernels)
    _register_kernels(count)
    folder = _cache_folder(count)
    if folder is not None:
        directory, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            machine_code: Any = njit(cache=True, error_model="numpy", **_OPTIONS)(function)
        finally:
            config.CACHE_DIR = directory
        # Anywhere else, numba would notice changes of one source file only.
        if Path(machine_code.stats.cache_path).is_relative_to(folder):
            return machine_code  # type: ignore[no-any-return]
    warnings.warn(f"compiled code cannot be kept in {cache_root()}; set GSCHED_CACHE_DIR", stacklevel=2)
    return njit(error_model="numpy", **_OPTIONS)(function)  # type: ignore[no-any-return]


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
            register_jitable(**_OPTIONS, **_INNER)(function)


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
def _cache_folder(count: int) -> Path | None:
    """Return the folder for code that uses the first `count` kernels, or None where it cannot be written to.

    Its name changes with any of gsched's sources and with any other file that a kernel stands in.
    """
    digest = hashlib.blake2b(digest_size=8)
    files = {Path(kernel.__code__.co_filename) for kernel in _kernels[:count]}
    for source in sorted(files.union(Path(__file__).parent.rglob("*.py"))):
        digest.update(source.read_bytes() if source.is_file() else os.urandom(8))
    folder = cache_root() / f"py{sys.version_info[0]}{sys.version_info[1]}-{digest.hexdigest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


def cache_root() -> Path:
    """Return the folder for what gsched can make anew; the null device where there is no place for one."""
    if given := os.environ.get("GSCHED_CACHE_DIR"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gsched"
    except RuntimeError:  # a user without a home
        return Path(os.devnull)
