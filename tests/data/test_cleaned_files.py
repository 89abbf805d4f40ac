"""Bad annotations and images are left out where that is asked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from shakedrop_det.data import check_dataset
from shakedrop_det.data.annotation_checks import Needs
from tests.own_data import EVALUATED, NAME, POLYGONS, RLE, Content, without


def test_bad_annotations_are_left_out_if_asked(
    written: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def change(content: Content) -> None:
        content["annotations"][0]["segmentation"] = []
        content["images"][3]["file_name"] = "gone.png"

    written(change)
    skip: dict[str, Any] = {"needs": POLYGONS, "skip_bad": True, "folder": str(tmp_path / "run")}
    logging.getLogger("shakedrop_det").propagate = True
    check_dataset(NAME, num_classes=2, **skip)
    assert "Skipped 1 of 4 images and 3 of 8 annotations" in caplog.text
    assert "image 1, annotation 1 has no mask" in caplog.text
    records = DatasetCatalog.get(NAME)
    assert [len(record["annotations"]) for record in records] == [1, 2, 2]
    # What COCO's metrics are computed with is the same.
    used = json.loads(Path(MetadataCatalog.get(NAME).json_file).read_text())
    assert len(used["annotations"]) == 5
    # A file that was corrected is used again, in the same process.
    path = tmp_path / "own" / "instances.json"
    path.write_text(path.read_text().replace("gone.png", "3.png").replace("[]", "[[1,2,3,4,5,6]]"))
    check_dataset(NAME, num_classes=2, **skip)
    assert sum(len(record["annotations"]) for record in DatasetCatalog.get(NAME)) == 8
    assert MetadataCatalog.get(NAME).json_file == str(path)


def test_damaged_images_are_left_out_of_the_metrics(
    written: Callable[..., None], tmp_path: Path
) -> None:
    """Their objects would count as missed."""
    written()
    file = tmp_path / "own" / "images" / "2.png"
    with Image.open(file) as image:
        image.save(file, format="JPEG")
    file.write_bytes(file.read_bytes()[:-1000])
    folder = str(tmp_path / "run")
    check_dataset(NAME, num_classes=2, needs=Needs(), skip_bad=True, folder=folder)
    assert len(DatasetCatalog.get(NAME)) == 4  # Training replaces it when it is read.
    check_dataset(NAME, num_classes=2, needs=EVALUATED, skip_bad=True, folder=folder)
    used = json.loads(Path(MetadataCatalog.get(NAME).json_file).read_text())
    assert [image["id"] for image in used["images"]] == [1, 2, 4]


@pytest.mark.parametrize("order", [(POLYGONS, EVALUATED), (EVALUATED, POLYGONS)])
def test_what_one_of_two_uses_cannot_have_is_left_out_of_both(
    written: Callable[..., None], tmp_path: Path, order: tuple[Needs, Needs]
) -> None:
    def change(content: Content) -> None:
        content["annotations"][0]["segmentation"] = RLE
        del content["annotations"][1]["area"]

    written(change)
    skip: dict[str, Any] = {"skip_bad": True, "folder": str(tmp_path / "run")}
    for again, needs in enumerate(order):
        check_dataset(NAME, num_classes=2, needs=needs, again=bool(again), **skip)
    records = DatasetCatalog.get(NAME)
    assert [len(record["annotations"]) for record in records] == [0, 2, 2, 2]


def test_a_test_set_of_which_no_annotation_is_left_is_an_error(
    written: Callable[..., None], tmp_path: Path
) -> None:
    """Every AP would be NaN. A test set that never had any is for predictions."""
    written(without("area"))
    skip: dict[str, Any] = {"needs": EVALUATED, "skip_bad": True, "folder": str(tmp_path / "run")}
    with pytest.raises(ValueError, match="has no valid images or annotations"):
        check_dataset(NAME, num_classes=None, **skip)


def test_nothing_left_is_an_error(written: Callable[..., None], tmp_path: Path) -> None:
    written(without("segmentation"))
    with pytest.raises(ValueError, match="has no valid images or annotations"):
        check_dataset(
            NAME, num_classes=None, needs=POLYGONS, skip_bad=True, folder=str(tmp_path / "run")
        )
