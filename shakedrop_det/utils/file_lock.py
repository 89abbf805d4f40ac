"""Locks that the operating system releases when a process dies, even if it is killed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from typing import IO, Any

_HELD = (errno.EACCES, errno.EAGAIN)

_SECONDS = 0.05
"""Time between two attempts to lock a file that another process has locked."""


def lock(file: IO[Any]) -> bool:
    """Try to lock a file without waiting, until this process closes the file or ends.

    This is a POSIX lock: forked data workers do not inherit it, so it never outlives the process
    that took it, and network file systems share it between hosts. A process does not block itself,
    and loses the lock when it closes the file by any descriptor.

    Args:
        file: a file opened for writing.

    Returns:
        bool: True if the file is now locked, False if another process holds the lock.

    Raises:
        OSError: if the file system does not support locks.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep other processes that call this with the same path out of the block. They wait.

    Args:
        path: path of a file in an existing folder, which exists only within the block. Without
            locks in its file system, nothing is kept out.
    """
    while True:
        file = open(path, "a")  # noqa: SIM115, closed below
        try:
            is_ours = lock(file)
        except OSError:
            is_ours = True
        if is_ours and is_at(path, file):
            break
        file.close()  # Held by another process, or removed by the one that held it.
        if not is_ours:
            time.sleep(_SECONDS)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        file.close()


def is_at(path: str, file: IO[Any]) -> bool:
    """Return whether an open file is the one at a path, rather than one that was there before."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
