"""Joining a Ray cluster."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from gsched.errors import InputError, one_line

_OBJECT_STORE = 100_000_000  # bytes; prompts and answers are small
_QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_JOIN = f"import sys, ray; ray.init(address=sys.argv[1], **{_QUIET!r})"


def join(address: str | None, gpus: int | None, patience: float) -> None:
    """Connect this process to a cluster.

    Args:
        address: of a cluster that exists, `auto` for one on this machine; None to start one here.
        gpus: that a cluster started here pretends to have; None for those that Ray finds.
        patience: wall-clock seconds to wait for a cluster that exists.

    Raises:
        InputError: it cannot be reached, or this process is connected already.
    """
    if ray.is_initialized():
        raise InputError.one("", "Ray", "this process is connected to a cluster already", "call ray.shutdown() first")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is not None:
        _require_answer(address, patience)
    here: Mapping[str, Any] = {
        "num_cpus": 0,  # no process starts before an actor needs it, and actors ask for none
        "num_gpus": gpus,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE,
    }
    with _own_sigterm():
        try:
            ray.init(address=address or "local", **_QUIET, **(here if address is None else {}))
        except (OSError, RuntimeError, ValueError) as error:
            raise _unreachable(address, one_line(str(error))) from error


def _require_answer(address: str, patience: float) -> None:
    """Join a cluster in a process of its own: where nothing answers, that takes minutes, and may end the process.

    Raises:
        InputError: that fails or takes too long.
    """
    try:
        joined = subprocess.run(  # noqa: S603 (our own interpreter and text)
            [sys.executable, "-c", _JOIN, address], stdin=subprocess.DEVNULL, capture_output=True, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"nothing has answered within {patience:g} s") from None
    if joined.returncode:
        lines = joined.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {joined.returncode}"]
        raise _unreachable(address, lines[-1])


def _unreachable(address: str | None, reason: str) -> InputError:
    if address is None:
        return InputError.one("", "Ray", f"cannot be started here ({reason})", "see Ray's logs in /tmp/ray")
    hint = "check the address, or leave it out to start Ray here"
    return InputError.one("", f"Ray cluster {address}", f"cannot be joined ({reason})", hint)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
