"""Small networks for CIFAR from configs, and their blocks written once more in plain torch."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det import add_training_config

from .networks import randomize_norms

RESNET = "build_shakedrop_cifar_resnet_backbone"
PYRAMID = "build_shakedrop_pyramidnet_backbone"
TWO_BRANCHES = "build_shake_shake_backbone"
WIDE = "build_shakedrop_wide_resnet_backbone"

SMALL: dict[str, dict[str, Any]] = {
    "ResNet": {"builder": RESNET, "DEPTH": 14, "RES2_OUT_CHANNELS": 8},
    "bottleneck ResNet": {
        "builder": RESNET,
        "DEPTH": 20,
        "BLOCK": "bottleneck",
        "RES2_OUT_CHANNELS": 16,
        "WIDTH_PER_GROUP": 4,
    },
    "PyramidNet": {"builder": PYRAMID, "DEPTH": 14, "PYRAMID_ALPHA": 11.0},
    "bottleneck PyramidNet": {
        "builder": PYRAMID,
        "DEPTH": 20,
        "BLOCK": "bottleneck",
        "PYRAMID_ALPHA": 5.0,
    },
    "ResNeXt": {
        "builder": RESNET,
        "DEPTH": 20,
        "BLOCK": "bottleneck",
        "RES2_OUT_CHANNELS": 16,
        "NUM_GROUPS": 2,
        "WIDTH_PER_GROUP": 4,
    },
    "Wide ResNet": {"builder": WIDE, "DEPTH": 16, "WIDEN_FACTOR": 2},
    "original Wide ResNet": {
        "builder": WIDE,
        "DEPTH": 16,
        "WIDEN_FACTOR": 2,
        "LAST_BRANCH_NORM": False,
    },
    "two branches": {"builder": TWO_BRANCHES, "DEPTH": 14, "RES2_OUT_CHANNELS": 8},
    "two bottleneck branches": {
        "builder": TWO_BRANCHES,
        "DEPTH": 20,
        "BLOCK": "bottleneck",
        "RES2_OUT_CHANNELS": 16,
        "NUM_GROUPS": 2,
        "WIDTH_PER_GROUP": 4,
    },
}
"""Settings under ``MODEL.RESNETS``, and the builder: two blocks in each of three stages."""


def network_config(builder: str, **resnets: Any) -> CfgNode:
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.MODEL.BACKBONE.NAME = builder
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.SHAKEDROP.SURVIVAL_PROB, cfg.MODEL.SHAKEDROP.INVERTED = 0.5, False
    settings = {"NORM": "BN", "STEM_OUT_CHANNELS": 8, "OUT_FEATURES": ["res2", "res3", "res4"]}
    for key, value in {**settings, **resnets}.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


def small_network(kind: str, **shakedrop: Any) -> nn.Module:
    """One of :data:`SMALL`: stock, or with settings of ``MODEL.SHAKEDROP`` shaken."""
    cfg = network_config(**SMALL[kind])
    cfg.MODEL.SHAKEDROP.ENABLED = bool(shakedrop)
    for key, value in shakedrop.items():
        cfg.MODEL.SHAKEDROP[key] = value
    torch.manual_seed(5)
    network = build_backbone(cfg, ShapeSpec(channels=3))
    randomize_norms(network)
    return network


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """By its definition, with the batch's statistics in training."""
    mean, var = norm.running_mean, norm.running_var
    if norm.training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    weight, bias, mean, var = (v[None, :, None, None] for v in (norm.weight, norm.bias, mean, var))
    return (x - mean) / (var + norm.eps).sqrt() * weight + bias


def conv_bn(x: Tensor, conv: nn.Module, *, stride: int = 1, groups: int = 1) -> Tensor:
    padding = conv.weight.shape[-1] // 2
    out = F.conv2d(x, conv.weight, stride=stride, padding=padding, groups=groups)
    return batch_norm(out, conv.norm)


def pyramid_residual(block: nn.Module, x: Tensor, stride: int) -> Tensor:
    """Han et al., figure 6d: BN - conv - BN - ReLU - conv - BN; the bottleneck has one more."""
    x = batch_norm(x, block.norm1)
    if not hasattr(block, "conv3"):
        return conv_bn(conv_bn(x, block.conv1, stride=stride).relu(), block.conv2)
    x = conv_bn(x, block.conv1).relu()
    return conv_bn(conv_bn(x, block.conv2, stride=stride).relu(), block.conv3)


def wide_block(block: nn.Module, x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Shortcut and residual of Zagoruyko and Komodakis: BN - ReLU - conv - BN - ReLU - conv, and BN
    where the block has one; a new shape by a 1x1 convolution after the first ReLU."""
    active = batch_norm(x, block.norm1).relu()
    f = conv_bn(active, block.conv1, stride=stride).relu()
    f = F.conv2d(f, block.conv2.weight, padding=1)
    if block.conv2.norm is not None:
        f = batch_norm(f, block.conv2.norm)
    if block.shortcut is None:
        return x, f
    return F.conv2d(active, block.shortcut.weight, stride=stride), f


def pyramid_shortcut(x: Tensor, out_channels: int, stride: int) -> Tensor:
    """The mean of each square of two by two, and channels of zeros; for even sizes."""
    if stride == 2:
        corners = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        x = sum(corners) / 4
    zeros = x.new_zeros(x.shape[0], out_channels - x.shape[1], *x.shape[2:])
    return torch.cat([x, zeros], dim=1)


def branch_residual(branch: nn.Module, active: Tensor, stride: int, groups: int) -> Tensor:
    """Gastaldi: conv - BN - ReLU - conv - BN of relu(x); the bottleneck has one more."""
    if not hasattr(branch, "conv3"):
        return conv_bn(conv_bn(active, branch.conv1, stride=stride).relu(), branch.conv2)
    f = conv_bn(active, branch.conv1).relu()
    f = conv_bn(f, branch.conv2, stride=stride, groups=groups).relu()
    return conv_bn(f, branch.conv3)


def two_path_shortcut(block: nn.Module, x: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th pixel of relu(x), and of relu(x) moved right and down by one."""
    if block.shortcut is None:
        return x
    active = x.relu()
    moved = torch.zeros_like(active)
    moved[..., 1:, 1:] = active[..., :-1, :-1]
    first = F.conv2d(active[..., ::stride, ::stride], block.shortcut.conv1.weight)
    second = F.conv2d(moved[..., ::stride, ::stride], block.shortcut.conv2.weight)
    return batch_norm(torch.cat([first, second], dim=1), block.shortcut.norm)
