"""The output folder of a run or a tool."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .atomic import is_local


def make_output_folder(folder: str | os.PathLike[str], *, key: str = "--output") -> Path:
    """Make a folder if need be, and find out whether it can be written to before there is a result
    to lose.

    Args:
        folder: a path.
        key: option or config key that it is the value of, for the message.

    Raises:
        ValueError: if it is no folder, nothing can be written there, or the files in it could not
            be loaded.
    """
    name = os.fspath(folder)
    check_path(name, key=key)
    try:
        os.makedirs(name, exist_ok=True)
        with tempfile.TemporaryFile(dir=name):
            pass
    except OSError as error:
        raise ValueError(
            f"{key} {name!r} cannot be written to ({error.strerror}): set it to a folder in which "
            "files can be created"
        ) from error
    return Path(name)


def check_path(path: str, *, key: str = "--output") -> None:
    """Stop if weights that are written there could not be loaded again.

    detectron2 takes what follows a question mark for options of how to load a file, and what has
    "://" for an address; with a line break, a name does not fit into a line of a list of files.

    Args:
        path: of a file or folder.
        key: see :func:`make_output_folder`.

    Raises:
        ValueError: naming what is wrong with it.
    """
    if not is_local(path):
        raise ValueError(
            f"{key} {path!r} is an address: set it to a folder of a file system of this machine"
        )
    if path.startswith("~"):  # Python would make a folder of that name.
        raise ValueError(
            f"{key} {path!r} begins with ~, which stands for your home only where a shell sees it: "
            f"set it to {os.path.expanduser(path)!r}"
        )
    if "?" in path or not path.isprintable():
        raise ValueError(
            f"{key} {path!r} has a question mark or a line break in it, or another character that "
            "cannot be printed, and weights there could not be loaded: leave it out"
        )


def refuse_folder(path: str, *, key: str = "--output") -> None:
    """Stop if a folder is where a file is to be written.

    Args:
        path: of the file.
        key: see :func:`make_output_folder`.

    Raises:
        ValueError: naming it.
    """
    if os.path.isdir(path):
        raise ValueError(f"{key} {path!r} is a folder: give the name of a file")
