"""Texts and pictures that a tool leaves: whole, or with an error that names the file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .atomic import write_atomically
from .disk_full import naming_full_disk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

StrPath = str | os.PathLike[str]


def write_text(path: StrPath, text: str) -> None:
    """Write a text file; a file that was there stays if that fails.

    Args:
        path: its folder is made if need be.
        text: its content.

    Raises:
        OSError: with ``path`` as its filename, if the disk is full.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(str(path), "w") as file:
        file.write(text)


def save_picture(picture: Image.Image, path: StrPath, **options: Any) -> None:
    """Write a picture; nothing is left if that fails.

    Args:
        picture: to write.
        path: whose suffix says the format; its folder is made if need be.
        options: of ``Image.save``, such as ``quality``.

    Raises:
        OSError: with ``path`` as its filename, if the disk is full.
    """
    encoded = io.BytesIO()
    format = Image.registered_extensions()[Path(path).suffix.lower()]
    picture.save(encoded, format=format, **options)
    _write(path, encoded.getvalue())


def save_figure(figure: Figure, path: StrPath) -> None:
    """The same for a figure of matplotlib.

    Args and errors: see :func:`save_picture`.
    """
    encoded = io.BytesIO()
    figure.savefig(encoded, format=Path(path).suffix[1:])
    _write(path, encoded.getvalue())


def _write(path: StrPath, data: bytes) -> None:
    """In one go: of a disk that is full Pillow says no more than "encoder error -2"."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(str(path)):
        try:
            Path(path).write_bytes(data)
        except OSError:
            Path(path).unlink(missing_ok=True)
            raise
