"""Backbones for images of 32x32 pixels."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_resnet_backbone
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock

from ..backbone import shake_resnet
from .pyramid_blocks import PyramidBasicBlock, PyramidBottleneckBlock, pyramid_channels
from .stages import (
    NUM_STAGES,
    blocks_per_stage,
    refuse_ignored,
    strides,
    three_stage_backbone,
    wide_blocks_per_stage,
)
from .stem import CifarStem, FinalActivation
from .two_branch_blocks import BottleneckResidual, TwoBranchBlock
from .wide_blocks import WideBlock


@BACKBONE_REGISTRY.register()
def build_shakedrop_resnet_cifar_stem_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build detectron2's four-stage ResNet (18 to 152 layers) with a :class:`CifarStem` and
    ShakeDrop. The strides are a quarter of the usual ones."""
    resnet = build_resnet_backbone(cfg, input_shape)
    norm = cfg.MODEL.RESNETS.NORM
    stem = CifarStem(resnet.stem.in_channels, resnet.stem.out_channels, norm=norm)
    backbone = ResNet(
        stem,
        [list(stage) for stage in resnet.stages],
        out_features=cfg.MODEL.RESNETS.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return shake_resnet(backbone, cfg)


@BACKBONE_REGISTRY.register()
def build_shakedrop_cifar_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build a CIFAR ResNet of He et al., CVPR 2016, section 4.2, with ShakeDrop.

    It has three stages of detectron2's blocks, res2 to res4. ``MODEL.RESNETS.DEPTH`` is 6 n + 2
    (20, 56, 110) with ``MODEL.RESNETS.BLOCK`` "basic", and 9 n + 2 (164) with "bottleneck". Where
    the number of channels changes, the shortcut is a 1x1 convolution, as always in detectron2.
    """
    node = cfg.MODEL.RESNETS
    num_blocks = blocks_per_stage(node.DEPTH, node.BLOCK)
    refuse_ignored(cfg, has_groups=node.BLOCK == "bottleneck")
    stages: list[list[CNNBlockBase]] = []
    in_channels = node.STEM_OUT_CHANNELS
    for index in range(NUM_STAGES):
        out_channels = node.RES2_OUT_CHANNELS * 2**index
        kwargs: dict[str, Any] = {"block_class": BasicBlock}
        if node.BLOCK == "bottleneck":
            kwargs = {
                "block_class": BottleneckBlock,
                "bottleneck_channels": node.NUM_GROUPS * node.WIDTH_PER_GROUP * 2**index,
                "num_groups": node.NUM_GROUPS,
                "stride_in_1x1": node.STRIDE_IN_1X1,
            }
        stages.append(
            ResNet.make_stage(
                num_blocks=num_blocks,
                stride_per_block=strides(index, num_blocks),
                in_channels=in_channels,
                out_channels=out_channels,
                norm=node.NORM,
                **kwargs,
            )
        )
        in_channels = out_channels
    stem = CifarStem(input_shape.channels, node.STEM_OUT_CHANNELS, norm=node.NORM)
    return three_stage_backbone(cfg, stem, stages, num_blocks)


@BACKBONE_REGISTRY.register()
def build_shakedrop_pyramidnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build an additive PyramidNet of Han et al., CVPR 2017, for CIFAR, with ShakeDrop.

    Depth and block type are as in :func:`build_shakedrop_cifar_resnet_backbone`, and
    ``MODEL.RESNETS.PYRAMID_ALPHA`` is the widening factor. A norm and a ReLU follow the last block.
    """
    node = cfg.MODEL.RESNETS
    num_blocks = blocks_per_stage(node.DEPTH, node.BLOCK)
    refuse_ignored(cfg, has_groups=False)
    in_channels = node.STEM_OUT_CHANNELS
    channels = pyramid_channels(NUM_STAGES * num_blocks, node.PYRAMID_ALPHA, first=in_channels)
    stages: list[list[CNNBlockBase]] = []
    for index in range(NUM_STAGES):
        stages.append([])
        for stride in strides(index, num_blocks):
            out_channels = channels.pop(0)
            if node.BLOCK == "basic":
                block: CNNBlockBase = PyramidBasicBlock(
                    in_channels, out_channels, stride=stride, norm=node.NORM
                )
            else:
                block = PyramidBottleneckBlock(
                    in_channels,
                    4 * out_channels,
                    bottleneck_channels=out_channels,
                    stride=stride,
                    norm=node.NORM,
                )
            stages[-1].append(block)
            in_channels = block.out_channels
    stages[-1].append(FinalActivation(in_channels, norm=node.NORM))
    stem = CifarStem(input_shape.channels, node.STEM_OUT_CHANNELS, norm=node.NORM, relu=False)
    return three_stage_backbone(cfg, stem, stages, num_blocks)


@BACKBONE_REGISTRY.register()
def build_shake_shake_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build a two-branch network of Gastaldi (Shake-Shake, 2017), for CIFAR.

    Depth and branch type are as in :func:`build_shakedrop_cifar_resnet_backbone`: 26 2x64d has
    ``MODEL.RESNETS.DEPTH`` 26 and ``RES2_OUT_CHANNELS`` 64. ``MODEL.SHAKEDROP.BRANCHES`` sets how
    the branches are perturbed; without ShakeDrop they are summed. A ReLU follows the last block.
    """
    node = cfg.MODEL.RESNETS
    num_blocks = blocks_per_stage(node.DEPTH, node.BLOCK)
    refuse_ignored(cfg, has_groups=node.BLOCK == "bottleneck")
    stages: list[list[CNNBlockBase]] = []
    in_channels = node.STEM_OUT_CHANNELS
    for index in range(NUM_STAGES):
        out_channels = node.RES2_OUT_CHANNELS * 2**index
        kwargs: dict[str, Any] = {}
        if node.BLOCK == "bottleneck":
            kwargs = {
                "make_branch": BottleneckResidual,
                "bottleneck_channels": node.NUM_GROUPS * node.WIDTH_PER_GROUP * 2**index,
                "num_groups": node.NUM_GROUPS,
            }
        stages.append(
            ResNet.make_stage(
                TwoBranchBlock,
                num_blocks,
                stride_per_block=strides(index, num_blocks),
                in_channels=in_channels,
                out_channels=out_channels,
                norm=node.NORM,
                **kwargs,
            )
        )
        in_channels = out_channels
    stages[-1].append(FinalActivation(in_channels))
    stem = CifarStem(input_shape.channels, node.STEM_OUT_CHANNELS, norm=node.NORM, relu=False)
    return three_stage_backbone(cfg, stem, stages, num_blocks)


@BACKBONE_REGISTRY.register()
def build_shakedrop_wide_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build a Wide ResNet of Zagoruyko and Komodakis, BMVC 2016, for CIFAR, with ShakeDrop.

    ``MODEL.RESNETS.DEPTH`` is 6 n + 4, and ``WIDEN_FACTOR`` multiplies the widths of 16, 32 and 64:
    WRN-28-10 has 28 and 10. ``LAST_BRANCH_NORM`` adds a norm at the end of each branch, which
    ShakeDrop needs. A norm and a ReLU follow the last block.
    """
    node = cfg.MODEL.RESNETS
    num_blocks = wide_blocks_per_stage(node.DEPTH)
    refuse_ignored(cfg, has_groups=False)
    if node.WIDEN_FACTOR < 1:
        raise ValueError(
            f"MODEL.RESNETS.WIDEN_FACTOR must be at least 1, got {node.WIDEN_FACTOR!r}"
        )
    stages: list[list[CNNBlockBase]] = []
    in_channels = node.STEM_OUT_CHANNELS
    for index in range(NUM_STAGES):
        out_channels = node.STEM_OUT_CHANNELS * node.WIDEN_FACTOR * 2**index
        stages.append(
            ResNet.make_stage(
                WideBlock,
                num_blocks,
                stride_per_block=strides(index, num_blocks),
                in_channels=in_channels,
                out_channels=out_channels,
                norm=node.NORM,
                last_norm=node.NORM if node.LAST_BRANCH_NORM else "",
            )
        )
        in_channels = out_channels
    stages[-1].append(FinalActivation(in_channels, norm=node.NORM))
    stem = CifarStem(input_shape.channels, node.STEM_OUT_CHANNELS, norm="", relu=False)
    return three_stage_backbone(cfg, stem, stages, num_blocks)
