"""The class names and ids that a checkpoint stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from shakedrop_det.data.classes import class_difference, class_names, num_classes

CLASSES = "classes"
"""Where a checkpoint keeps the names of its classes, and their ids in the data set."""


def classes_of(cfg: CfgNode) -> dict[str, Any] | None:
    """Names and ids of the classes of a training set, as far as they are known by now.

    Args:
        cfg: whose first ``DATASETS.TRAIN`` it is.

    Returns:
        dict: ``names``, in the model's order, and ``ids``, of COCO's categories, or None if it has
        none; or None, if no names are known.
    """
    name = next(iter(cfg.DATASETS.TRAIN), None)
    metadata = MetadataCatalog.get(name) if name in MetadataCatalog else Metadata()
    names = metadata.get("thing_classes") or metadata.get("classes")
    if not names:
        return None
    numbers = metadata.get("thing_dataset_id_to_contiguous_id")
    ids = sorted(numbers, key=numbers.get) if numbers else None
    return {"names": [str(name) for name in names], "ids": ids}


def checked_classes(content: Any, *, source: str) -> dict[str, Any] | None:
    """What a checkpoint says about its classes, if it is what :func:`classes_of` gives.

    Args:
        content: of :data:`CLASSES`, or None if the file has no such entry.
        source: the file, for the message.

    Raises:
        ValueError: if it is anything else.
    """
    if content is None:
        return None
    is_record = isinstance(content, dict) and content.keys() == {"names", "ids"}
    names, ids = (content["names"], content["ids"]) if is_record else (None, None)
    are_ids = ids is None or (_are(ids, int) and len(ids) == len(names or ()))
    if not _are(names, str) or not are_ids:
        raise ValueError(
            f"{CLASSES!r} in {source!r} must hold lists of names and of as many ids, got "
            f"{str(content)[:100]}: remove that entry of the file"
        )
    return content


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def check_number_of_classes(content: Any, cfg: CfgNode, *, source: str) -> None:
    """Stop if a model has another number of classes than weights that it is to be used with.

    Args:
        content: of :data:`CLASSES`, or None if nothing is known.
        cfg: of the model.
        source: of the weights, for the message.

    Raises:
        ValueError: naming the key and the classes.
    """
    classes = checked_classes(content, source=source)
    key, number = num_classes(cfg)
    if classes is not None and number is not None and number != len(classes["names"]):
        names = classes["names"]
        more = ", ..." if len(names) > 10 else ""
        raise ValueError(
            f"{key} is {number}, but the weights in {source!r} are of {len(names)} classes "
            f"({', '.join(names[:10])}{more}): set {key} to {len(names)}, or use the config.yaml "
            "of their run"
        )


def check_same_classes(
    classes: dict[str, Any] | None, datasets: Sequence[str], *, source: str
) -> None:
    """Stop if weights tell other classes apart than data sets have, or in another order.

    Args:
        classes: of the weights, or None if nothing is known.
        datasets: names of data sets in detectron2's catalog, whose classes are known.
        source: of the weights, for the message.

    Raises:
        ValueError: naming both lists.
    """
    for name in datasets if classes else ():
        names = class_names(name)
        difference = names and classes and class_difference(classes["names"], names)
        if difference:
            raise ValueError(
                f"the weights in {source!r} and data set {name!r} do not have the same classes: "
                f"{difference}. Evaluate on a data set with the same classes in the same order, or "
                "train on this one"
            )
