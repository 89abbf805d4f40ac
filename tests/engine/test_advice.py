"""Warnings before the training."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from detectron2.config import CfgNode

from shakedrop_det.engine import Trainer

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
def test_perturbed_blocks_with_frozen_norms_are_named_unless_gradients_are_clipped(
    tiny: Callable[..., CfgNode], caplog: pytest.LogCaptureFixture, options: list, blocks: int
) -> None:
    caplog.set_level(logging.WARNING)
    Trainer(tiny("mask_rcnn", *options))
    found = [r.getMessage() for r in caplog.records if "FrozenBatchNorm2d" in r.getMessage()]
    assert len(found) == bool(blocks)
    assert all(f"perturbs {blocks} blocks" in message for message in found)
