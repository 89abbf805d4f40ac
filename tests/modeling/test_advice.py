"""Warnings of what is allowed, but often goes wrong."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch import nn

from shakedrop_det import add_shakedrop_config

pytestmark = pytest.mark.usefixtures("clean_logging")

FROZEN = ["MODEL.RESNETS.NORM", "FrozenBN"]


def built(*options: object, fpn: str = "") -> nn.Module:
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    cfg.MODEL.BACKBONE.NAME = f"build_shakedrop_resnet_{fpn}backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res4", "res5"]
    cfg.merge_from_list(list(options))
    with torch.device("meta"):
        return build_backbone(cfg)


def run(network: nn.Module) -> None:
    network(torch.empty(1, 3, 64, 64, device="meta"))


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r for r in caplog.records if "FrozenBatchNorm2d" in r.getMessage()]
    assert all(record.levelno == logging.WARNING for record in found)
    return [record.getMessage() for record in found]


@pytest.mark.parametrize(
    "options, blocks",
    [
        ([*FROZEN, "MODEL.BACKBONE.FREEZE_AT", 0], 16),
        ([*FROZEN, "MODEL.BACKBONE.FREEZE_AT", 2], 13),
        ([*FROZEN, "SOLVER.CLIP_GRADIENTS.ENABLED", True], 0),
        ([*FROZEN, "MODEL.SHAKEDROP.SURVIVAL_PROB", 1.0], 0),
        ([*FROZEN, "MODEL.SHAKEDROP.ENABLED", False], 0),
        (["MODEL.RESNETS.NORM", "BN"], 0),
    ],
)
@pytest.mark.parametrize("fpn", ["", "fpn_"])
def test_perturbed_blocks_with_frozen_norms_are_named_unless_gradients_are_clipped(
    caplog: pytest.LogCaptureFixture, fpn: str, options: list, blocks: int
) -> None:
    run(built(*options, fpn=fpn))
    found = warnings_in(caplog)
    assert len(found) == bool(blocks)
    assert all(f"perturbs {blocks} blocks" in message for message in found)


def test_the_warning_comes_once_with_the_first_training_step_and_not_in_evaluation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = built(*FROZEN).eval()
    run(network)
    assert not warnings_in(caplog)
    network.train()
    run(network)
    run(network)
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("branches", ["sum", "each"])
def test_networks_for_cifar_warn_as_well(caplog: pytest.LogCaptureFixture, branches: str) -> None:
    cfg = get_cfg()
    add_shakedrop_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_shake_shake_backbone"
    cfg.MODEL.RESNETS.DEPTH = 26
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4"]
    cfg.MODEL.SHAKEDROP.BRANCHES = branches
    cfg.merge_from_list(FROZEN)
    with torch.device("meta"):
        network = build_backbone(cfg)
    network(torch.empty(2, 3, 32, 32, device="meta"))
    assert len(warnings_in(caplog)) == 1
