"""Boxes of two corners are recognized."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from shakedrop_det.data import check_dataset
from shakedrop_det.data.corner_boxes import warn_of_corner_boxes
from tests.own_data import HEIGHT, WIDTH, write_own_data

NAME = "test_corner_boxes"
pytestmark = pytest.mark.usefixtures("clean_logging")
SIDE = 100


def random_content(seed: int, number: int = 200) -> dict[str, Any]:
    """Boxes all over an image."""
    draw = random.Random(seed)
    annotations = []
    for _ in range(number):
        x, y = draw.uniform(0, SIDE - 20), draw.uniform(0, SIDE - 20)
        box = [x, y, draw.uniform(5, SIDE - x), draw.uniform(5, SIDE - y)]
        annotations.append({"image_id": 1, "bbox": box})
    return {"images": [{"id": 1, "width": SIDE, "height": SIDE}], "annotations": annotations}


def as_corners(content: dict[str, Any]) -> dict[str, Any]:
    content = copy.deepcopy(content)
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]
    return content


@pytest.mark.parametrize("seed", range(5))
def test_corners_are_told_from_sizes(caplog: pytest.LogCaptureFixture, seed: int) -> None:
    logging.getLogger("shakedrop_det").propagate = True
    content = random_content(seed)
    warn_of_corner_boxes(content, name="birds")
    warn_of_corner_boxes({**content, "annotations": []}, name="birds")
    assert caplog.text == ""
    warn_of_corner_boxes(as_corners(content), name="birds")
    assert "of the 200 boxes looked at in dataset 'birds' extend beyond their" in caplog.text
    assert "Are they x1, y1, x2, y2?" in caplog.text


def test_of_many_boxes_a_sample_is_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("shakedrop_det").propagate = True
    content = as_corners(random_content(1, number=200))
    content["annotations"] *= 201
    warn_of_corner_boxes(content, name="birds")
    assert "of the 8040 boxes looked at" in caplog.text


def test_crowds_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    content = as_corners(random_content(1))
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    content["annotations"].append({"image_id": 1, "iscrowd": 1})
    warn_of_corner_boxes(content, name="birds")
    assert caplog.text == ""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[str]:
    def spoil(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["bbox"] = [30, 30, WIDTH, HEIGHT]

    paths = write_own_data(tmp_path / "own", spoil)
    register_coco_instances(NAME, {}, *paths.split(":"))
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_a_dataset_is_checked_for_them(own: str, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("shakedrop_det").propagate = True
    check_dataset(own, num_classes=2)
    assert "extend beyond their images" in caplog.text
