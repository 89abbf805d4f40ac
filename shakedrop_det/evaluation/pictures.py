"""Pictures of predictions next to the ground truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode, Instances
from detectron2.utils.visualizer import GenericMask, Visualizer
from matplotlib import colormaps
from matplotlib.figure import Figure

from shakedrop_det.utils.reading import naming_file

_COLOURS = 10
_DPI = 100
_TITLE = 0.3  # inches above each column


def draw_predictions(
    dataset_name: str,
    predictor: Callable[[np.ndarray], dict[str, Any]],
    output: str | os.PathLike[str],
    *,
    num_images: int = 4,
    scale: float = 3.0,
    score_threshold: float = 0.5,
) -> None:
    """Draw images, predicted and annotated instances side by side, one row per image.

    Instances have masks, or boxes where there are no masks.

    Args:
        dataset_name: of a detection data set in detectron2's catalog, of which the first images
            that have annotations are shown.
        predictor: takes an image, (H, W, 3) uint8 BGR, and returns a dict with ``instances`` in
            the image's coordinates, as :class:`detectron2.engine.DefaultPredictor` does.
        output: the image to write. Its folder is made if need be.
        num_images: at most so many rows.
        scale: enlargement of the images.
        score_threshold: instances that are predicted with a lower score are left out.

    Raises:
        OSError: if an image cannot be read, naming it.
        ValueError: if no image of the data set has annotations.
    """
    records = [r for r in DatasetCatalog.get(dataset_name) if r.get("annotations")][:num_images]
    if not records:
        raise ValueError(f"data set {dataset_name!r} has no image with annotations to draw")
    classes = MetadataCatalog.get(dataset_name).thing_classes
    rows = []
    for record in records:
        with naming_file(record["file_name"]):
            image = read_image(record["file_name"], format="RGB")
        found = predictor(image[:, :, ::-1])["instances"].to("cpu")
        predicted = _predicted(found[found.scores >= score_threshold], classes)
        true = _true(record, classes)
        drawn = [_draw(image, scale=scale, **instances) for instances in (predicted, true)]
        rows.append([Visualizer(image, scale=scale).get_output().get_image(), *drawn])
    _save_grid(rows, titles=("image", "predicted", "truth"), output=output)


def _predicted(instances: Instances, classes: Sequence[str]) -> dict[str, Any]:
    numbers = instances.pred_classes.tolist()
    scores = instances.scores.tolist()
    return {
        "numbers": numbers,
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
        "numbers": numbers,
        "masks": masks,
        "boxes": [
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations
        ],
        "labels": [classes[number] for number in numbers],
    }


def _draw(
    image: np.ndarray,
    *,
    scale: float,
    numbers: Sequence[int],
    masks: Sequence[np.ndarray] | None,
    boxes: Sequence[Any],
    labels: Sequence[str],
) -> np.ndarray:
    """One picture, (scale * H, scale * W, 3) uint8, with a class in the same colour everywhere."""
    # On pale grey, so that the only colours are those of the instances.
    grey = 90 + 0.5 * image.mean(axis=2, keepdims=True)
    visualizer = Visualizer(np.repeat(grey, 3, axis=2), scale=scale)
    colours = [colormaps["hsv"](number % _COLOURS / _COLOURS)[:3] for number in numbers]
    for index, colour in enumerate(colours):
        if masks is None:
            visualizer.draw_box(boxes[index], edge_color=colour)
        else:
            visualizer.draw_binary_mask(masks[index], color=colour, alpha=0.6, area_threshold=0)
    # After all masks, which would hide them.
    for label, (left, top, _, _) in zip(labels, boxes, strict=True):
        visualizer.draw_text(label, (left, top), color="w", horizontal_alignment="left")
    return visualizer.get_output().get_image()


def _save_grid(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    titles: Sequence[str],
    output: str | os.PathLike[str],
) -> None:
    """Write pictures below one another, each at its own size, one pixel for one."""
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
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output)
