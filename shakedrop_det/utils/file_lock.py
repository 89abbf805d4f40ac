"""Locks that the operating system releases when a process dies, even if it is killed."""

from __future__ import annotations

import errno
import fcntl
from typing import IO, Any

_HELD = (errno.EACCES, errno.EAGAIN)


def lock(file: IO[Any]) -> bool:
    """Lock a file for this process until it closes the file or ends, without waiting.

    The lock is POSIX's: data workers that are forked meanwhile do not have it, so that it does not
    outlive the process that took it, and network file systems share it between hosts. A process
    does not lock itself out; it loses the lock once it closes the file by any descriptor.

    Args:
        file: open for writing.

    Returns:
        bool: whether it is locked now; False if another process has it.

    Raises:
        OSError: if the file system has no locks.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True
