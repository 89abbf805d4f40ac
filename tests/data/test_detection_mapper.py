"""The detection mapper: detectron2's, but for errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper, MapDataset
from PIL import Image

from shakedrop_det.data import DetectionMapper
from shakedrop_det.utils.reading import UnreadableImageError
from tests.own_data import HEIGHT, PLAIN, WIDTH, write_own_data


def test_same_output_as_detectron2s(datasets_root: str) -> None:
    cfg = get_cfg()
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.MIN_SIZE_TRAIN = (96,)
    record = DatasetCatalog.get("tiny_scenes_val")[0]
    ours = DetectionMapper(cfg, True)(record)
    theirs = DatasetMapper(cfg, True)(record)
    assert torch.equal(ours["image"], theirs["image"])
    assert torch.equal(ours["instances"].gt_masks.tensor, theirs["instances"].gt_masks.tensor)


def test_truncated_image_is_named(tmp_path: Path, datasets_root: str) -> None:
    record = DatasetCatalog.get("tiny_scenes_val")[0]
    file = tmp_path / "truncated.png"
    file.write_bytes(Path(record["file_name"]).read_bytes()[:2000])
    with pytest.raises(OSError, match=f"cannot read image {file}"):
        DetectionMapper(get_cfg(), True)({**record, "file_name": str(file)})


@pytest.mark.parametrize("mode, suffix", [("I;16", "png"), ("I", "tif"), ("F", "tif")])
def test_an_image_of_more_than_8_bits_is_named_and_not_cut(
    tmp_path: Path, datasets_root: str, mode: str, suffix: str
) -> None:
    record = {**DatasetCatalog.get("tiny_scenes_val")[0], "file_name": f"{tmp_path}/deep.{suffix}"}
    Image.new(mode, (128, 128)).save(record["file_name"])
    message = f"cannot read image {record['file_name']}: its mode is '{mode}'.* convert it to 8"
    with pytest.raises(UnreadableImageError, match=message):
        DetectionMapper(get_cfg(), True)(record)


def test_images_of_another_size_are_named_or_left_out(
    tiny: Callable[..., CfgNode], caplog: pytest.LogCaptureFixture
) -> None:
    cfg = tiny("mask_rcnn")
    record = {**DatasetCatalog.get("tiny_scenes_train")[0], "height": 7}
    with pytest.raises(ValueError, match=f"{record['file_name']}.*expect"):
        DetectionMapper(cfg, True)(dict(record))
    cfg.DATASETS.SKIP_BAD_ANNOTATIONS = True
    logging.getLogger("shakedrop_det").propagate = True
    assert DetectionMapper(cfg, True)(dict(record)) is None
    assert f"Skipped an image: Mismatched image shape for image {record['file_name']}" in (
        caplog.text
    )
    # A loader takes another in its place.
    mapped = MapDataset([record, DatasetCatalog.get("tiny_scenes_train")[1]], DetectionMapper(cfg))
    assert mapped[0]["image_id"] == mapped[1]["image_id"]


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("INPUT.FORMAT", "rgb", "INPUT.FORMAT 'rgb' is not an image format"),
        ("INPUT.FORMAT", "L", "PIXEL_MEAN has 3 channels, but .* 'L' have 1"),
        ("INPUT.MASK_FORMAT", "rle", "INPUT.MASK_FORMAT must be polygon or bitmask, got 'rle'"),
        ("INPUT.MIN_SIZE_TRAIN", [], r"INPUT.MIN_SIZE_TRAIN must be positive .* got \(\)"),
        ("INPUT.MIN_SIZE_TRAIN", [800, -5], "INPUT.MIN_SIZE_TRAIN must be positive"),
    ],
)
def test_settings_that_the_first_image_would_fail_at_are_named(
    tiny: Callable[..., CfgNode], key: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DetectionMapper(tiny("mask_rcnn", key, value), True)


def test_a_test_size_of_zero_leaves_images_as_they_are(tiny: Callable[..., CfgNode]) -> None:
    cfg = tiny("mask_rcnn", "INPUT.MIN_SIZE_TEST", 0)
    record = DatasetCatalog.get("tiny_scenes_val")[0]
    found = DetectionMapper(cfg, False)(dict(record))["image"]
    assert found.shape[1:] == (record["height"], record["width"])
    cfg.INPUT.MIN_SIZE_TEST = -1
    with pytest.raises(ValueError, match="INPUT.MIN_SIZE_TEST must be positive .* got -1"):
        DetectionMapper(cfg, False)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("annotations", [[], [{**PLAIN, "iscrowd": 1}]])
def test_an_image_without_objects_is_cropped_too(
    tmp_path: Path, mask_format: str, annotations: list[dict[str, Any]]
) -> None:
    """The stock mapper looks for masks that such an image does not have."""
    write_own_data(tmp_path / "own")
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.MASK_FORMAT = mask_format
    image = str(tmp_path / "own" / "images" / "0.png")
    record = {"file_name": image, "height": HEIGHT, "width": WIDTH, "annotations": annotations}
    mapper = DetectionMapper(cfg, True)
    assert len(mapper(record)["instances"]) == 0
    assert mapper.recompute_boxes
