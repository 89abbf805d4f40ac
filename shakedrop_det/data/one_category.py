"""One category of a COCO dataset: a detection task that a few hundred images suffice to learn."""

from __future__ import annotations

from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from .missing_files import check_files


def register_category(name: str, source: str, category: str) -> None:
    """Register the images of a dataset with the annotations of one category.

    Images without such annotations remain: detectron2 skips them in training, not in evaluation.

    Args:
        name: Name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``; ``NUM_CLASSES`` is 1.
        source: Name of a registered dataset in COCO's format.
        category: One of its ``thing_classes``.
    """
    DatasetCatalog.register(name, partial(load_category, source, category))
    MetadataCatalog.get(name).set(evaluator_type="coco", thing_classes=[category])


def load_category(source: str, category: str) -> list[dict[str, Any]]:
    """Load a dataset with only the annotations of one category, whose index becomes 0.

    Args:
        source, category: See :func:`register_category`.

    Raises:
        FileNotFoundError: If the files of the dataset are missing.
        ValueError: If the dataset does not have the category.
    """
    metadata = MetadataCatalog.get(source)
    if "prepare" in metadata.as_dict():
        metadata.prepare()
    check_files(source)
    records = DatasetCatalog.get(source)
    classes = list(metadata.thing_classes)
    if category not in classes:
        raise ValueError(
            f"dataset {source!r} has no category {category!r}: choose one of {', '.join(classes)}"
        )
    number = classes.index(category)
    return [
        {
            **record,
            "annotations": [
                {**annotation, "category_id": 0}
                for annotation in record["annotations"]
                if annotation["category_id"] == number
            ],
        }
        for record in records
    ]
