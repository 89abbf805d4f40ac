"""The yaml recipes of detectors: detectron2's own, and Faster and Mask R-CNN for more backbones."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from unittest.mock import ANY

import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from shakedrop_det import add_training_config, model_zoo
from shakedrop_det.model_zoo import stock as stock_zoo

from .trees import (
    BACKBONES,
    CONFIGS,
    OVERLAYS,
    backbone_of,
    differences,
    flat,
    keys_of,
    mirrored,
    ours,
    with_all_backbones,
)

RENAMED = {
    "build_resnet_backbone": "build_shakedrop_resnet_backbone",
    "build_resnet_fpn_backbone": "build_shakedrop_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_shakedrop_retinanet_resnet_fpn_backbone",
    "Res5ROIHeads": "ShakeDropRes5ROIHeads",
}
OTHERS = ("ImageNet-Classification/", "CIFAR-Classification/", "Demo/", "lazy/")
TRAINED_NORMS = [
    "COCO-Detection/faster_rcnn_R_152_FPN_1x_trained_norms.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_152_FPN_1x_trained_norms.yaml",
]
DETECTORS = [name for name in model_zoo.list() if not name.startswith(OTHERS)]


def text_of(name: str) -> str:
    return Path(model_zoo.get_config_file(name)).read_text()


@pytest.mark.parametrize("name", mirrored())
def test_a_config_of_detectron2_differs_in_the_backbone_and_the_keys_of_this_package(name) -> None:
    stock, cfg = flat(stock_zoo.get_config(name)), dict(ours(name))
    stock["MODEL.BACKBONE.NAME"] = RENAMED[stock["MODEL.BACKBONE.NAME"]]
    if "_C4" in name:  # their heads hold res5
        stock["MODEL.ROI_HEADS.NAME"] = RENAMED[stock["MODEL.ROI_HEADS.NAME"]]
    defaults = get_cfg()
    add_training_config(defaults)
    added = {key: value for key, value in flat(defaults).items() if key not in stock}
    expected = {**stock, **added}
    if not stock["MODEL.WEIGHTS"]:
        expected.update({"MODEL.SHAKEDROP.INVERTED": False, "MODEL.SHAKEDROP.SURVIVAL_PROB": 0.5})
    if stock["MODEL.RESNETS.NORM"] == "FrozenBN":
        expected["SOLVER.CLIP_GRADIENTS.ENABLED"] = True
    clipping = "SOLVER.CLIP_GRADIENTS.CLIP_TYPE"
    assert cfg.pop(clipping) == ("norm" if expected["SOLVER.CLIP_GRADIENTS.ENABLED"] else ANY)
    del expected[clipping]
    assert differences(cfg, expected) == set()


def test_the_recipes_are_detectron2s_and_faster_and_mask_rcnn_with_all_backbones() -> None:
    wanted = set(mirrored()).union(*with_all_backbones(".yaml").values())
    assert set(DETECTORS) == wanted | set(TRAINED_NORMS)
    assert sum(path.is_file() for path in CONFIGS.rglob("*")) <= 200


@pytest.mark.parametrize("pattern", with_all_backbones(".yaml"))
def test_recipes_of_a_family_differ_in_the_backbone_alone(pattern) -> None:
    for name in with_all_backbones(".yaml")[pattern]:
        backbone = backbone_of(name)
        changed = differences(ours(name), ours(pattern.format("R_50")))
        assert changed <= keys_of(backbone)
        if backbone != "R_50":
            assert ours(name) == ours(pattern.format("R_50"), backbone)


@pytest.mark.parametrize("name", TRAINED_NORMS)
def test_with_trained_norms_it_differs_from_the_recipe_beside_it_in_them_alone(name) -> None:
    frozen = ours(name.replace("_trained_norms", ""), "pretrained")
    cfg = ours(name)
    assert differences(cfg, frozen) == {"MODEL.WEIGHTS", *keys_of("trained_norms")}
    assert cfg["MODEL.RESNETS.NORM"] == "SyncBN" and cfg["MODEL.BACKBONE.FREEZE_AT"] == 0
    assert cfg["SOLVER.CLIP_GRADIENTS.ENABLED"] and not cfg["MODEL.SHAKEDROP.INVERTED"]
    assert ours(name.replace("_trained_norms", ""), "pretrained", "trained_norms") == {
        **cfg,
        "MODEL.WEIGHTS": frozen["MODEL.WEIGHTS"],
    }


def test_each_recipe_is_a_few_lines_over_a_base() -> None:
    for name in DETECTORS:
        lines = [line for line in text_of(name).splitlines() if not line.startswith("#")]
        assert lines[0].startswith("_BASE_: "), name
        # Two large demos of detectron2's are longer.
        assert len(lines) <= (38 if "dconv" in name and "gn" in name else 23), name


def test_weights_are_of_detectron2_or_of_a_file_that_is_said_how_to_make() -> None:
    local = {}
    for name in DETECTORS:
        weights = ours(name)["MODEL.WEIGHTS"]
        if weights.startswith("detectron2://"):
            assert backbone_of(weights.replace("-", "_")) == backbone_of(name)
        elif weights.startswith("catalog://"):  # detectron2's other names, mirrored above
            assert name in mirrored()
        elif name in TRAINED_NORMS:
            assert f'{weights}"  # of ImageNet-Classification/resnet_152.yaml' in text_of(name)
        elif weights:
            local[backbone_of(name)] = weights
    assert set(local) == {"R_18", "R_34", "R_152", "X_152_32x4d"}
    for backbone, weights in local.items():
        assert weights.startswith("weights/")
        comments = "".join(re.findall("#(.*)", (OVERLAYS / f"{backbone}.yaml").read_text()))
        stem = Path(weights).stem
        command = rf"tools/convert_weights.py torchvision:{stem}(\.\w+)? --output {weights}"
        made = re.search(command, comments)
        assert made or "model_final.pth of" in comments, backbone
        if made:
            assert torchvision.models.get_model_weights(Path(weights).stem)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbone_has_the_convolutions_of_torchvisions_network(backbone) -> None:
    cfg = model_zoo.get_config(f"COCO-Detection/faster_rcnn_{backbone}_FPN_1x.yaml")
    cfg.MODEL.BACKBONE.NAME = "build_shakedrop_resnet_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    depth, groups, width = re.fullmatch(r"[RX]_(\d+)(?:_(\d+)x(\d+)d)?", backbone).groups()
    blocks = {"18": [2, 2, 2, 2], "101": [3, 4, 23, 3], "152": [3, 8, 36, 3]}.get(
        depth, [3, 4, 6, 3]
    )
    with torch.device("meta"):
        network = build_backbone(cfg, ShapeSpec(channels=3))
        reference = ResNet(
            BasicBlock if int(depth) < 50 else Bottleneck,
            blocks,
            groups=int(groups or 1),
            width_per_group=int(width or 64),
        )
    assert convolutions(network) == convolutions(reference)
    if not cfg.MODEL.WEIGHTS.startswith("detectron2://"):
        preset = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
        assert cfg.INPUT.FORMAT == "RGB"
        assert [m / 255 for m in cfg.MODEL.PIXEL_MEAN] == pytest.approx(preset.mean)
        assert [s / 255 for s in cfg.MODEL.PIXEL_STD] == pytest.approx(preset.std)
        assert not cfg.MODEL.RESNETS.STRIDE_IN_1X1


def convolutions(network: nn.Module) -> Counter:
    return Counter(
        (tuple(conv.weight.shape), conv.groups)
        for conv in network.modules()
        if isinstance(conv, nn.Conv2d)
    )
