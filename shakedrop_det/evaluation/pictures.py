"""Pictures of predictions next to the ground truth."""

from __future__ import annotations

import os
from typing import Any, Callable, Sequence

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.structures import Boxes, BoxMode, Instances, pairwise_iou
from detectron2.utils.visualizer import GenericMask, Visualizer
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from shakedrop_det.utils.reading import naming_file
from shakedrop_det.utils.written import save_figure

from .instance_drawing import draw_instances

COLUMNS = ("image", "predicted", "truth")
_SEVERAL = 4
"""Minimum number of objects in an image that is shown as one of the best."""
_DPI = 100
_TITLE = 0.3  # inches above each column


def draw_predictions(
    dataset_name: str,
    predictor: Callable[[np.ndarray], dict[str, Any]],
    output: str | os.PathLike[str],
    *,
    num_images: int = 4,
    best: bool = False,
    columns: Sequence[str] = COLUMNS,
    scale: float = 3.0,
    score_threshold: float = 0.5,
) -> None:
    """Draw images, predictions and ground truth side by side, one row per image.

    Instances are drawn as masks if available, otherwise as boxes.

    Args:
        dataset_name: name of a registered detection dataset; its first annotated images are shown.
        predictor: function of an image, (H, W, 3) uint8 BGR, that returns a dict with ``instances``
            in the image's coordinates, such as :class:`detectron2.engine.DefaultPredictor`.
        output: path of the image to write. Its folder is created if missing.
        num_images: maximum number of rows.
        best: whether to show the images whose predictions agree best with the ground truth,
            preferring images of several objects.
        columns: columns to show, of "image", "predicted" and "truth".
        scale: enlargement of the images.
        score_threshold: minimum score of the predictions to draw.

    Raises:
        OSError: if an image cannot be read, naming it.
        ValueError: if no image of the dataset has annotations.
    """
    records = [r for r in DatasetCatalog.get(dataset_name) if r.get("annotations")]
    if not records:
        raise ValueError(f"dataset {dataset_name!r} has no image with annotations to draw")
    classes = MetadataCatalog.get(dataset_name).thing_classes
    found: list[tuple[float, np.ndarray, dict[str, Any], dict[str, Any]]] = []
    for record in records if best else records[:num_images]:
        with naming_file(record["file_name"]):
            image = read_image(record["file_name"], format="RGB")
        instances = predictor(image[:, :, ::-1])["instances"].to("cpu")
        predicted = _predicted(instances[instances.scores >= score_threshold], classes)
        true = _true(record, classes)
        found.append((_agreement(predicted, true), image, predicted, true))
    if best:
        found = [row for row in found if len(row[3]["classes"]) >= _SEVERAL] or found
        found.sort(key=lambda row: -row[0])
    rows = []
    for _, image, predicted, true in found[:num_images]:
        sides = {"image": None, "predicted": predicted, "truth": true}
        rows.append([_draw(image, scale=scale, instances=sides[column]) for column in columns])
    _save_grid(rows, titles=columns, output=output)


def _predicted(instances: Instances, classes: Sequence[str]) -> dict[str, Any]:
    numbers = instances.pred_classes.tolist()
    scores = instances.scores.tolist()
    return {
        "classes": numbers,
        "masks": instances.pred_masks.numpy() if instances.has("pred_masks") else None,
        "boxes": instances.pred_boxes.tensor.numpy(),
        "labels": [f"{classes[n]} {s:.0%}" for n, s in zip(numbers, scores, strict=True)],
    }


def _true(record: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    annotations = record["annotations"]
    numbers = [annotation["category_id"] for annotation in annotations]
    masks = None
    if all("segmentation" in annotation for annotation in annotations):
        size = record["height"], record["width"]
        masks = [GenericMask(a["segmentation"], *size).mask for a in annotations]
    return {
        "classes": numbers,
        "masks": masks,
        "boxes": [
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations
        ],
        "labels": [classes[number] for number in numbers],
    }


def _draw(image: np.ndarray, *, scale: float, instances: dict[str, Any] | None) -> np.ndarray:
    """Draw one picture, (scale * H, scale * W, 3) uint8; without instances, the image itself."""
    if instances is None:
        return Visualizer(image, scale=scale).get_output().get_image()
    # Draw on pale grey, so that only the instances have colours.
    grey = 90 + 0.5 * image.mean(axis=2, keepdims=True)
    return draw_instances(np.repeat(grey, 3, axis=2), scale=scale, **instances)


def _agreement(predicted: dict[str, Any], true: dict[str, Any]) -> float:
    """Return the mean IoU, from 0 to 1, of instances with their best match of the same class;
    unmatched instances count as 0."""
    kind = "masks" if predicted["masks"] is not None and true["masks"] is not None else "boxes"
    shapes = [np.asarray(side[kind], dtype=float) for side in (predicted, true)]
    if not all(len(shape) for shape in shapes):
        return 0.0
    iou = _mask_iou(*shapes) if kind == "masks" else pairwise_iou(*map(_as_boxes, shapes)).numpy()
    same_class = np.equal.outer(predicted["classes"], true["classes"])
    rows, columns = linear_sum_assignment(iou * same_class, maximize=True)
    return float((iou * same_class)[rows, columns].sum() / max(iou.shape))


def _as_boxes(corners: np.ndarray) -> Boxes:
    return Boxes(torch.from_numpy(corners))


def _mask_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU of masks (N, H, W) with masks (M, H, W), as (N, M)."""
    one, other = (masks.reshape(len(masks), -1) for masks in (first, second))
    both = one @ other.T
    return both / np.maximum(one.sum(axis=1)[:, None] + other.sum(axis=1) - both, 1)


def _save_grid(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    titles: Sequence[str],
    output: str | os.PathLike[str],
) -> None:
    """Write pictures below one another, each at its own size without resampling."""
    gap = 8
    widths = [max(row[column].shape[1] for row in rows) for column in range(len(titles))]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    title = round(_TITLE * _DPI)
    height = title + sum(heights) + gap * len(rows)
    width = sum(widths) + gap * (len(titles) + 1)
    grid = np.full((height, width, 3), 255, dtype=np.uint8)
    tops = title + np.cumsum([0, *(h + gap for h in heights)])
    lefts = gap + np.cumsum([0, *(w + gap for w in widths)])
    for row, top in zip(rows, tops, strict=False):
        for picture, left in zip(row, lefts, strict=False):
            grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.figimage(grid)
    for text, left, column_width in zip(titles, lefts, widths, strict=False):
        x, y = (left + column_width / 2) / width, 1 - title / 2 / height
        figure.text(x, y, text, ha="center", va="center", fontsize=11)
    save_figure(figure, output)
