"""Real networks of torchvision and timm, with weights as of training, and detectron2's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

# What detectron2's documentation calls each network: DEPTH, NUM_GROUPS, WIDTH_PER_GROUP and
# RES2_OUT_CHANNELS under MODEL.RESNETS.
NETWORKS = {
    "resnet18": (18, 1, 64, 64),
    "resnet34": (34, 1, 64, 64),
    "resnet50": (50, 1, 64, 256),
    "resnet101": (101, 1, 64, 256),
    "resnet152": (152, 1, 64, 256),
    "resnext50_32x4d": (50, 32, 4, 256),
    "resnext101_32x8d": (101, 32, 8, 256),
    "resnext101_64x4d": (101, 64, 4, 256),
    "wide_resnet50_2": (50, 1, 128, 256),
    "wide_resnet101_2": (101, 1, 128, 256),
}
STAGES = {"maxpool": "stem", "layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}


def create(library: str, name: str, **kwargs: Any) -> nn.Module:
    """A new network of a library; where timm is not installed, the test is skipped."""
    if library == "timm":
        return pytest.importorskip("timm").create_model(name, **kwargs)
    return torchvision.models.get_model(name, **kwargs)


def build(library: str, name: str, *, num_classes: int = 10, **kwargs: Any) -> nn.Module:
    """A network of a library, with norms that are not those of a new network."""
    torch.manual_seed(0)
    network = create(library, name, num_classes=num_classes, **kwargs)
    as_trained(network)
    return network.eval()


@torch.no_grad()
def as_trained(network: nn.Module) -> None:
    """Fill the norms with what training could give."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.3, 0.9)
            module.bias.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)


def images(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def features(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of a network of either library, by detectron2's names."""
    return create_feature_extractor(network, dict(STAGES))(x)


@torch.no_grad()
def stock_features(name: str, path: Path, x: Tensor) -> dict[str, Tensor]:
    """Of detectron2's network of that name, with a file loaded by detectron2's checkpointer."""
    depth, groups, width, res2 = NETWORKS[name]
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.NUM_GROUPS = groups
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = width
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = res2
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = list(STAGES.values())
    backbone = build_resnet_backbone(cfg, ShapeSpec(channels=3)).eval()
    DetectionCheckpointer(backbone).load(str(path))
    return backbone(x)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], *, rtol: float) -> None:
    """Relative to the largest value of each stage, which must not be 0."""
    assert found.keys() == expected.keys()
    for stage, value in expected.items():
        scale = float(value.abs().max())
        assert scale > 0, stage
        assert float((found[stage] - value).abs().max()) <= rtol * scale, stage
