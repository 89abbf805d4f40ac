"""Reading COCO files, with a cache of their categories and of whether they have annotations."""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Iterator
from typing import Any

from detectron2.utils.file_io import PathManager

Categories = list[dict[str, Any]]

_known: dict[tuple[str, int, int], tuple[Categories, bool]] = {}
"""Categories, and whether there are annotations, by path, time of change and size of a file."""


def read_coco(json_file: str) -> Any:
    """Return the parsed content of a COCO file, without checking it.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not JSON.
    """
    state = _state(json_file)
    with PathManager.open(json_file) as file, without_collection():
        try:
            content = json.load(file)
        except RecursionError as error:
            raise ValueError(f"its lists are nested too deeply: {error}") from error
    categories = content.get("categories") if isinstance(content, dict) else None
    listed = categories if isinstance(categories, list) else []
    found = [category for category in listed if isinstance(category, dict)]
    _known[state] = found, isinstance(content, dict) and bool(content.get("annotations"))
    return content


def read_categories(json_file: str) -> Categories:
    """Return the categories of a COCO file, sorted by id as the model's classes are; [] if the file
    is missing or invalid.

    A file is read again only after it has changed.
    """
    try:
        return sorted(_read(json_file)[0], key=lambda category: category["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def has_annotations(json_file: str) -> bool:
    """Return whether a COCO file has annotations, as test sets without ground truth do not; True if
    the file is missing or invalid."""
    try:
        return _read(json_file)[1]
    except (OSError, ValueError):
        return True


def _read(json_file: str) -> tuple[Categories, bool]:
    state = _state(json_file)
    if state not in _known:
        read_coco(json_file)
    return _known[state]


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Disable Python's garbage collection within the block: it takes much of the time when millions
    of small objects are created."""
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
