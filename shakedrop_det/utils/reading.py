"""Read images, with errors that name broken files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

from detectron2.utils.file_io import PathManager
from PIL import Image


class UnreadableImageError(OSError):
    """An image file is missing, not an image, truncated or otherwise damaged."""


DEEP = ("I", "F")
"""Prefixes of Pillow's 16-bit and 32-bit modes, for integers and floating-point numbers. Conversion
to RGB or L clips their values at 255."""


def refuse_deep(file_name: str) -> None:
    """Check that an image has at most 8 bits per channel, since larger values would be clipped.

    Args:
        file_name: path of the image, whose header is read.

    Raises:
        UnreadableImageError: if the image has more than 8 bits per channel.
    """
    with (
        naming_file(file_name),
        PathManager.open(file_name, "rb") as file,
        Image.open(file) as image,
    ):
        mode = image.mode
    if mode.startswith(DEEP):
        raise UnreadableImageError(
            f"cannot read image {file_name}: its mode is {mode!r}, whose values would be "
            "cut at 255; convert it to 8 bits"
        )


@contextmanager
def naming_file(file_name: str) -> Iterator[None]:
    """Name the image in errors of reading it; Pillow does not name truncated images.

    Args:
        file_name: path of the image that is read within the context.

    Raises:
        UnreadableImageError: if the image is missing, not an image, truncated or otherwise damaged.
    """
    try:
        yield
    except UnreadableImageError:
        raise  # It already names the file.
    # Pillow raises SyntaxError for a damaged PNG, and ValueError for a damaged PPM and for a PNG
    # with too much text.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ValueError) and not _is_of_pillow(error):
            raise
        raise UnreadableImageError(
            f"cannot read image {file_name} ({type(error).__name__}: {error}): "
            "replace the file, or remove it from the dataset"
        ) from error


def _is_of_pillow(error: BaseException) -> bool:
    """Whether Pillow raised the error, rather than code that processes the pixels or labels."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return name.partition(".")[0] == "PIL"
