"""Which evaluator, which tasks, which backend."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from shakedrop_det.engine import Trainer, build_evaluator, check_config
from shakedrop_det.engine.evaluators import coco_tasks
from shakedrop_det.evaluation import DetectionEvaluator

Tiny = Callable[..., CfgNode]


@pytest.mark.parametrize(
    "name, options, tasks",
    [
        ("mask_rcnn", [], ("bbox", "segm")),
        ("mask_rcnn", ["MODEL.MASK_ON", False], ("bbox",)),
        ("c4", ["MODEL.KEYPOINT_ON", True], ("bbox", "segm", "keypoints")),
        ("mask_rcnn", ["MODEL.META_ARCHITECTURE", "PanopticFPN"], ("bbox", "segm")),
        ("retinanet", ["MODEL.MASK_ON", True], ("bbox",)),
        ("retinanet", ["MODEL.META_ARCHITECTURE", "OneOfTheUsers"], None),
    ],
)
def test_tasks_follow_the_heads(
    tiny: Tiny, name: str, options: list[object], tasks: tuple[str, ...] | None
) -> None:
    assert coco_tasks(tiny(name, *options)) == tasks


@pytest.mark.parametrize("name", ["mask_rcnn", "retinanet"])
def test_tasks_are_those_that_the_model_predicts(tiny: Tiny, name: str) -> None:
    """Also where there is nothing: detectron2 reports boxes alone then."""
    cfg = tiny(name)
    heads = {"bbox": "pred_boxes", "segm": "pred_masks"}
    image = {"image": torch.zeros(3, 64, 64), "height": 64, "width": 64}
    with torch.no_grad():
        predicted = build_model(cfg).eval()([image])[0]["instances"]
    expected = {task for task, field in heads.items() if predicted.has(field)}
    evaluator = build_evaluator(cfg, "tiny_scenes_val")
    evaluator.reset()
    for record in DatasetCatalog.get("tiny_scenes_val"):
        evaluator.process([record], [{"instances": predicted[:0]}])
    assert evaluator.evaluate().keys() == expected


def test_backend_and_plots_of_the_config(tiny: Tiny) -> None:
    cfg = tiny("mask_rcnn", "TEST.COCO_BACKEND", "pycocotools", "TEST.COCO_PLOTS", True)
    evaluator = build_evaluator(cfg, "tiny_scenes_val")
    assert isinstance(evaluator, DetectionEvaluator)
    assert (evaluator._backend, evaluator._plots) == ("pycocotools", True)


def test_unknown_backend_stops_before_the_run(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="TEST.COCO_BACKEND must be one of .*, got 'fast'"):
        check_config(tiny("mask_rcnn", "TEST.COCO_BACKEND", "fast"))


@pytest.fixture
def of_a_function() -> Iterator[list[dict[str, Any]]]:
    """Records of a dataset without metadata, "of_a_function": those of the tiny scenes."""
    records = DatasetCatalog.get("tiny_scenes_val")
    DatasetCatalog.register("of_a_function", lambda: records)
    yield records
    DatasetCatalog.remove("of_a_function")
    MetadataCatalog.remove("of_a_function")


def test_boxes_are_evaluated_without_an_evaluator_type(
    tiny: Tiny, of_a_function: list[dict[str, Any]]
) -> None:
    cfg = tiny("mask_rcnn", "DATASETS.TEST", ("of_a_function",), "MODEL.MASK_ON", False)
    check_config(cfg)
    results = Trainer.test(cfg, Trainer.build_model(cfg))
    assert "AP" in results["bbox"]


def test_what_cannot_be_evaluated_is_told_before_training(
    tiny: Tiny, of_a_function: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    for record in of_a_function:
        del record["annotations"]
    cfg = tiny("mask_rcnn", "DATASETS.TEST", ("of_a_function",))
    logging.getLogger("shakedrop_det").propagate = True
    check_config(cfg)
    assert "'of_a_function' has no evaluator_type in its metadata, and neither" in caplog.text
    assert Trainer.test(cfg, Trainer.build_model(cfg)) == {}
    MetadataCatalog.get("of_a_function").evaluator_type = "my own"
    with pytest.raises(ValueError, match="DATASETS.TEST: .* evaluator_type 'my own'.*to one of cl"):
        check_config(cfg)


def test_each_of_several_sets_has_its_files(tiny: Tiny) -> None:
    names = ("tiny_scenes_val", "tiny_scenes_train")
    cfg = tiny("mask_rcnn", "DATASETS.TEST", names)
    Trainer.test(cfg, Trainer.build_model(cfg))
    inference = Path(cfg.OUTPUT_DIR, "inference")
    tables = [(inference / name / "categories_bbox.csv").read_text() for name in names]
    assert tables[0] != tables[1]
    assert not list(inference.glob("*.csv"))
