"""Checks of classification datasets that are registered with a function."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.data import DatasetCatalog

from shakedrop_det.utils.atomic import is_local

from .image_checks import Files
from .problems import Problems


def check_labels(name: str, *, num_classes: int, files: bool) -> None:
    """Check the labels and file names of the records of a dataset. No image is opened.

    Datasets of this package, whose labels come from their folders, are not read.

    Args:
        name: Name of a registered dataset.
        num_classes: Number of classes of the model.
        files: Whether files must exist.

    Raises:
        ValueError: If there are mistakes. The message lists them.
    """
    loader: Any = DatasetCatalog[name]
    module = getattr(getattr(loader, "func", loader), "__module__", None) or ""
    if module.partition(".")[0] == __name__.partition(".")[0]:
        return
    records = DatasetCatalog.get(name)
    if not isinstance(records, list):
        return  # Reading an image may be all that another type can do.
    problems = find_label_problems(records, num_classes=num_classes, files=files)
    if problems.number:
        raise ValueError(f"dataset {name!r} has {problems.title}:\n{problems}\nCorrect them")


def find_label_problems(
    records: Sequence[dict[str, Any]], *, num_classes: int, files: bool
) -> Problems:
    """Return the mistakes in records; see :func:`check_labels`."""
    problems, there = Problems(), Files()
    for index, record in enumerate(records):
        for what in _problems(record, num_classes, there if files else None):
            problems.add(f"image {record.get('image_id', f'at {index}')!r}", what)
    return problems


def _problems(record: dict[str, Any], num_classes: int, there: Files | None) -> Iterator[str]:
    if "label" not in record:
        yield "has no 'label'"
    elif not _is_class(record["label"], num_classes):
        yield (
            f"has label {record['label']!r}, which is not an integer from 0 to {num_classes - 1}: "
            f"MODEL.IMAGE_CLASSIFIER.NUM_CLASSES is {num_classes}"
        )
    path = record.get("file_name")
    if path is None:
        if record.get("image") is None:
            yield "has neither 'file_name' nor 'image'"
    elif not isinstance(path, (str, os.PathLike)):
        yield f"has file_name {path!r}, which is not a path"
    elif there is not None and is_local(os.fspath(path)) and os.fspath(path) not in there:
        yield f"has no file {path}"


def _is_class(label: Any, num_classes: int) -> bool:
    try:
        return 0 <= operator.index(label) < num_classes
    except TypeError:
        return False
