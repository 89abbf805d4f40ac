"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from typing import IO, Any, Iterator

from iopath.common.file_io import PathManager

UNFINISHED_SUFFIX = ".unfinished"
"""What is being written is called as the file that it is to become, with this behind. So processes
that write into one folder, as conversions side by side do, stay out of each other's way; and what a
killed one left is overwritten by the next that writes this file, as a resumed run does."""


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
    """
    unfinished = path + UNFINISHED_SUFFIX
    try:
        with open(unfinished, mode) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)
    _sync_folder(os.path.dirname(os.path.abspath(path)))


def _sync_folder(folder: str) -> None:
    """Make a rename outlast a power failure, before anything refers to the new name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
