"""What a sweep has done so far, so that it goes on where it was stopped: a line of JSON for each run."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gsched.errors import InputError
from gsched.files import read_bytes
from gsched.sweep.intervals import Run

JOURNAL = "runs.jsonl"

_NEEDED = {"valid", "problem", "violations", "faulty"}


class Journal:
    """The runs that are done, by their keys; open for one sweep at a time."""

    def __init__(self, path: Path, file: IO[bytes], done: dict[str, Run]) -> None:
        self._path, self._file = path, file
        self.done = done

    def add(self, key: str, run: Run) -> None:
        """Note a run; it is in the file when this returns.

        Raises:
            InputError: it cannot be written.
        """
        line = json.dumps({"key": key, "run": run}, allow_nan=False).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _unwritable(self._path, error) from None
        self.done[key] = run


@contextmanager
def journal(folder: Path, *, fresh: bool = False) -> Iterator[Journal]:
    """Open the journal of a folder, which need not exist yet.

    Args:
        folder: where the results of the sweep go.
        fresh: whether to forget what was done before.

    Raises:
        InputError: it cannot be written, is another sweep's at the moment, or holds something else.
    """
    path = folder / JOURNAL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from None
    with file:
        _lock(path, file)
        done, whole = ({}, 0) if fresh else _read(path)
        file.truncate(whole)  # without the line that was being written when the sweep was stopped
        yield Journal(path, file, done)


def _lock(path: Path, file: IO[bytes]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message, hint = "is being written by another sweep", "wait for it, or use another --out"
        raise InputError.one(path, "", message, hint) from None
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError.one(path, "", f"cannot be written ({error.strerror})", "choose another place")


def _read(path: Path) -> tuple[dict[str, Run], int]:
    """Return the runs in a journal, and how many bytes of it are whole lines."""
    content = read_bytes(path)
    whole = content.rfind(b"\n") + 1
    done: dict[str, Run] = {}
    for number, line in enumerate(content[:whole].splitlines(), 1):
        try:
            entry: dict[str, Any] = json.loads(line)
            done[entry["key"]] = run = dict(entry["run"])
            if not run.keys() >= _NEEDED:
                raise KeyError
        except (ValueError, KeyError, TypeError, RecursionError):
            hint = "remove the file, or start anew with --fresh"
            raise InputError.one(f"{path}:{number}", "", "is no run of a sweep", hint) from None
    return done, whole
