"""Records of a function are checked like those of a COCO file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from shakedrop_det.data import check_dataset
from shakedrop_det.data.record_checks import find_record_problems
from tests.own_data import EVALUATED, NAME, PLAIN, POLYGONS


@pytest.mark.parametrize(
    "change, message",
    [
        ({"category_id": 2}, "annotation number 0 has category_id 2, which is not one of 0, 1"),
        ({"bbox": [70, 70, 75, 79]}, "a box outside its image of 80 x 64 pixels"),
        ({"bbox": [9, 9, 5, 5]}, "a box of negative size"),
        ({"bbox_mode": None}, "has no 'bbox_mode'"),
        ({"segmentation": None}, "'segmentation' is missing, but MODEL.MASK_ON"),
    ],
)
def test_records_of_a_function_are_checked_too(change: dict[str, Any], message: str) -> None:
    annotation = {
        "bbox": [1, 2, 9, 9],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 1,
        "segmentation": [[1, 2, 9, 2, 9, 9]],
    }
    record = {"file_name": "a.png", "image_id": "a", "height": 64, "width": 80}
    both = {key: value for key, value in {**annotation, **change}.items() if value is not None}
    DatasetCatalog.register(NAME, lambda: [{**record, "annotations": [both]}])
    try:
        with pytest.raises(ValueError, match=message):
            check_dataset(NAME, num_classes=2, needs=POLYGONS)
        both = annotation
        check_dataset(NAME, num_classes=2, needs=POLYGONS)
        del record["image_id"]
        with pytest.raises(ValueError, match="image 'at 0' has no 'image_id'"):
            check_dataset(NAME, num_classes=2, needs=EVALUATED)
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


def test_records_may_have_the_ids_of_the_coco_file_they_were_copied_from() -> None:
    annotation = {
        **PLAIN,
        "image_id": 7,
        "category_id": 1,
        "bbox_mode": BoxMode.XYWH_ABS,
        "segmentation": [[1, 2, 9, 2, 9, 9]],
    }
    record = {"file_name": "a.png", "image_id": 7, "height": 64, "width": 80}
    copies = [annotation, {**annotation, "id": 1}]
    for needs in (POLYGONS, EVALUATED):
        problems = find_record_problems(
            [{**record, "annotations": copies}], num_classes=2, needs=needs
        )
        assert not problems.number, problems


def test_records_may_have_numbers_of_numpy() -> None:
    """As those have that were read with pandas."""
    annotation = {
        "category_id": np.int64(1),
        "bbox": list(np.float32([1, 2, 9, 9])),
        "bbox_mode": BoxMode.XYXY_ABS,
        "area": np.float32(25),
        "iscrowd": np.int64(0),
        "segmentation": [list(np.float32([1, 2, 9, 2, 9, 9]))],
    }
    record = {"file_name": "a.png", "image_id": 7, "height": np.int64(64), "width": np.int64(80)}
    for needs in (POLYGONS, EVALUATED):
        problems = find_record_problems(
            [{**record, "annotations": [annotation]}], num_classes=2, needs=needs
        )
        assert not problems.number, problems
