"""A dataset without a COCO file is evaluated as it is now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from shakedrop_det.evaluation import DetectionEvaluator

NAME = "test_converted"


@pytest.fixture
def records() -> Iterator[list[dict[str, Any]]]:
    annotation = {
        "bbox": [1.0, 2.0, 9.0, 8.0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
        "keypoints": [3.5, 4.5, 2],
    }
    image = {"file_name": "a.png", "image_id": 1, "height": 20, "width": 30}
    records: list[dict[str, Any]] = [{**image, "annotations": [annotation]}]
    DatasetCatalog.register(NAME, lambda: records)
    yield records
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def truth(output: Path) -> list[dict[str, Any]]:
    evaluator = DetectionEvaluator(NAME, ("bbox",), output_dir=str(output))
    return evaluator._coco_api.dataset["annotations"]


def test_a_correction_counts(records: list[dict[str, Any]], tmp_path: Path) -> None:
    assert truth(tmp_path)[0]["bbox"] == [1.0, 2.0, 9.0, 8.0]
    records[0]["annotations"][0]["bbox"] = [1.0, 2.0, 3.0, 4.0]
    assert truth(tmp_path)[0]["bbox"] == [1.0, 2.0, 3.0, 4.0]


def test_classes_without_names_have_numbers(records: list[dict[str, Any]], tmp_path: Path) -> None:
    evaluator = DetectionEvaluator(NAME, ("bbox",), output_dir=str(tmp_path))
    assert [c["name"] for c in evaluator._coco_api.dataset["categories"]] == ["0", "1"]


def test_keypoints_stay_where_they_are(records: list[dict[str, Any]], tmp_path: Path) -> None:
    """detectron2's conversion takes half a pixel off the records that it is given."""
    assert truth(tmp_path / "a")[0]["keypoints"] == truth(tmp_path / "b")[0]["keypoints"]
    assert records[0]["annotations"][0]["keypoints"] == [3.5, 4.5, 2]


def test_the_same_records_are_converted_once(records: list[dict[str, Any]], tmp_path: Path) -> None:
    truth(tmp_path)
    (file,) = tmp_path.glob("*.json")
    written = file.stat().st_mtime_ns
    truth(tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("*.json")] == [written]
