"""Locks that the operating system releases when a process dies, even if it is killed."""

from __future__ import annotations

import errno
import fcntl
from typing import IO, Any

_HELD = (errno.EACCES, errno.EAGAIN)


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
