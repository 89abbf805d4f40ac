"""Reading COCO files, with a cache for their categories."""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Iterator
from typing import Any

from detectron2.utils.file_io import PathManager

Categories = list[dict[str, Any]]

_known: dict[tuple[str, int, int], Categories] = {}
"""Categories by path, time of change and size of the file."""


def read_coco(json_file: str) -> Any:
    """The content of a COCO file, whatever it is.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not JSON.
    """
    state = _state(json_file)
    with PathManager.open(json_file) as file, without_collection():
        try:
            content = json.load(file)
        except RecursionError as error:
            raise ValueError(f"its lists are nested too deeply: {error}") from error
    categories = content.get("categories") if isinstance(content, dict) else None
    listed = categories if isinstance(categories, list) else []
    _known[state] = [category for category in listed if isinstance(category, dict)]
    return content


def read_categories(json_file: str) -> Categories:
    """The categories of a COCO file in the order of their ids, which is that of the model's
    classes; none if it is not there or is no such file.

    The file is read once for each state of it.
    """
    try:
        state = _state(json_file)
        if state not in _known:
            read_coco(json_file)
        return sorted(_known[state], key=lambda category: category["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Leave Python's garbage collection out within the block: it takes a large part of the time of
    making millions of small objects."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _state(json_file: str) -> tuple[str, int, int]:
    path = PathManager.get_local_path(json_file)
    status = os.stat(path)
    return path, status.st_mtime_ns, status.st_size
