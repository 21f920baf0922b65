"""Where images are written that calls make."""

import secrets
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from threading import Lock
from weakref import finalize


class ImageFolder:
    """A folder of images under names of their own; without a path a temporary one, which ends with this object."""

    def __init__(self, path: Path | None = None) -> None:
        """Remember where; nothing is made before there is an image."""
        self._path, self._lock = path, Lock()

    def new(self) -> Path:
        """Return the path of an image that is about to be written.

        Raises:
            OSError: the folder cannot be made.
        """
        with self._lock:
            if self._path is None:
                self._path = Path(tempfile.mkdtemp(prefix="gsched-images-"))
                finalize(self, shutil.rmtree, self._path, ignore_errors=True)
            self._path.mkdir(parents=True, exist_ok=True)
        return self._path.absolute() / f"{secrets.token_hex(8)}.png"

    def write_grey(self) -> Path:
        """Write a small grey image, in the place of one that nothing computes, and return its path.

        Raises:
            OSError: it cannot be written.
        """
        path = self.new()
        path.write_bytes(_GREY)
        return path


def _grey(size: int) -> bytes:
    """Return a square PNG of 8-bit grey."""
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * size) * size
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_GREY = _grey(16)
