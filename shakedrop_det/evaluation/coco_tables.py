"""COCO metrics by category."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
from tabulate import tabulate

from shakedrop_det.utils.written import write_text

AREAS = {"small": "s", "medium": "m", "large": "l"}
"""COCO's names of object sizes, and the suffixes they add to AP and AR."""


@dataclass(frozen=True)
class CategoryMetrics:
    """The COCO metrics of one category, or of all.

    Attributes:
        category: name of the category.
        num_objects: number of annotated objects, without crowds.
        metrics: AP, AP50, AP75, AR and, by size, APs, APm, APl, ARs, ARm, ARl, in percent; NaN if
            there are no objects. AR is for the largest number of detections per image.
    """

    category: str
    num_objects: int
    metrics: dict[str, float]


def metrics_by_category(coco_eval: Any, class_names: Sequence[str]) -> list[CategoryMetrics]:
    """Compute average precision and recall of each category, and of all in the last row.

    Args:
        coco_eval: a ``COCOeval`` of any backend, after ``accumulate``.
        class_names: names of the categories, in the order of their ids.

    Returns:
        list: one entry per category, and a last one named "all" with COCO's own metrics, the means
        over the categories that have objects.
    """
    found = []
    for index, name in enumerate(class_names):
        metrics = _metrics(coco_eval, slice(index, index + 1))
        found.append(CategoryMetrics(name, num_objects(coco_eval, index), metrics))
    total = sum(row.num_objects for row in found)
    return [*found, CategoryMetrics("all", total, _metrics(coco_eval, slice(None)))]


def _metrics(coco_eval: Any, categories: slice) -> dict[str, float]:
    params = coco_eval.params
    precision = coco_eval.eval["precision"][
        :, :, categories, :, -1
    ]  # (IoU, recall, category, area)
    recall = coco_eval.eval["recall"][:, categories, :, -1]  # (IoU, category, area)
    metrics = {"AP": _percent(precision[..., 0])}
    for iou in (50, 75):
        at_iou = np.isclose(params.iouThrs, iou / 100)
        metrics[f"AP{iou}"] = _percent(precision[at_iou][..., 0])
    sizes = [(AREAS[label], area) for area, label in enumerate(params.areaRngLbl) if area > 0]
    metrics.update({f"AP{size}": _percent(precision[..., area]) for size, area in sizes})
    metrics["AR"] = _percent(recall[..., 0])
    metrics.update({f"AR{size}": _percent(recall[..., area]) for size, area in sizes})
    return metrics


def _percent(values: np.ndarray) -> float:
    there = values[values > -1]  # -1 stands for no objects
    return float(100 * np.mean(there)) if there.size else float("nan")


def num_objects(coco_eval: Any, category: int | None = None, *, area: int = 0) -> int:
    """Count the annotated objects, without crowds.

    Args:
        coco_eval: see :func:`metrics_by_category`.
        category: index of the category; None for all.
        area: index of the range of areas in ``coco_eval.params.areaRng``.
    """
    params = coco_eval.params
    numbers = params.catIds if category is None else [params.catIds[category]]
    coco = coco_eval.cocoGt
    low, high = params.areaRng[area]
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=params.imgIds, catIds=numbers, iscrowd=False))
    if params.iouType == "keypoints":
        annotations = [a for a in annotations if a["num_keypoints"]]
    return sum(low <= annotation["area"] <= high for annotation in annotations)


def category_table(rows: Sequence[CategoryMetrics]) -> str:
    """Format the metrics of :func:`metrics_by_category` as a markdown table."""
    cells = [[r.category, r.num_objects, *(f"{v:.1f}" for v in r.metrics.values())] for r in rows]
    headers = ["category", "objects", *rows[0].metrics]
    align = ("left", *("right" for _ in headers[1:]))
    return tabulate(cells, headers, tablefmt="pipe", colalign=align, disable_numparse=True)


def write_category_table(rows: Sequence[CategoryMetrics], path: str | os.PathLike[str]) -> None:
    """Write the table as CSV in full precision, with "nan" if there are no objects.

    Args:
        rows: see :func:`metrics_by_category`.
        path: path of the file. Its folder is created if missing.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["category", "objects", *rows[0].metrics])
    for row in rows:
        writer.writerow([row.category, row.num_objects, *row.metrics.values()])
    write_text(path, text.getvalue())
