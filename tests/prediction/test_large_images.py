"""Large images are predicted for and drawn smaller, and their results are those of the image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode
from PIL import Image
from pycocotools import mask as mask_util

from shakedrop_det.prediction import large_images, predict, run
from shakedrop_det.prediction.large_images import read_bounded, scale_results


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_no_more_pixels_than_asked_for(tmp_path: Path, suffix: str, orientation: int) -> None:
    rows = np.linspace(0, 255, 200)[:, None, None]
    pixels = np.broadcast_to(rows, (200, 300, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = str(tmp_path / f"a.{suffix}")
    Image.fromarray(pixels).save(path, exif=exif)
    whole, whole_size = read_bounded(path)
    small, size = read_bounded(path, most=15000)
    assert whole_size == size == whole.shape[:2] == ((300, 200) if orientation == 6 else (200, 300))
    assert small.shape == ((150, 100, 3) if orientation == 6 else (100, 150, 3))
    # It is the same picture.
    assert abs(small.astype(int) - whole[::2, ::2]).max() < 8


def test_results_are_in_pixels_of_the_image() -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[2:5, 4:10] = 1
    rle = mask_util.encode(np.asfortranarray(mask))
    result = {"bbox": [4, 2, 6, 3], "keypoints": [5, 3, 0.9], "segmentation": rle}
    scale_results([result], size=(10, 20), to=(20, 60))
    assert result["bbox"] == [12, 4, 18, 6]
    assert result["keypoints"] == [15, 6, 0.9]
    large = mask_util.decode(result["segmentation"])
    assert large.shape == (20, 60)
    assert (large[4:10, 12:30].all(), large.sum()) == (True, 6 * 18)
    json.dumps(result)


def test_predictions_of_a_reduced_image_are_in_its_own_pixels(
    trained: Callable[..., CfgNode],
    scenes: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = tmp_path / "photo.png"
    Image.open(scenes[0]).resize((600, 300)).save(photo)
    monkeypatch.setattr(run, "read_bounded", lambda path: read_bounded(path, most=45000))
    assert large_images.MAX_PIXELS > 45000
    predict(trained("mask_rcnn"), [str(photo)], tmp_path / "out")
    (image,) = json.loads((tmp_path / "out" / "image_info.json").read_text())["images"]
    assert (image["height"], image["width"]) == (300, 600)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {tuple(result["segmentation"]["size"]) for result in results} == {(300, 600)}
    assert max(r["bbox"][0] + r["bbox"][2] for r in results) > 300
    assert Image.open(tmp_path / "out" / "drawn" / "photo.png").size == (300, 150)
