"""The folder that a run or a tool writes to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from detectron2.utils.file_io import PathManager

from shakedrop_det.utils.atomic import is_local


def make_output_folder(folder: str | os.PathLike[str], *, key: str = "--output") -> Path:
    """Make a folder if need be, and find out whether it can be written to before there is a result
    to lose.

    Args:
        folder: a path, or what detectron2's ``PathManager`` takes besides.
        key: option or config key that it is the value of, for the message.

    Raises:
        ValueError: if it is no folder, or nothing can be written there.
    """
    name = os.fspath(folder)
    try:
        PathManager.mkdirs(name)
        if is_local(name):
            with tempfile.TemporaryFile(dir=name):
                pass
    except OSError as error:
        raise ValueError(
            f"{key} {name!r} cannot be written to ({error.strerror}): set it to a folder in which "
            "files can be created"
        ) from error
    return Path(name)
