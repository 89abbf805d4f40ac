"""Reading images, with errors that name broken files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

from detectron2.utils.file_io import PathManager
from PIL import Image


class UnreadableImageError(OSError):
    """An image file is missing, no image, truncated or otherwise damaged."""


DEEP = ("I", "F")
"""How Pillow's modes of 16 and 32 bits begin, of integers and of floating-point numbers. Made RGB
or L, their values are cut at 255."""


def refuse_deep(file_name: str) -> None:
    """Stop at an image whose values would be cut.

    Args:
        file_name: of the image, of which the header is read.

    Raises:
        UnreadableImageError: if it has more than 8 bits for each channel.
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
    """Let errors about an unreadable image name it, which Pillow's do not for a truncated one.

    Args:
        file_name: of the image that is read within the context.

    Raises:
        UnreadableImageError: if the image is missing, no image, truncated or otherwise damaged.
    """
    try:
        yield
    except UnreadableImageError:
        raise  # It names its file.
    # SyntaxError is Pillow's for a damaged PNG, ValueError for a damaged PPM and for a PNG with
    # more text than it takes.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ValueError) and not _is_of_pillow(error):
            raise
        raise UnreadableImageError(
            f"cannot read image {file_name} ({type(error).__name__}: {error}): "
            "replace the file, or remove it from the data set"
        ) from error


def _is_of_pillow(error: BaseException) -> bool:
    """Whether Pillow raised it, rather than who looked at the pixels or labels."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return name.partition(".")[0] == "PIL"
