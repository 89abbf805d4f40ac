"""Lock a folder for one training run at a time."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import socket
from typing import IO, Any, Iterator

from .atomic import is_local
from .disk_full import naming_full_disk
from .file_lock import is_at, lock

CLAIM = "run.lock"
"""File that a run locks in its folder while it trains; its contents identify the process."""

_claimed: set[str] = set()
"""Lock files that this process holds."""


@contextlib.contextmanager
def claimed(folder: str) -> Iterator[None]:
    """Keep runs of other processes out of a folder within the block.

    The operating system releases the lock when this process ends, even if it is killed. On a
    network file system the lock also holds between hosts, if that supports locks.

    Args:
        folder: an existing folder of a run. Addresses are not locked.

    Raises:
        ValueError: if another process has locked the folder, naming it.
    """
    path = os.path.realpath(os.path.join(folder, CLAIM))
    if not is_local(folder) or path in _claimed:
        yield
        return
    with _open_locked(folder, path) as file:
        _claimed.add(path)
        try:
            with naming_full_disk(path):
                file.seek(0)
                file.truncate()
                json.dump(_who(), file)
                file.flush()
            yield
        finally:
            _claimed.discard(path)
            with contextlib.suppress(OSError):  # Somebody may have removed the file.
                os.remove(path)


def check_unclaimed(folder: str) -> None:
    """Check that no other process trains in a folder.

    Args:
        folder: see :func:`claimed`.

    Raises:
        ValueError: if another process does, naming it.
    """
    path = os.path.realpath(os.path.join(folder, CLAIM))
    # Opening and closing a file that this process has locked would release the lock.
    if path not in _claimed:
        with contextlib.suppress(FileNotFoundError):
            _open_locked(folder, path, mode="r+").close()


def _open_locked(folder: str, path: str, *, mode: str = "a+") -> IO[str]:
    while True:
        file = open(path, mode)  # noqa: SIM115, the caller closes it
        try:
            if not lock(file):
                file.seek(0)
                raise ValueError(_held(folder, path, file.read()))
        except OSError as error:
            logging.getLogger(__name__).warning(
                "The file system of OUTPUT_DIR %r does not support locks (%s): nothing prevents a "
                "second run from writing there",
                folder,
                error.strerror,
            )
        except ValueError:
            file.close()
            raise
        if is_at(path, file):
            return file
        file.close()  # The run that held the lock has ended and removed the file.


def _who() -> dict[str, Any]:
    begin = datetime.datetime.now().astimezone()
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": begin.isoformat(" ", "seconds"),
    }


def _held(folder: str, path: str, content: str) -> str:
    try:
        holder = "process {pid} on {host} since {since}".format(**json.loads(content))
    except (ValueError, KeyError, TypeError):  # The file was locked but not written yet.
        holder = "another process"
    return (
        f"OUTPUT_DIR {folder!r} is in use: {holder} trains there; end that run, or set OUTPUT_DIR "
        f"to another folder (if that process is certainly dead, on a lost host: remove {path})"
    )
