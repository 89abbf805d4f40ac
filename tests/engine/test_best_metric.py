"""A metric that no evaluation gives is refused, and those that one gives are known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.evaluation.testing import flatten_results_dict

from shakedrop_det.data import use_coco_files
from shakedrop_det.engine import Trainer
from shakedrop_det.engine.best_metric import check_best_metric, metric_names
from tests.own_data import write_own_data

Tiny = Callable[..., CfgNode]
SEVERAL = ["DATASETS.TEST", ("tiny_scenes_val", "tiny_scenes_train")]


@pytest.mark.parametrize("options", [[], SEVERAL, ["MODEL.MASK_ON", False]])
def test_names_are_those_of_an_evaluation(tiny: Tiny, options: list[object]) -> None:
    cfg = tiny("mask_rcnn", *options)
    results = Trainer.test(cfg, Trainer.build_model(cfg))
    assert set(metric_names(cfg) or ()) == set(flatten_results_dict(results))


def test_names_of_a_classifier_and_of_averaged_weights(tiny: Tiny) -> None:
    cfg = tiny("classifier", "SOLVER.EMA_DECAY", 0.9)
    trainer = Trainer(cfg)
    results = Trainer.test(cfg, trainer.model)
    results.update(Trainer.test_under_name(cfg, trainer.model, "ema"))
    assert set(metric_names(cfg) or ()) == set(flatten_results_dict(results))


@pytest.mark.parametrize(
    "name, options, metric, message",
    [
        ("mask_rcnn", [], "segm/ap", "'segm/ap' is not computed by any .*: set it to segm/AP"),
        ("mask_rcnn", [], "AP", "by any evaluation: set it to bbox/AP or "),
        ("mask_rcnn", SEVERAL, "bbox/AP", "set it to tiny_scenes_val/bbox/AP or "),
        ("mask_rcnn", ["MODEL.MASK_ON", False], "segm/AP", "set it to bbox/AP"),
        ("classifier", [], "accuracy", "set it to classification/top1 or "),
        ("classifier", ["DATASETS.TEST", ()], "classification/top1", "DATASETS.TEST is empty"),
    ],
)
def test_a_metric_that_no_evaluation_gives(
    tiny: Tiny, name: str, options: list[object], metric: str, message: str
) -> None:
    cfg = tiny(name, *options, "SOLVER.BEST_CHECKPOINT_METRIC", metric)
    with pytest.raises(ValueError, match=message):
        check_best_metric(cfg)


@pytest.mark.parametrize(
    "change", [lambda c: c.pop("annotations"), lambda c: c["annotations"].clear()]
)
def test_a_test_set_without_annotations_has_no_best_checkpoint(
    tiny: Tiny, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    cfg = tiny("mask_rcnn", "SOLVER.BEST_CHECKPOINT_METRIC", "segm/AP")
    cfg.DATASETS.TEST = (write_own_data(tmp_path / "own", change),)
    use_coco_files(cfg)
    with pytest.raises(ValueError, match="since 'instances' of DATASETS.TEST has no annotations"):
        check_best_metric(cfg)
