"""Copies of COCO files without their bad images and annotations."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from shakedrop_det.utils.atomic import write_atomically

from .coco_files import load_coco_file

_ORIGINAL = "original_json_file"
_loaders: dict[str, Callable[[], Any]] = {}
"""Original loaders of datasets that are now read from a cleaned file."""


def original_file(name: str) -> str:
    """Return the annotation file that a dataset was registered with."""
    metadata = MetadataCatalog.get(name)
    return metadata.get(_ORIGINAL) or metadata.json_file


def cleaned_file(name: str, folder: str) -> str:
    """Return the path of a dataset's cleaned file in the output folder of a run."""
    return os.path.join(folder, "usable_annotations", f"{name.replace(os.sep, '_')}.json")


def write_cleaned(content: dict[str, Any], path: str) -> None:
    """Write a COCO file atomically."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with write_atomically(path, "w") as file:
        json.dump(content, file)


def read_from(name: str, json_file: str) -> None:
    """Make a dataset in COCO's format read its annotations from another file, or its own again."""
    original = original_file(name)
    fields = MetadataCatalog.get(name).as_dict()
    if json_file == fields["json_file"]:
        return
    if name not in _loaders:
        _loaders[name] = DatasetCatalog[name]
    loader: Callable[[], Any] = _loaders[name]
    if json_file != original:
        loader = functools.partial(load_coco_file, name, json_file, fields["image_root"])
    DatasetCatalog.remove(name)
    DatasetCatalog.register(name, loader)
    # Metadata fields cannot be overwritten, and detectron2 holds references to the object.
    metadata = MetadataCatalog.get(name)
    for field in ("json_file", _ORIGINAL):
        if hasattr(metadata, field):
            delattr(metadata, field)
    metadata.set(json_file=json_file, **{_ORIGINAL: original})
