"""Plots of the COCO metrics: precision over recall, and AP by object size."""

from __future__ import annotations

import os
from typing import Any, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shakedrop_det.utils.written import save_figure

from .coco_tables import AREAS, CategoryMetrics, num_objects

_NAMED = 10  # With more curves, colours and names become indistinguishable.
_ROWS = 100
_SIZE_COLOURS = {"s": "C1", "m": "C2", "l": "C3"}


def draw_precision_recall(
    coco_eval: Any, class_names: Sequence[str], output: str | os.PathLike[str]
) -> None:
    """Plot precision over recall: the mean over categories at each IoU, and for each category.

    Precision is interpolated as in COCO: it is the maximum at this or any higher recall.

    Args:
        coco_eval: a ``COCOeval`` of any backend, after ``accumulate``.
        class_names: names of the categories, in the order of their ids.
        output: path of the image to write. Its folder is created if missing.
    """
    precision = coco_eval.eval["precision"][..., 0, -1]  # (IoU, recall, category)
    there = precision[0, 0] > -1
    recalls, ious = coco_eval.params.recThrs, coco_eval.params.iouThrs
    figure = Figure(figsize=(11, 5), dpi=120, layout="constrained")
    by_iou, by_category = figure.subplots(1, 2, sharey=True)
    for index, iou in enumerate(ious):
        mean = precision[index][:, there].mean(axis=1) if there.any() else np.zeros(len(recalls))
        colour = colormaps["viridis"](0.9 * index / max(len(ious) - 1, 1))
        by_iou.plot(recalls, mean, color=colour, label=f"{iou:.2f}: {100 * mean.mean():.1f}")
    by_iou.set(title="mean over the categories", ylabel="precision")
    by_iou.legend(title="IoU: AP", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    names = np.array(class_names)[there]
    _draw_categories(by_category, recalls, precision[0][:, there], names)
    by_category.set(title=f"each category at IoU {ious[0]:.2f}")
    for axes in (by_iou, by_category):
        axes.set(xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, output)


def _draw_categories(
    axes: Axes, recalls: np.ndarray, precision: np.ndarray, names: np.ndarray
) -> None:
    """Draw one curve for each column of ``precision``, (recall, category), best first."""
    areas = 100 * precision.mean(axis=0)
    order = np.argsort(-areas, kind="stable")
    few = len(order) <= _NAMED
    named = list(order) if few else [*order[:3], *order[-3:]]
    for index in set(order) - set(named):
        axes.plot(recalls, precision[:, index], color="0.6", linewidth=0.7, alpha=0.5)
    for rank, index in enumerate(named):
        label = f"{names[index]}: {areas[index]:.1f}"
        axes.plot(recalls, precision[:, index], color=f"C{rank}", label=label)
    if len(order) > 1:
        mean = precision.mean(axis=1)
        axes.plot(recalls, mean, color="k", linewidth=2.5, label=f"mean: {areas.mean():.1f}")
    if len(order):
        title = "AP" if few else "AP, best and worst"
        axes.legend(title=title, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def draw_sizes(
    coco_eval: Any, rows: Sequence[CategoryMetrics], output: str | os.PathLike[str]
) -> None:
    """Plot AP and AR by object size, and the AP of each category with its sizes.

    Args:
        coco_eval: a ``COCOeval`` of any backend, after ``accumulate``.
        rows: see :func:`~shakedrop_det.evaluation.coco_tables.metrics_by_category`.
        output: path of the image to write. Its folder is created if missing.
    """
    *categories, total = rows
    # Of very many categories, only those with the most objects are shown.
    categories = sorted(categories, key=lambda row: -row.num_objects)[:_ROWS]
    categories = [row for row in categories if row.num_objects]
    categories.sort(key=lambda row: -row.metrics["AP"])
    height = 0.22 * max(len(categories), 3) + 0.8
    figure = Figure(figsize=(9, 3.2 + height), dpi=120, layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[3.2, height])
    _draw_bars(top, coco_eval, total)
    _draw_dots(bottom, categories)
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, output)


def _draw_bars(axes: Axes, coco_eval: Any, total: CategoryMetrics) -> None:
    labels = [label for label in coco_eval.params.areaRngLbl if label in AREAS]
    groups = ["all", *labels]
    for offset, metric in ((-0.2, "AP"), (0.2, "AR")):
        values = [total.metrics[metric + AREAS.get(label, "")] for label in groups]
        colour = "C0" if metric == "AP" else "0.7"
        bars = axes.bar(np.arange(len(groups)) + offset, values, 0.38, label=metric, color=colour)
        axes.bar_label(bars, [f"{v:.1f}" if v == v else "none" for v in values], fontsize=8)
    ranges = dict(zip(coco_eval.params.areaRngLbl, coco_eval.params.areaRng, strict=True))
    ticks = []
    for label in groups:
        count = num_objects(coco_eval, area=coco_eval.params.areaRngLbl.index(label))
        ticks.append(f"{label}{_sides(*ranges[label])}\n{count} objects")
    axes.set_xticks(range(len(groups)), ticks)
    axes.set(
        ylabel="%", xlim=(-0.5, len(groups) - 0.5), ylim=(0, 105), title="by area of the object"
    )


def _sides(low: float, high: float) -> str:
    """Format a range of areas as sides of squares. COCO's largest area stands for no limit."""
    if high >= 1e5**2:
        return f", from {low**0.5:.0f}² px" if low else ""
    return f", {low**0.5:.0f}² to {high**0.5:.0f}² px" if low else f", to {high**0.5:.0f}² px"


def _draw_dots(axes: Axes, categories: Sequence[CategoryMetrics]) -> None:
    places = range(len(categories))
    axes.barh(places, [row.metrics["AP"] for row in categories], color="C0", alpha=0.35, label="AP")
    for label, size in AREAS.items():
        if categories and f"AP{size}" in categories[0].metrics:
            values = [row.metrics[f"AP{size}"] for row in categories]
            axes.plot(
                values,
                places,
                "o",
                color=_SIZE_COLOURS[size],
                markersize=4,
                clip_on=False,
                label=f"AP{size}, {label}",
            )
    axes.set_yticks(places, [f"{row.category} ({row.num_objects})" for row in categories])
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylim(len(categories) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlabel="AP, %", xlim=(0, 100), title="by category (number of objects)")
