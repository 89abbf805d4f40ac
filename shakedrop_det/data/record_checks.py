"""Checks of records in detectron2's format, from datasets registered with a function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .annotation_checks import AnnotationCheck, Needs
from .problems import Problems

_FOR_METRICS = ("image_id", "height", "width")


def find_record_problems(
    records: Sequence[dict[str, Any]], *, num_classes: int | None, needs: Needs
) -> Problems:
    """Check the records of a detection dataset.

    Args:
        records: Records in detectron2's format.
        num_classes: Number of classes of the model; None to not check the categories.
        needs: Requirements of the run.
    """
    problems = Problems()
    required = ("file_name",) if needs.training else ("file_name", *_FOR_METRICS)
    for index, record in enumerate(records):
        place = f"image {record.get('image_id', f'at {index}')!r}"
        missing = [key for key in required if key not in record]
        if missing:
            problems.add(place, f"has no {' and no '.join(map(repr, missing))}")
        height, width = record.get("height"), record.get("width")
        size = None if height is None or width is None else (height, width)
        annotations = record.get("annotations") or ()
        found = {annotation.get("category_id") for annotation in annotations}
        categories = found if num_classes is None else range(num_classes)
        check = AnnotationCheck(needs, sizes={0: size}, categories=list(categories))
        for number, annotation in enumerate(annotations):
            for what in _annotation_problems(check, annotation, number):
                problems.add(f"{place}, annotation number {number}", what)
    return problems


def _annotation_problems(
    check: AnnotationCheck, annotation: dict[str, Any], number: int
) -> Iterator[str]:
    if "bbox_mode" not in annotation:
        yield "has no 'bbox_mode', a detectron2.structures.BoxMode"
        return
    box = annotation.get("bbox")
    if annotation["bbox_mode"] == BoxMode.XYWHA_ABS:
        return  # Rotated boxes, which COCO files cannot have.
    box = box.tolist() if isinstance(box, np.ndarray) else box
    if isinstance(box, (list, tuple)) and len(box) == 4:
        box = list(BoxMode.convert(list(box), annotation["bbox_mode"], BoxMode.XYWH_ABS))
    # As in a COCO file, with the fields that detectron2 adds when it creates one.
    visible = {"num_keypoints": 0} if "keypoints" in annotation else {}
    added = {"area": 0, "iscrowd": 0, **visible}
    # Copies of COCO annotations have ids of their own, which training does not read.
    ids = {"id": number, "image_id": 0}
    yield from check.problems({**added, **_plain(annotation), **ids, "bbox": box})


def _plain(annotation: dict[str, Any]) -> dict[str, Any]:
    """Convert arrays and numbers of NumPy to Python's, and bytes to text."""
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in annotation.items()}
    for key in ("segmentation", "keypoints"):
        value = plain.get(key)
        if isinstance(value, np.ndarray):
            plain[key] = value.ravel().tolist() if key == "keypoints" else value.tolist()
        elif isinstance(value, (list, tuple)):
            plain[key] = [x.tolist() if isinstance(x, np.ndarray) else x for x in value]
        elif isinstance(value, dict) and isinstance(value.get("counts"), bytes):
            plain[key] = {**value, "counts": value["counts"].decode(), "size": list(value["size"])}
    return plain
