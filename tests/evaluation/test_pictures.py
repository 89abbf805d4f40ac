"""Pictures of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as mask_util

from shakedrop_det.evaluation import draw_predictions

GAP, SIDE = 8, 128 * 3


@pytest.fixture
def records(datasets_root: str) -> list[dict[str, Any]]:
    return DatasetCatalog.get("tiny_scenes_val")


def predictor(records: list[dict[str, Any]], *, score: float, with_masks: bool = True) -> Any:
    """Predicts the truth, with one score."""
    by_pixels = {np.asarray(Image.open(r["file_name"])).tobytes(): r for r in records}

    def predict(image: np.ndarray) -> dict[str, Instances]:
        annotations = by_pixels[np.ascontiguousarray(image[:, :, ::-1]).tobytes()]["annotations"]
        instances = Instances(image.shape[:2])
        x, y, w, h = np.array([a["bbox"] for a in annotations]).T
        instances.pred_boxes = Boxes(torch.from_numpy(np.stack([x, y, x + w, y + h], axis=1)))
        instances.pred_classes = torch.tensor([a["category_id"] for a in annotations])
        instances.scores = torch.full((len(annotations),), score)
        if with_masks:
            masks = np.stack([mask_util.decode(a["segmentation"]) for a in annotations])
            instances.pred_masks = torch.from_numpy(masks).bool()
        return {"instances": instances}

    return predict


def tiles(path: Path, num_rows: int) -> np.ndarray:
    """The pictures of a grid, (rows, 3, 384, 384, 3)."""
    grid = np.asarray(Image.open(path).convert("RGB"))
    top = grid.shape[0] - num_rows * (SIDE + GAP)
    return np.stack(
        [
            [
                grid[
                    top + row * (SIDE + GAP) : top + row * (SIDE + GAP) + SIDE,
                    GAP + column * (SIDE + GAP) : GAP + column * (SIDE + GAP) + SIDE,
                ]
                for column in range(3)
            ]
            for row in range(num_rows)
        ]
    )


def colourfulness(picture: np.ndarray) -> np.ndarray:
    return np.ptp(picture.astype(int), axis=2)


def test_grid_shows_images_predictions_and_truth(tmp_path: Path, records: list[dict]) -> None:
    draw_predictions(
        "tiny_scenes_val", predictor(records, score=0.9), tmp_path / "new" / "a.png", num_images=2
    )
    for record, row in zip(records, tiles(tmp_path / "new" / "a.png", 2), strict=False):
        image, predicted, truth = row
        pixels = np.asarray(Image.open(record["file_name"]))
        # Pixel (i, j) is the middle of 3x3 pixels.
        assert np.abs(image[1::3, 1::3].astype(int) - pixels).max() <= 3
        mask = sum(mask_util.decode(a["segmentation"]) for a in record["annotations"])
        for picture in (predicted, truth):
            colourful = colourfulness(picture)[1::3, 1::3] > 40
            assert colourful[mask == 1].mean() > 0.7  # The labels hide the rest.
            assert colourful[mask == 0].mean() < 0.1


def test_the_best_are_those_that_agree_with_the_truth(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    right = predictor(records, score=0.9)
    several = [record for record in records if len(record["annotations"]) >= 4]
    chosen = several[-1]  # The one of several objects that is predicted without a mistake.

    def predict(image: np.ndarray) -> dict[str, Instances]:
        found = right(image)["instances"]
        pixels = np.asarray(Image.open(chosen["file_name"]))
        if not np.array_equal(image[:, :, ::-1], pixels):
            found.pred_classes = (found.pred_classes + 1) % 10
        return {"instances": found}

    path = tmp_path / "a.png"
    draw_predictions(
        "tiny_scenes_val", predict, path, num_images=1, best=True, columns=("truth", "image")
    )
    grid = np.asarray(Image.open(path).convert("RGB"))
    assert grid.shape[1] == 3 * GAP + 2 * SIDE
    image = grid[-SIDE - GAP : -GAP, -SIDE - GAP : -GAP]
    pixels = np.asarray(Image.open(chosen["file_name"]))
    assert np.abs(image[1::3, 1::3].astype(int) - pixels).max() <= 3


def test_predictions_below_the_threshold_are_left_out(tmp_path: Path, records: list[dict]) -> None:
    draw_predictions(
        "tiny_scenes_val",
        predictor(records, score=0.4),
        tmp_path / "a.png",
        num_images=1,
        score_threshold=0.5,
    )
    _, predicted, truth = tiles(tmp_path / "a.png", 1)[0]
    assert colourfulness(predicted).max() < 3
    assert colourfulness(truth).max() > 100


def test_boxes_where_there_are_no_masks(tmp_path: Path, records: list[dict]) -> None:
    predict = predictor(records, score=0.9, with_masks=False)
    draw_predictions("tiny_scenes_val", predict, tmp_path / "a.png", num_images=1)
    _, predicted, truth = tiles(tmp_path / "a.png", 1)[0]
    x, y, w, h = (round(3 * value) for value in records[0]["annotations"][0]["bbox"])
    bottom = predicted[y + h - 3 : y + h + 3, x + w // 4 : x + 3 * w // 4]
    assert (colourfulness(bottom).max(axis=0) > 40).mean() > 0.8
    assert (colourfulness(predicted) > 40).mean() < (colourfulness(truth) > 40).mean()


def test_unreadable_image_is_named(
    tmp_path: Path, records: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(records[0]["file_name"]).read_bytes()[:500])
    found = [{**records[0], "file_name": str(broken)}]
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: found)
    with pytest.raises(OSError, match=f"cannot read image {broken}"):
        draw_predictions("tiny_scenes_val", None, tmp_path / "a.png")


def test_nothing_to_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: [{"file_name": "a", "annotations": []}])
    with pytest.raises(ValueError, match="'empty' has no image with annotations"):
        draw_predictions("empty", None, tmp_path / "a.png")
