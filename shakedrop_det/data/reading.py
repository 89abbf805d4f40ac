"""Reading images so that a broken file is named."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

from PIL import Image


class UnreadableImageError(OSError):
    """An image file is missing, no image, truncated or otherwise damaged."""


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
    # SyntaxError is Pillow's for a damaged PNG.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(
            f"cannot read image {file_name} ({type(error).__name__}: {error}): "
            "replace the file, or remove it from the data set"
        ) from error
