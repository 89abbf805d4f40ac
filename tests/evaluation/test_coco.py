"""The evaluator of detections: detectron2's numbers, a table by category, plots."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from matplotlib.axes import Axes
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.cocoeval import COCOeval

from shakedrop_det.evaluation import COCO_BACKENDS, DetectionEvaluator
from shakedrop_det.evaluation.coco_plots import draw_precision_recall, draw_sizes
from shakedrop_det.evaluation.coco_tables import category_table, metrics_by_category

from .coco_data import SIDE, Detections, evaluated, random_coco
from .test_coco_backends import HAS_FASTER

NAMES = [f"category {i}" for i in range(1, 4)]
BACKENDS = [name for name in COCO_BACKENDS if HAS_FASTER or name != "faster_coco_eval"]


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[Detections]:
    """Registers random annotations as ``random_coco``; gives detections on them."""
    coco, detections = random_coco(3)
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(coco))
    register_coco_instances("random_coco", {}, str(path), str(tmp_path))
    DatasetCatalog.get("random_coco")  # sets the names of the classes
    yield detections
    DatasetCatalog.remove("random_coco")
    MetadataCatalog.remove("random_coco")


def run(evaluator: COCOEvaluator, detections: Detections) -> dict[str, dict[str, float]]:
    """Give an evaluator the detections as a model does."""
    evaluator.reset()
    for image_id in range(1, 6):
        found = [d for d in detections if d["image_id"] == image_id]
        boxes = torch.tensor([d["bbox"] for d in found], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = [mask_util.decode(d["segmentation"]) for d in found]
        instances = Instances(
            (SIDE, SIDE),
            pred_boxes=Boxes(boxes),
            scores=torch.tensor([d["score"] for d in found], dtype=torch.float64),
            pred_classes=torch.tensor([d["category_id"] - 1 for d in found], dtype=torch.int64),
            pred_masks=torch.from_numpy(np.array(masks).reshape(-1, SIDE, SIDE)).bool(),
            pred_keypoints=torch.tensor([d["keypoints"] for d in found]).reshape(-1, 17, 3),
        )
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("max_dets", [None, 2])
def test_metrics_are_those_of_detectron2(
    dataset: Detections, tmp_path: Path, backend: str, max_dets: int | None
) -> None:
    limit = {"max_dets_per_image": max_dets}
    # Where detectron2 is compiled, its own means differ by 1e-14 from those of pycocotools.
    fast = {"use_fast_impl": backend == "detectron2"}
    stock = COCOEvaluator("random_coco", output_dir=str(tmp_path / "stock"), **limit, **fast)
    ours = DetectionEvaluator(
        "random_coco", output_dir=str(tmp_path / "ours"), backend=backend, **limit
    )
    expected = run(stock, dataset)
    assert expected.keys() == {"bbox", "segm", "keypoints"}
    found = run(ours, dataset)
    for task, metrics in expected.items():
        assert list(found[task]) == list(metrics)
        np.testing.assert_array_equal(list(found[task].values()), list(metrics.values()))
    name = "coco_instances_results.json"
    assert (tmp_path / "ours" / name).read_text() == (tmp_path / "stock" / name).read_text()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("renumber", [lambda i: i - 1, lambda i: -i, str, lambda i: f"a{i}"])
def test_annotations_count_whatever_their_ids_are(
    dataset: Detections, tmp_path: Path, backend: str, renumber: Callable[[int], Any]
) -> None:
    """pycocotools takes the object of the id 0 for no object, and its successors others too."""

    def metrics() -> list[float]:
        return list(
            run(DetectionEvaluator("random_coco", ("bbox",), backend=backend), dataset)[
                "bbox"
            ].values()
        )

    expected = metrics()
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["id"] = renumber(annotation["id"])
    path.write_text(json.dumps(content))
    np.testing.assert_array_equal(metrics(), expected)


@pytest.mark.skipif(not HAS_FASTER, reason="needs faster_coco_eval")
@pytest.mark.parametrize("number", ["7", -7])
def test_ids_of_images_that_a_backend_cannot_store_are_named(
    dataset: Detections, tmp_path: Path, number: Any
) -> None:
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    content["images"][0]["id"] = number
    path.write_text(json.dumps(content))
    DetectionEvaluator("random_coco", ("bbox",), backend="pycocotools")
    with pytest.raises(ValueError, match=f"needs image ids that are integers .* has {number!r}"):
        DetectionEvaluator("random_coco", ("bbox",), backend="faster_coco_eval")


def test_every_task_is_reported_without_predictions(dataset: Detections, tmp_path: Path) -> None:
    evaluator = DetectionEvaluator("random_coco", ("bbox", "segm"), output_dir=str(tmp_path))
    run(evaluator, dataset)
    tables = [tmp_path / f"categories_{task}.csv" for task in ("bbox", "segm")]
    assert all(table.exists() for table in tables)
    found = run(evaluator, [])
    assert not any(table.exists() for table in tables)  # They would be of the other evaluation.
    assert found.keys() == {"bbox", "segm"}
    assert all(np.isnan(list(metrics.values())).all() for metrics in found.values())


@pytest.mark.parametrize("task", ["bbox", "segm", "keypoints"])
def test_table_is_the_summary_of_each_category(task: str) -> None:
    """What pycocotools says when it is asked for one category alone."""
    coco, detections = random_coco(7, num_images=8)
    rows = metrics_by_category(evaluated(COCOeval, coco, detections, task), NAMES)
    order = {
        "keypoints": ["AP", "AP50", "AP75", "APm", "APl", "AR", None, None, "ARm", "ARl"],
    }.get(
        task,
        ["AP", "AP50", "AP75", "APs", "APm", "APl", None, None, "AR", "ARs", "ARm", "ARl"],
    )
    for row, categories in zip(rows, [[1], [2], [3], [1, 2, 3]], strict=True):
        stats = evaluated(COCOeval, coco, detections, task, catIds=categories).stats
        expected = {
            name: 100 * value if value > -1 else np.nan
            for name, value in zip(order, stats, strict=True)
            if name is not None
        }
        assert row.metrics == pytest.approx(expected, rel=1e-12, nan_ok=True)
        there = [
            a
            for a in coco["annotations"]
            if a["category_id"] in categories and not a["iscrowd"]
            if task != "keypoints" or a["num_keypoints"]
        ]
        assert row.num_objects == len(there)
    assert [row.category for row in rows] == [*NAMES, "all"]
    lines = category_table(rows).splitlines()
    assert len(lines) == 6
    assert f"{rows[-1].metrics['AP']:.1f}" in lines[-1].split()


def test_table_and_plots_are_written(dataset: Detections, tmp_path: Path) -> None:
    tasks = ("bbox", "segm", "keypoints")
    for plots in (False, True):
        folder = tmp_path / str(plots)
        evaluator = DetectionEvaluator("random_coco", tasks, output_dir=str(folder), plots=plots)
        results = run(evaluator, dataset)
        for task in tasks:
            with open(folder / f"categories_{task}.csv", newline="") as file:
                rows = list(csv.DictReader(file))
            assert [row["category"] for row in rows] == [*NAMES, "all"]
            assert float(rows[-1]["AP"]) == results[task]["AP"]
            assert float(rows[0]["AP"]) == results[task]["AP-category 1"]
            for plot in ("precision_recall", "sizes"):
                assert (folder / f"{plot}_{task}.png").exists() == plots
            if plots:
                with Image.open(folder / f"precision_recall_{task}.png") as image:
                    assert image.size == (1320, 600)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The lines that are drawn, in their order."""
    drawn: list[Any] = []
    plot = Axes.plot

    def spy(self: Axes, *args: object, **kwargs: object) -> list[Any]:
        found = plot(self, *args, **kwargs)
        drawn.extend(found)
        return found

    monkeypatch.setattr(Axes, "plot", spy)
    return drawn


