"""A category of a COCO data set by itself: detection that a few hundred images can teach."""

from __future__ import annotations

from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog


def register_category(name: str, source: str, category: str) -> None:
    """Register the images of a data set with the annotations of one category.

    Images without any stay: detectron2 leaves them out of training, and evaluates on them.

    Args:
        name: for ``DATASETS.TRAIN`` and ``DATASETS.TEST``; ``NUM_CLASSES`` is 1.
        source: a registered data set in COCO's format.
        category: one of its ``thing_classes``.
    """
    DatasetCatalog.register(name, partial(load_category, source, category))
    MetadataCatalog.get(name).set(evaluator_type="coco", thing_classes=[category])


def load_category(source: str, category: str) -> list[dict[str, Any]]:
    """The records of a data set with the annotations of one category, whose number becomes 0.

    Args:
        source, category: see :func:`register_category`.

    Raises:
        ValueError: if the data set has no such category.
    """
    records = DatasetCatalog.get(source)
    classes = list(MetadataCatalog.get(source).thing_classes)
    if category not in classes:
        raise ValueError(
            f"data set {source!r} has no category {category!r}: there are {', '.join(classes)}"
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
