"""Networks of one, four or six channels: what can be trained can be analyzed, deployed and used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode
from PIL import Image

from shakedrop_det.analysis import (
    Complexity,
    build_for_counting,
    draw_training_images,
    example_input,
)
from shakedrop_det.checkpoint import Checkpointer
from shakedrop_det.data import use_coco_files
from shakedrop_det.engine import Trainer
from shakedrop_det.export import example_image, export_model, fold_checkpoint, load_model
from shakedrop_det.prediction import predict
from tests.own_data import write_own_data

Tiny = Callable[..., CfgNode]


def pixels(channels: int) -> list[object]:
    mean, std = [120.0] * channels, [60.0] * channels
    return ["MODEL.PIXEL_MEAN", mean, "MODEL.PIXEL_STD", std]


def deployed(cfg: CfgNode, output: Path) -> None:
    """Analyze, fold and export the network of a config, of which only the backbone sees pixels."""
    Complexity(build_for_counting(cfg), example_input(cfg, 64, 64))
    folded = fold_checkpoint(cfg)
    assert max(folded.feature_differences.values()) < 1e-4
    path = str(output / "model.ts")
    model = load_model(cfg)
    differences = export_model(
        model, example_image(cfg), path, format="tracing", backbone_only=True
    )
    assert max(differences.values()) < 1e-2


@pytest.mark.parametrize("image_format, mode, channels", [("L", "L", 1), ("RGBA", "RGBA", 4)])
def test_formats_of_files(
    tiny: Tiny, tmp_path: Path, image_format: str, mode: str, channels: int
) -> None:
    data = write_own_data(tmp_path / "own", mode=mode)
    cfg = tiny("mask_rcnn", "INPUT.FORMAT", image_format, *pixels(channels))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (data,), ()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.SOLVER.MAX_ITER = 2
    use_coco_files(cfg, given=["DATASETS.TRAIN"])
    trainer = Trainer(cfg)
    assert trainer.model.backbone.bottom_up.stem.conv1.in_channels == channels
    trainer.train()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    if channels == 1:
        deployed(cfg, tmp_path)
    assert len(draw_training_images(cfg, tmp_path / "drawn", num_images=2)) == 2
    image = example_image(cfg, str(tmp_path / "own" / "images" / "0.png"))
    assert len(image) == channels
    predict(cfg, [str(tmp_path / "own" / "images")], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(list((tmp_path / "out" / "drawn").iterdir())) == 4


def test_channels_that_no_file_has(tiny: Tiny, tmp_path: Path) -> None:
    cfg = tiny("mask_rcnn", *pixels(6))
    model = Trainer.build_model(cfg)
    Checkpointer(model, str(tmp_path), cfg=cfg).save("weights")
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    deployed(cfg, tmp_path)
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photo)
    with pytest.raises(ValueError, match="PIXEL_MEAN has 6 channels, but .* have 3, so image"):
        predict(cfg, [str(photo)], tmp_path / "out")
    with pytest.raises(ValueError, match="PIXEL_MEAN has 6 channels, but .* have 3, so image"):
        example_image(cfg, str(photo))


def test_a_format_that_does_not_exist_is_named(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="INPUT.FORMAT 'GRAY' is not an image format: set it to"):
        predict(tiny("mask_rcnn", "INPUT.FORMAT", "GRAY"), ["a.png"], tmp_path / "out")