def test_areas_under_the_curves_are_the_ap(tmp_path: Path, lines: list[Any]) -> None:
    coco_eval = evaluated(COCOeval, *random_coco(7, num_images=8), "bbox")
    draw_precision_recall(coco_eval, NAMES, tmp_path / "new" / "a.png")
    assert len(lines) == 10 + 3 + 1  # IoUs, categories, their mean
    at_iou = [100 * line.get_ydata().mean() for line in lines[:10]]
    assert np.mean(at_iou) == pytest.approx(100 * coco_eval.stats[0])
    assert at_iou[0] == pytest.approx(100 * coco_eval.stats[1])
    rows = {row.category: row for row in metrics_by_category(coco_eval, NAMES)}
    for line in lines[10:13]:
        name, _, area = line.get_label().partition(": ")
        assert area == f"{rows[name].metrics['AP50']:.1f}"
        assert 100 * line.get_ydata().mean() == pytest.approx(rows[name].metrics["AP50"])


def test_of_many_categories_the_best_and_worst_are_named(tmp_path: Path, lines: list[Any]) -> None:
    coco_eval = evaluated(COCOeval, *random_coco(1, num_images=30, num_categories=20), "bbox")
    names = [str(i) for i in range(20)]
    draw_precision_recall(coco_eval, names, tmp_path / "a.png")
    by_category = lines[10:]
    assert len(by_category) == 20 + 1
    named = [line.get_label() for line in by_category if not line.get_label().startswith("_")]
    rows = metrics_by_category(coco_eval, names)[:-1]
    rows.sort(key=lambda row: -row.metrics["AP50"])
    labels = [f"{row.category}: {row.metrics['AP50']:.1f}" for row in rows]
    assert named[:3] == labels[:3]
    assert named[3:6] == labels[-3:]


def test_dots_are_the_ap_by_size(tmp_path: Path, lines: list[Any]) -> None:
    coco_eval = evaluated(COCOeval, *random_coco(7, num_images=8), "bbox")
    rows = metrics_by_category(coco_eval, NAMES)
    draw_sizes(coco_eval, rows, tmp_path / "new" / "a.png")
    best_first = sorted(rows[:-1], key=lambda row: -row.metrics["AP"])
    for line, size in zip(lines, "sml", strict=True):
        expected = [row.metrics[f"AP{size}"] for row in best_first]
        np.testing.assert_array_equal(line.get_xdata(), expected)
    assert (tmp_path / "new" / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize("draw", [draw_precision_recall, draw_sizes])
def test_data_without_objects(tmp_path: Path, draw: Callable[..., None]) -> None:
    coco, detections = random_coco(7)
    coco_eval = evaluated(COCOeval, {**coco, "annotations": []}, detections, "bbox")
    rows = metrics_by_category(coco_eval, NAMES)
    assert all(np.isnan(row.metrics["AP"]) and row.num_objects == 0 for row in rows)
    draw(coco_eval, NAMES if draw is draw_precision_recall else rows, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()
