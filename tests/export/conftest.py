"""Trained-like networks, and their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from shakedrop_det.checkpoint import Checkpointer

ERASE_RELU = ["MODEL.SHAKEDROP.ALPHA", [-1.0, 1.0], "MODEL.SHAKEDROP.ERASE_RELU", True]


def randomize(model: torch.nn.Module) -> None:
    """Statistics as of training, and scores of different classes for different regions."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.0, generator=generator)
        if name.endswith(("cls_score.weight", "objectness_logits.weight")):
            tensor.normal_(0, 0.1, generator=generator)
        if name == "head.cls_score.bias":  # RetinaNet begins with scores too low to be shown
            tensor.fill_(-2.0)


@pytest.fixture
def trained(tiny: Callable[..., CfgNode], tmp_path: Path) -> Callable[..., CfgNode]:
    """``trained(name, *options)``: a config whose ``MODEL.WEIGHTS`` are there."""

    def make(name: str, *options: object) -> CfgNode:
        cfg = tiny(name, *options)
        torch.manual_seed(0)
        model = build_model(cfg)
        randomize(model)
        folder = tmp_path / "trained"
        folder.mkdir(exist_ok=True)
        Checkpointer(model, str(folder), cfg=cfg).save("model")
        cfg.MODEL.WEIGHTS = str(folder / "model.pth")
        (folder / "config.yaml").write_text(cfg.dump())
        return cfg

    return make
