"""Write the texts and pictures of tools: completely, or with an error that names the file."""

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
    """Write a text file. If this fails, an existing file stays unchanged.

    Args:
        path: path of the file. Its folder is created if missing.
        text: contents of the file.

    Raises:
        OSError: if the disk is full, with ``path`` as its filename.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(str(path), "w") as file:
        file.write(text)


def save_picture(picture: Image.Image, path: StrPath, **options: Any) -> None:
    """Write a picture. If this fails, no file is left.

    Args:
        picture: picture to write.
        path: path whose suffix determines the format. Its folder is created if missing.
        options: options of ``Image.save``, such as ``quality``.

    Raises:
        OSError: if the disk is full, with ``path`` as its filename.
    """
    encoded = io.BytesIO()
    format = Image.registered_extensions()[Path(path).suffix.lower()]
    picture.save(encoded, format=format, **options)
    _write(path, encoded.getvalue())


def save_figure(figure: Figure, path: StrPath) -> None:
    """Write a matplotlib figure like :func:`save_picture`.

    Args and errors: see :func:`save_picture`.
    """
    encoded = io.BytesIO()
    figure.savefig(encoded, format=Path(path).suffix[1:])
    _write(path, encoded.getvalue())


def _write(path: StrPath, data: bytes) -> None:
    """Write at once, since Pillow reports a full disk only as "encoder error -2"."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(str(path)):
        try:
            Path(path).write_bytes(data)
        except OSError:
            Path(path).unlink(missing_ok=True)
            raise
