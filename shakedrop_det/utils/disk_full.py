"""Recognizing a full disk from the errors of libraries."""

from __future__ import annotations

import contextlib
import errno
from typing import Iterator

_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_full(error: BaseException) -> OSError | None:
    """What the system said, if an error is about a full disk, a quota or the limit of a file's size
    and be it indirectly: ``torch.save`` ends in a RuntimeError about an "unexpected pos" then.

    Args:
        error: any; those that it arose from are looked at too.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in _CODES:
            return found
        found = found.__cause__ or found.__context__
    return None


@contextlib.contextmanager
def naming_full_disk(path: str) -> Iterator[None]:
    """Let an error about a full disk name what was written, which the system's own does not.

    Args:
        path: of the file that is written within the context.

    Raises:
        OSError: with ``path`` as its filename, if the disk is full.
    """
    try:
        yield
    except Exception as error:
        full = disk_full(error)
        if full is None:
            raise
        raise OSError(full.errno, full.strerror, path) from error


def describe(error: OSError) -> str:
    """A line for the user.

    Args:
        error: of :func:`disk_full`.
    """
    name = "to the disk" if error.filename is None else repr(error.filename)
    return f"cannot write {name}: {error.strerror}; make room there, or write to another disk"
