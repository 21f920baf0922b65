"""Files are written whole or not at all."""

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gsched.errors import InputError

PathLike = str | os.PathLike[str]


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that takes the place of `path` when the block ends, and is dropped when it raises.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink()
        raise _unwritable(path, error) from error
    except BaseException:
        temporary.unlink()
        raise


def write_csv(rows: Iterable[Mapping[str, Any]], columns: Iterable[str], path: Path) -> None:
    """Write rows as CSV with a header; what a row lacks is an empty cell.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(rows)
    with whole_file(path) as file:
        file.write(text.getvalue().encode())


def require_folder(path: Path) -> None:
    """Raise an `InputError` where files could not be written to a folder, which need not exist yet."""
    try:
        existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError.one(path, "", f"cannot be written ({error.strerror or error})", "choose another place")


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError.one(path, "", "no such file", "check the path") from None
    except IsADirectoryError:
        raise InputError.one(path, "", "is a folder", "name a file in it") from None
    except OSError as error:
        raise InputError.one(path, "", f"cannot be read ({error.strerror})", "check the file") from error
