"""Evaluations use the weights that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from shakedrop_det.data import use_coco_files
from shakedrop_det.engine import Trainer, evaluate, train
from tests.own_data import write_own_data

Tiny = Callable[..., CfgNode]
pytestmark = pytest.mark.usefixtures("clean_logging")


@pytest.mark.parametrize("resume", [False, True])
def test_random_weights_are_not_evaluated(tiny: Tiny, resume: bool) -> None:
    cfg = tiny("classifier")
    with pytest.raises(ValueError, match="MODEL.WEIGHTS is empty, .* set it to a checkpoint"):
        evaluate(cfg, resume=resume)
    trainer = Trainer(cfg)
    trainer.checkpointer.save("model_final")
    if resume:
        assert "top1" in evaluate(cfg, resume=True)["classification"]


@pytest.mark.parametrize("resume", [False, True])
def test_other_classes_come_with_the_checkpoint_that_was_loaded(
    tiny: Tiny, tmp_path: Path, resume: bool
) -> None:
    cfg = tiny("mask_rcnn", "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (write_own_data(tmp_path / "own"),), ()
    use_coco_files(cfg)
    trainer = Trainer(cfg)
    trainer.checkpointer.save("model_final")
    path = str(Path(cfg.OUTPUT_DIR, "model_final.pth"))
    cfg.MODEL.WEIGHTS = "another.pth" if resume else path
    cfg.DATASETS.TRAIN = ()
    cfg.DATASETS.TEST = (write_own_data(tmp_path / "b", categories=((5, "cat"), (9, "hen"))),)
    use_coco_files(cfg)
    with pytest.raises(ValueError) as error:
        evaluate(cfg, resume=resume)
    assert path in str(error.value) and "another.pth" not in str(error.value)


def test_a_run_that_is_past_its_end_is_told_of_the_key_to_raise(tiny: Tiny) -> None:
    cfg = tiny("classifier")
    train(cfg)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 1, ()
    with pytest.raises(ValueError, match="iterations, more than SOLVER.MAX_ITER 1: raise that"):
        train(cfg, resume=True)
