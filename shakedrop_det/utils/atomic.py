"""Write files completely or not at all."""

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
"""Suffix of a file that is being written: its name is that of the final file, a random token and
this. Writers of the same file thus do not interfere. Leftovers of a killed process are removed by
the next one that writes the file, such as the resumed run."""

_own: set[str] = set()
"""Unfinished files of this process."""


class AtomicPathManager:
    """A path manager that replaces local files atomically, and otherwise behaves as the given one.

    If a process is killed while writing, the previous file stays intact.
    """

    def __init__(self, path_manager: PathManager) -> None:
        """
        Args:
            path_manager: the path manager for everything except writing local files.
        """
        self._path_manager = path_manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._path_manager, name)

    def open(self, path: str, mode: str = "r", **kwargs: Any) -> Any:
        """Like ``PathManager.open``. Open local files for writing in a ``with`` statement."""
        if "w" in mode and is_local(path):
            return write_atomically(path, mode)
        return self._path_manager.open(path, mode, **kwargs)


def is_local(path: str) -> bool:
    """Whether a path is on this machine's file system rather than an address."""
    return "://" not in path


@contextlib.contextmanager
def write_atomically(path: str, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file for writing that replaces ``path`` when the block ends without an error.

    Args:
        path: a local path in an existing folder.
        mode: "w" or "wb".

    Raises:
        OSError: if the disk is full, with ``path`` as its filename.
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
    """Create and lock a file with a unique name."""
    while True:
        name = f"{path}.{secrets.token_hex(4)}{UNFINISHED_SUFFIX}"
        f = open(name, mode.replace("w", "x"))  # noqa: SIM115, the caller closes it
        try:
            is_ours = lock(f)
        except OSError:  # Without locks, leftovers of killed writers are not removed.
            return f
        # Before the lock, another writer may have mistaken the file for a leftover and removed it.
        if is_ours and os.path.exists(name):
            return f
        f.close()


def _remove_what_dead_writers_left(path: str) -> None:
    """Remove unfinished files of ``path`` that no process has locked."""
    found = glob.glob(f"{glob.escape(path)}.*{UNFINISHED_SUFFIX}")
    for name in set(found) - _own:
        # Other processes may do the same, we may lack permission, or there may be no locks.
        with contextlib.suppress(OSError), open(name, "ab") as f:
            if lock(f):
                os.remove(name)


def _sync_folder(folder: str) -> None:
    """Make a rename survive a power failure, before anything refers to the new name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
