"""Create and check output paths of runs and tools."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .atomic import is_local


def make_output_folder(folder: str | os.PathLike[str], *, key: str = "--output") -> Path:
    """Create a folder if it is missing, and check that it is writable before there are results to
    lose.

    Args:
        folder: path of the folder.
        key: option or config key with the path, for the message.

    Raises:
        ValueError: if the path is not a folder, is not writable, or could not be loaded from.
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
    """Check that weights written to a path could be loaded again.

    detectron2 parses the part after a question mark as options for loading the file, and treats a
    path with "://" as an address. Lists of files have one name per line.

    Args:
        path: path of a file or folder.
        key: see :func:`make_output_folder`.

    Raises:
        ValueError: if the path is unsuitable, naming the problem.
    """
    if not is_local(path):
        raise ValueError(
            f"{key} {path!r} is an address: set it to a folder on a file system of this machine"
        )
    if path.startswith("~"):  # Python would create a folder of this name.
        raise ValueError(
            f"{key} {path!r} begins with ~, which only a shell replaces by your home directory: "
            f"set it to {os.path.expanduser(path)!r}"
        )
    if "?" in path or not path.isprintable():
        raise ValueError(
            f"{key} {path!r} contains a question mark or an unprintable character, such as a "
            "line break, and weights there could not be loaded: remove the character"
        )


def refuse_folder(path: str, *, key: str = "--output") -> None:
    """Check that the path of a file to write is not a folder.

    Args:
        path: path of the file.
        key: see :func:`make_output_folder`.

    Raises:
        ValueError: if the path is a folder, naming it.
    """
    if os.path.isdir(path):
        raise ValueError(f"{key} {path!r} is a folder: give the name of a file")


def check_output_file(
    path: str | os.PathLike[str], *, inputs: Mapping[str, str], key: str = "--output"
) -> None:
    """Check that a file can be written, before there are results to lose. Nothing is created.

    Args:
        path: path of the file.
        inputs: paths of files that the tool reads, by their option or config key; "" for none.
        key: see :func:`make_output_folder`.

    Raises:
        ValueError: if the path is a folder or one of the inputs, or its folder is not writable.
    """
    name = os.fspath(path)
    refuse_folder(name, key=key)
    for option, other in inputs.items():
        if other and os.path.realpath(name) == os.path.realpath(other):
            raise ValueError(
                f"{key} {name!r} would overwrite {option} {other!r}, which it is made of: name "
                "another file or folder"
            )
    folder = Path(name).absolute().parent
    while not folder.exists():
        folder = folder.parent
    make_output_folder(folder, key=key)
