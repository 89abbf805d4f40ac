"""Counts of parameters, FLOPs and activations, against those of others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from shakedrop_det.analysis import (
    Complexity,
    block_rows,
    build_for_counting,
    example_input,
)
from shakedrop_det.engine import Trainer, load_config
from shakedrop_det.model_zoo import stock as stock_zoo

Tiny = Callable[..., CfgNode]
LINEAR = {18: 512 * 1000 + 1000, 50: 2048 * 1000 + 1000}


def classifier(depth: int) -> CfgNode:
    cfg = load_config("")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "ImageClassifier"
    cfg.MODEL.BACKBONE.NAME = "build_shakedrop_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth == 18 else 256
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    return cfg


@pytest.mark.parametrize("depth", [18, 50])
def test_classifier_counts_as_torchvision_publishes(depth: int) -> None:
    weights = {
        18: torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
        50: torchvision.models.ResNet50_Weights.IMAGENET1K_V1,
    }[depth]
    cfg = classifier(depth)
    found = Complexity(Trainer.build_model(cfg), example_input(cfg))
    assert found.parameters[""] == weights.meta["num_params"]
    assert found.flops[""] / 1e9 == pytest.approx(weights.meta["_ops"], abs=6e-4)  # of 1.8 and 4.1
    assert found.parameters["linear"] == LINEAR[depth]


def test_detector_counts_as_detectron2_publishes() -> None:
    """41 699 936 parameters; 117 GFLOPs of convolutions at 800 x 800 pixels (its own test)."""
    cfg = load_config(stock_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    stock = Complexity(build_model(cfg), example_input(cfg, 128, 160))
    cfg.MODEL.BACKBONE.NAME = "build_shakedrop_resnet_fpn_backbone"
    model = Trainer.build_model(cfg)
    found = Complexity(model, example_input(cfg, 128, 160))
    assert found.parameters[""] == 41699936
    assert found.parameters["backbone"] == 26799296
    assert found.flops["backbone"] == stock.flops["backbone"]
    assert found.activations["backbone"] == stock.activations["backbone"]
    # Convolutions cost by the pixel: 800 x 800 are 31.25 times 128 x 160.
    convolutions = found.flops["backbone"] + found.flops["proposal_generator"]
    assert int(convolutions * 31.25 / 1e9) == 117
    assert model.training


def test_heads_see_all_that_they_may(tiny: Tiny) -> None:
    cfg = tiny("mask_rcnn", "TEST.DETECTIONS_PER_IMAGE", 7)
    found = Complexity(build_for_counting(cfg), example_input(cfg))
    regions, pixels, channels = cfg.MODEL.RPN.POST_NMS_TOPK_TEST, 7 * 7, 16
    assert found.flops["roi_heads.box_head"] == regions * pixels * channels * 32
    masks = 7 * pixels * channels * 16 * 9 + 7 * pixels * channels * 16 * 4
    masks += 7 * 4 * pixels * channels * 10
    assert found.flops["roi_heads.mask_head"] == masks
    assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.05


def test_proposals_that_the_model_is_given(tiny: Tiny) -> None:
    given = ["MODEL.LOAD_PROPOSALS", True, "MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"]
    cfg = tiny("mask_rcnn", *given, "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST", 11)
    found = Complexity(build_for_counting(cfg), example_input(cfg))
    assert found.flops["roi_heads.box_head"] == 11 * 7 * 7 * 16 * 32


def test_sizes_by_default(tiny: Tiny) -> None:
    def shape(cfg: CfgNode, *size: int) -> tuple[int, ...]:
        return tuple(example_input(cfg, *size)[0]["image"].shape)

    assert shape(tiny("classifier")) == (3, 32, 32)
    assert shape(tiny("mask_rcnn")) == (3, 64, 85)
    # The longer side is limited, and the ratio stays, as in detectron2's loader.
    assert shape(tiny("mask_rcnn", "INPUT.MAX_SIZE_TEST", 72)) == (3, 54, 72)
    assert shape(tiny("mask_rcnn"), 48, 96) == (3, 48, 96)
    for size in ((48, None), (0, 48)):
        with pytest.raises(ValueError, match=f"--size .* got {size[0]}, {size[1]}"):
            example_input(tiny("mask_rcnn"), *size)
    unresized = tiny("mask_rcnn", "INPUT.MIN_SIZE_TEST", 0)
    assert shape(unresized, 48, 96) == (3, 48, 96)
    with pytest.raises(ValueError, match="INPUT.MIN_SIZE_TEST 0 .* --size"):
        example_input(unresized)


def test_table_goes_as_deep_as_is_asked(tiny: Tiny) -> None:
    cfg = tiny("classifier")
    complexity = Complexity(Trainer.build_model(cfg), example_input(cfg))
    lines = complexity.table(depth=1).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert rows[0] == ["module", "#parameters", "#flops", "#activations"]
    assert [row[0] for row in rows[2:]] == ["model", "backbone.bottom_up", "linear"]
    assert rows[4] == ["linear", "1.29K", "1.28K", "10"]  # 128 channels, 10 classes
    assert "res2.0" in complexity.table(depth=3)
    assert "res2.0" not in complexity.table(depth=2)


def test_modes_are_left_as_they_were(tiny: Tiny) -> None:
    cfg = tiny("classifier")
    model = Trainer.build_model(cfg).train()
    model.backbone["bottom_up"].res2.eval()
    before = [module.training for module in model.modules()]
    Complexity(model, example_input(cfg))
    assert [module.training for module in model.modules()] == before


def test_random_numbers_are_left_alone(tiny: Tiny) -> None:
    cfg = tiny("classifier")
    torch.manual_seed(0)
    example_input(cfg)
    assert torch.initial_seed() == 0
    expected = torch.rand(1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(1), expected)


def test_blocks_add_up(tiny: Tiny) -> None:
    cfg = tiny("classifier")
    model = Trainer.build_model(cfg)
    complexity = Complexity(model, example_input(cfg))
    rows = block_rows(model, complexity)
    stages = [f"backbone.bottom_up.res{i}" for i in range(2, 6)]
    for attribute in ("parameters", "flops"):
        counts = getattr(complexity, attribute)
        expected = sum(counts[stage] for stage in stages)
        assert sum(getattr(row, attribute) for row in rows) == expected > 0
