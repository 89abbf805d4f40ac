"""The folder that a tool writes to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def make_output_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder if need be, and find out whether it can be written to before there is a result
    to lose.

    Args:
        folder: value of ``--output``.

    Raises:
        ValueError: if it is no folder, or nothing can be written there.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"--output {os.fspath(folder)!r} cannot be written to ({error.strerror}): name a "
            "folder in which files can be created"
        ) from error
    return path
