"""Files to predict for, and weights of tiny networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.engine import Trainer


@pytest.fixture
def trained(tiny: Callable[..., CfgNode], tmp_path: Path) -> Callable[..., CfgNode]:
    """``trained(name, *options)``: a tiny config with MODEL.WEIGHTS, random but for the norms.

    Whatever a detector is unsure of counts as found.
    """

    def load(name: str, *options: object) -> CfgNode:
        cfg = tiny(name, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.05, *options)
        torch.manual_seed(0)
        model = Trainer.build_model(cfg)
        for key, tensor in model.state_dict().items():
            if "norm" in key and tensor.is_floating_point():
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
        Checkpointer(model, str(tmp_path), cfg=cfg).save("weights")
        cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
        return cfg

    return load


@pytest.fixture
def scenes(datasets_root: str) -> list[Path]:
    """The held-out images."""
    return [Path(record["file_name"]) for record in DatasetCatalog.get("tiny_scenes_val")]


@pytest.fixture
def video(tmp_path: Path, scenes: list[Path]) -> Path:
    """A video of five frames of 96x128 pixels, at 5 frames per second."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (128, 96))
    for shift in range(5):
        writer.write(np.roll(cv2.imread(str(scenes[0])), 4 * shift, axis=1)[:96])
    writer.release()
    return path
