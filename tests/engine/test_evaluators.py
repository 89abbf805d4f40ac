"""Which evaluator, which tasks, which backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from shakedrop_det.engine import build_evaluator, check_config
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
