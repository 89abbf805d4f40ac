"""Recognize a full disk from the errors of libraries."""

from __future__ import annotations

import contextlib
import errno
from typing import Iterator

_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_full(error: BaseException) -> OSError | None:
    """Return the system's error if a full disk, a quota or a file size limit caused an error, also
    indirectly: ``torch.save``, for example, raises a RuntimeError about an "unexpected pos".

    Args:
        error: any error. The errors that caused it are examined, too.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in _CODES:
            return found
        found = found.__cause__ or found.__context__
    return None


@contextlib.contextmanager
def naming_full_disk(path: str) -> Iterator[None]:
    """Add the file name to errors about a full disk, in which the system's error lacks it.

    Args:
        path: path of the file that is written within the context.

    Raises:
        OSError: if the disk is full, with ``path`` as its filename.
    """
    try:
        yield
    except Exception as error:
        full = disk_full(error)
        if full is None:
            raise
        raise OSError(full.errno, full.strerror, path) from error


def describe(error: OSError) -> str:
    """Format an error about a full disk for the user, in one line.

    Args:
        error: error as returned by :func:`disk_full`.
    """
    name = "to the disk" if error.filename is None else repr(error.filename)
    return f"cannot write {name}: {error.strerror}; make room there, or write to another disk"
