"""Grey images in both stages: `INPUT.FORMAT L`, and networks of one input channel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.conversion.sources import open_source
from shakedrop_det.engine import Trainer, train
from shakedrop_det.prediction import predict

GREY = ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", [114.0], "MODEL.PIXEL_STD", [57.0]]
pytestmark = pytest.mark.usefixtures("clean_logging")


def test_a_classifier_is_trained_predicts_and_goes_into_a_detector(
    tiny: Callable[..., CfgNode], tmp_path: Path
) -> None:
    options = ["SOLVER.MAX_ITER", 2, "SOLVER.STEPS", (1,), "TEST.EVAL_PERIOD", 2]
    cfg = tiny("classifier", *GREY, *options, "OUTPUT_DIR", f"{tmp_path}/pretraining")
    results = train(cfg)
    assert results is not None and 0 <= results["classification"]["top1"] <= 100
    weights = f"{tmp_path}/pretraining/model_final.pth"
    state = torch.load(weights, weights_only=True)["model"]
    assert state["backbone.bottom_up.stem.conv1.weight"].shape[1] == 1

    cfg.MODEL.WEIGHTS = weights
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    summary = predict(cfg, [f"{tmp_path}/grey.png"], tmp_path / "out")
    assert summary.num_images == 1 and not summary.skipped

    detector = tiny("mask_rcnn", *GREY)
    model = Trainer.build_model(detector)
    Checkpointer(model, cfg=detector).load(weights)
    key = "backbone.bottom_up.res2.0.conv1.weight"
    assert torch.equal(model.state_dict()[key], state[key])
    with pytest.raises(ValueError, match="for images with 1 channels, but those of other"):
        open_source(weights)
