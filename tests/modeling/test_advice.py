"""Warnings of what is allowed, but often goes wrong."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone

from shakedrop_det import add_shakedrop_config

pytestmark = pytest.mark.usefixtures("clean_logging")


@pytest.mark.parametrize(
    "options, blocks",
    [
        (["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.BACKBONE.FREEZE_AT", 0], 16),
        (["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.BACKBONE.FREEZE_AT", 2], 13),
        (["MODEL.RESNETS.NORM", "FrozenBN", "SOLVER.CLIP_GRADIENTS.ENABLED", True], 0),
        (["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.SHAKEDROP.SURVIVAL_PROB", 1.0], 0),
        (["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.SHAKEDROP.ENABLED", False], 0),
        (["MODEL.RESNETS.NORM", "BN"], 0),
    ],
)
@pytest.mark.parametrize("fpn", ["", "fpn_"])
def test_perturbed_blocks_with_frozen_norms_are_named_unless_gradients_are_clipped(
    caplog: pytest.LogCaptureFixture, fpn: str, options: list, blocks: int
) -> None:
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    cfg.MODEL.BACKBONE.NAME = f"build_shakedrop_resnet_{fpn}backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res4", "res5"]
    cfg.merge_from_list(options)
    caplog.set_level(logging.WARNING)
    with torch.device("meta"):
        build_backbone(cfg)
    found = [r.getMessage() for r in caplog.records if "FrozenBatchNorm2d" in r.getMessage()]
    assert len(found) == bool(blocks)
    assert all(f"perturbs {blocks} blocks" in message for message in found)
