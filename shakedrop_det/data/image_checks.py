"""Checks of the images of COCO files, only a few of which are opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from shakedrop_det.utils.atomic import is_local
from shakedrop_det.utils.reading import DEEP

SAMPLE = 300
"""Approximate number of images whose header is read, spread evenly over the list."""

_READERS = 8
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width.


def image_problems(
    images: Sequence[Any], image_root: str, *, decode: bool = False
) -> Iterator[tuple[int, str]]:
    """Find bad records, missing files and, in a sample, files of another size or type than needed.

    Args:
        images: Image records of the COCO file.
        image_root: Folder that contains the files.
        decode: Whether to decode all images instead, to find all that are damaged.

    Yields:
        The index of an image and a description of the mistake.
    """
    there = Files()
    seen: set[Any] = set()
    step = 1 if decode else max(len(images) // SAMPLE, 1)
    opened: list[tuple[int, str]] = []
    for index, image in enumerate(images):
        problem = _record_problem(image, seen)
        if problem is None and is_local(image_root):
            path = os.path.join(image_root, image["file_name"])
            if path not in there:
                problem = f"has no file {path}"
            elif index % step == 0:
                opened.append((index, path))
        if problem is not None:
            yield index, problem
    # Threads, since Pillow decodes without Python's lock.
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda at: file_problem(at[1], images[at[0]], decode=decode), opened)
        for (index, _), problem in zip(opened, found, strict=True):
            if problem is not None:
                yield index, problem


def _record_problem(image: Any, seen: set[Any]) -> str | None:
    if not isinstance(image, dict):
        return f"is not a record but {image!r}"
    number = image.get("id")
    if not isinstance(number, (int, str)):
        return "has no 'id'"
    if number in seen:
        return "has the 'id' of another image"
    seen.add(number)
    if not isinstance(image.get("file_name"), str) or not image["file_name"]:
        return "has no 'file_name'"
    for side in ("height", "width"):
        value = image.get(side)
        # detectron2 creates arrays of this size.
        if not isinstance(value, int) or not value > 0:
            return f"has {side} {value!r}, which must be a whole number of pixels"
    return None


def file_problem(path: str, image: dict[str, Any], *, decode: bool = False) -> str | None:
    """Read the header of an image file and describe what is wrong with it; None if nothing is.

    Args:
        path: Path of the file.
        image: Record of the image, with ``height`` and ``width``.
        decode: Whether to read the pixels too.
    """
    try:
        with Image.open(path) as file:
            orientation = file.getexif().get(_ORIENTATION)
            size = file.size[::-1] if orientation in _TURNED else file.size
            mode = file.mode
            if decode:
                file.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"has a file {path} that cannot be read ({error})"
    if mode.startswith(DEEP):
        return f"has mode {mode!r}, whose values would be clipped at 255: convert {path} to 8 bits"
    width, height = image["width"], image["height"]
    if size != (width, height):
        turned = " (after EXIF rotation)" if orientation in _TURNED else ""
        return f"has {size[0]} x {size[1]} pixels{turned}, but its record says {width} x {height}"
    return None


class Files:
    """Set of existing files, which lists whole folders at once."""

    def __init__(self) -> None:
        self._folders: dict[str, set[str]] = {}

    def __contains__(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._folders:
            try:
                self._folders[folder] = set(os.listdir(folder or os.curdir))
            except OSError:
                self._folders[folder] = set()
        return name in self._folders[folder]
