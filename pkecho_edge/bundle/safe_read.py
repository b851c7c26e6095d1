"""Read files of a bundle without following links or waiting on devices, and hash them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pkecho_edge.errors import IntegrityError

__all__ = ["hash_regular_file", "read_regular_file"]

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_PIECE = 1 << 20
_REMEDY = "Fetch or build the bundle again"


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """The file's content.

    Raises:
        IntegrityError: missing, a link, not a regular file, unreadable or larger than `max_bytes`.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size  # reserves no more memory than the file needs
        data = b"" if size > max_bytes else file.read(size + 1)
    if size > max_bytes or len(data) > max_bytes:
        raise IntegrityError(
            f"has more than {max_bytes} bytes, too many for this file", path=path, remedy=_REMEDY
        )
    return data


def hash_regular_file(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of the file's content, read in pieces.

    Raises:
        IntegrityError: missing, a link, not a regular file or unreadable.
    """
    digest, size = hashlib.sha256(), 0
    with _opened(path) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open without following a link in the last part, and refuse pipes, sockets and devices."""
    try:
        if path.is_symlink():  # where the system knows no O_NOFOLLOW
            raise IntegrityError("is a symbolic link", path=path, remedy=_REMEDY)
        descriptor = os.open(path, _FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise IntegrityError("is not a regular file", path=path, remedy=_REMEDY)
            yield file
    except FileNotFoundError as error:
        raise IntegrityError("is missing", path=path, remedy=_REMEDY) from error
    except OSError as error:
        raise IntegrityError(
            f"cannot be read ({error.strerror})", path=path, remedy=_REMEDY
        ) from error
