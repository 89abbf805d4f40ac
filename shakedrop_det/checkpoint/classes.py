"""Class names and ids that a checkpoint stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from shakedrop_det.data.classes import class_difference, class_names, num_classes

CLASSES = "classes"
"""Entry of a checkpoint for the names of its classes and their ids in the dataset."""


def classes_of(cfg: CfgNode) -> dict[str, Any] | None:
    """Return the names and ids of the classes of the training set, as far as they are known.

    Args:
        cfg: Config whose first ``DATASETS.TRAIN`` is used.

    Returns:
        ``names`` in the model's order and ``ids`` of COCO's categories, which may be None; None if
        no names are known.
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
    """Return a checkpoint's entry for its classes if it has the format of :func:`classes_of`.

    Args:
        content: Value of :data:`CLASSES`; None if the file does not have it.
        source: Path of the file, for the message.

    Raises:
        ValueError: If it has another format.
    """
    if content is None:
        return None
    is_record = isinstance(content, dict) and content.keys() == {"names", "ids"}
    names, ids = (content["names"], content["ids"]) if is_record else (None, None)
    are_ids = ids is None or (_are(ids, int) and len(ids) == len(names or ()))
    if not _are(names, str) or not are_ids:
        raise ValueError(
            f"{CLASSES!r} in {source!r} must contain lists of names and of as many ids, got "
            f"{str(content)[:100]}: remove this entry from the file"
        )
    return content


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def check_number_of_classes(content: Any, cfg: CfgNode, *, source: str) -> None:
    """Check that a model has as many classes as the weights that it will use.

    Args:
        content: Value of :data:`CLASSES`; None if it is unknown.
        cfg: Config of the model.
        source: Path of the weights, for the message.

    Raises:
        ValueError: If it does not. The message names the key and the classes.
    """
    classes = checked_classes(content, source=source)
    key, number = num_classes(cfg)
    if classes is not None and number is not None and number != len(classes["names"]):
        names = classes["names"]
        more = ", ..." if len(names) > 10 else ""
        raise ValueError(
            f"{key} is {number}, but the weights in {source!r} have {len(names)} classes "
            f"({', '.join(names[:10])}{more}): set {key} to {len(names)}, or use the config.yaml "
            "of their run"
        )


def difference_to_training(
    content: Any, cfg: CfgNode, *, source: str, if_heads_fit: bool = False
) -> str:
    """Describe how the classes of weights differ from those of the training set; "" if they do not,
    or if either is unknown.

    Args:
        content: Value of :data:`CLASSES`; None if it is unknown.
        cfg: Config with ``DATASETS.TRAIN``.
        source: Path of the weights, for the message.
        if_heads_fit: Whether to return "" also if the number of classes differs, so that heads do
            not fit and are not loaded.

    Raises:
        ValueError: If ``content`` has another format than :data:`CLASSES`.
    """
    of_file, of_data = checked_classes(content, source=source), classes_of(cfg)
    if of_file is None or of_data is None:
        return ""
    if if_heads_fit and len(of_file["names"]) != len(of_data["names"]):
        return ""
    difference = class_difference(of_file["names"], of_data["names"])
    return difference and (
        f"the weights in {source!r} and DATASETS.TRAIN do not have the same classes: {difference}"
    )


def check_classes_of_weights(
    classes: dict[str, Any] | None, datasets: Sequence[str], *, source: str
) -> None:
    """Check that the classes of weights equal those of datasets, in the same order.

    Args:
        classes: Classes of the weights; None if they are unknown.
        datasets: Names of registered datasets with known classes.
        source: Path of the weights, for the message.

    Raises:
        ValueError: If they do not. The message names both lists.
    """
    for name in datasets if classes else ():
        names = class_names(name)
        difference = names and classes and class_difference(classes["names"], names)
        if difference:
            raise ValueError(
                f"the weights in {source!r} and dataset {name!r} do not have the same classes: "
                f"{difference}. Evaluate on a dataset with the same classes in the same order, or "
                "train on this one"
            )
