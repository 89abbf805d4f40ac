"""Classes of models and datasets."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog

from shakedrop_det.utils.config_keys import read_key

from .coco_json import read_categories

_KEYS = {
    "ImageClassifier": "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "PanopticFPN": "MODEL.ROI_HEADS.NUM_CLASSES",
}


def num_classes(cfg: CfgNode) -> tuple[str, int | None]:
    """Return the key and value of the model's number of classes; ("", None) if it has none."""
    key = _KEYS.get(cfg.MODEL.META_ARCHITECTURE)
    return ("", None) if key is None else (key, read_key(cfg, key))


def is_default(cfg: CfgNode, key: str) -> bool:
    """Return whether a key of detectron2 has detectron2's default value."""
    return read_key(cfg, key) == read_key(get_cfg(), key)


def class_names(name: str) -> list[str] | None:
    """Return the classes of a dataset in the model's order; None if only loading it would tell
    them.

    Args:
        name: Name of a registered dataset that has been prepared if necessary.
    """
    metadata = MetadataCatalog.get(name)
    if metadata.get("json_file") and metadata.get("evaluator_type") == "coco":
        return [str(category.get("name")) for category in read_categories(metadata.json_file)]
    names = metadata.get("classes") or metadata.get("thing_classes")
    return None if names is None else [str(name) for name in names]


def check_same_classes(name: str, other: str) -> None:
    """Check that two datasets have the same classes in the same order, as far as they are known.
    Otherwise, class n of the model would mean different things.

    Raises:
        ValueError: If they do not. The message names both lists.
    """
    names, others = class_names(name), class_names(other)
    difference = class_difference(names, others) if names and others else ""
    if difference:
        raise ValueError(
            f"datasets {name!r} and {other!r} do not have the same classes in the "
            f"same order: {difference}. Give both the same classes"
        )


def class_difference(names: Sequence[str], others: Sequence[str]) -> str:
    """Describe how two lists of classes differ; "" if they do not."""
    if list(names) == list(others):
        return ""
    if sorted(names) == sorted(others):
        pairs = zip(names, others, strict=True)
        number, (one, other) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
        return (
            f"in another order: number {number} is {one!r} in the first and {other!r} in the second"
        )
    return f"{_listed(names)} in the first and {_listed(others)} in the second"


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} ({', '.join(names[:most])}{more})"
