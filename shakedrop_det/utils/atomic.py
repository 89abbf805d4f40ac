"""Writing files completely or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from typing import IO, Any, Iterator

from iopath.common.file_io import PathManager

from .disk_full import naming_full_disk
from .file_lock import lock

UNFINISHED_SUFFIX = ".unfinished"
"""What is being written is called as the file that it is to become, with letters of the writer's
own and this behind. So writers stay out of each other's way, also those of one file. What a killed
one left is removed by the next that writes this file, as a resumed run does."""

_own: set[str] = set()
"""What this process is writing."""


class AtomicPathManager:
    """A path manager that replaces local files in one step, and is otherwise the given one.

    A process that is killed while it writes leaves the previous file as it was.
    """

    def __init__(self, path_manager: PathManager) -> None:
        """
        Args:
            path_manager: does everything but writing local files.
        """
        self._path_manager = path_manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._path_manager, name)

    def open(self, path: str, mode: str = "r", **kwargs: Any) -> Any:
        """As ``PathManager.open``; for writing local files, to be used in a ``with`` statement."""
        if "w" in mode and is_local(path):
            return write_atomically(path, mode)
        return self._path_manager.open(path, mode, **kwargs)


def is_local(path: str) -> bool:
    """Whether the path is one of this machine's file system rather than an address."""
    return "://" not in path


@contextlib.contextmanager
def write_atomically(path: str, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file for writing that takes the place of ``path`` when the block ends without error.

    Args:
        path: a local path, in a folder that exists.
        mode: "w" or "wb".

    Raises:
        OSError: with ``path`` as its filename, if the disk is full.
    """
    _remove_what_dead_writers_left(path)
    f = _create(path, mode)
    _own.add(f.name)
    try:
        with naming_full_disk(path), f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(f.name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(f.name)
        _own.discard(f.name)
    _sync_folder(os.path.dirname(os.path.abspath(path)))


def _create(path: str, mode: str) -> IO[Any]:
    """A locked file of a name of its own."""
    while True:
        name = f"{path}.{secrets.token_hex(4)}{UNFINISHED_SUFFIX}"
        f = open(name, mode.replace("w", "x"))  # noqa: SIM115, the caller closes it
        try:
            is_ours = lock(f)
        except OSError:  # Without locks, what a killed writer left stays.
            return f
        # Another writer of this file may have taken it for a dead one's before it was locked.
        if is_ours and os.path.exists(name):
            return f
        f.close()


def _remove_what_dead_writers_left(path: str) -> None:
    """Remove unfinished files of ``path`` that no process has locked."""
    found = glob.glob(f"{glob.escape(path)}.*{UNFINISHED_SUFFIX}")
    for name in set(found) - _own:
        # Others may do the same, the file may be somebody else's, or there may be no locks.
        with contextlib.suppress(OSError), open(name, "ab") as f:
            if lock(f):
                os.remove(name)


def _sync_folder(folder: str) -> None:
    """Make a rename outlast a power failure, before anything refers to the new name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
