"""What the networks of three stages share: how many blocks, at which strides, and ShakeDrop."""

from __future__ import annotations

from typing import Sequence

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase
from detectron2.modeling import Backbone
from detectron2.modeling.backbone import ResNet

from ..backbone import shake_backbone

NUM_STAGES = 3
_LAYERS = {"basic": 2, "bottleneck": 3}
"""Convolutions of a residual branch, by the values of ``MODEL.RESNETS.BLOCK``."""


def blocks_per_stage(depth: int, block: str) -> int:
    """n: residual blocks in each of the three stages.

    Args:
        depth: layers of the network with stem and classifier.
        block: "basic" or "bottleneck".

    Raises:
        ValueError: for another block, or a depth that does not go with it.
    """
    if block not in _LAYERS:
        raise ValueError(f"MODEL.RESNETS.BLOCK must be one of {', '.join(_LAYERS)}, got {block!r}")
    layers = NUM_STAGES * _LAYERS[block]
    num_blocks, rest = divmod(depth - 2, layers)
    if num_blocks < 1 or rest:
        raise ValueError(
            f"MODEL.RESNETS.DEPTH must be {layers} n + 2 with MODEL.RESNETS.BLOCK {block!r}, such "
            f"as {', '.join(str(layers * n + 2) for n in (2, 3, 18))}; got {depth!r}"
        )
    return num_blocks


def wide_blocks_per_stage(depth: int) -> int:
    """n of a Wide ResNet, which counts the convolutions of its branches, stem and shortcuts.

    Raises:
        ValueError: for a depth that is not 6 n + 4.
    """
    num_blocks, rest = divmod(depth - 4, 2 * NUM_STAGES)
    if num_blocks < 1 or rest:
        raise ValueError(
            "MODEL.RESNETS.DEPTH must be 6 n + 4 for a Wide ResNet, such as 16, 28, 40; got "
            f"{depth!r}"
        )
    return num_blocks


def strides(stage: int, num_blocks: int) -> list[int]:
    """Strides of the blocks of a stage, counted from 0: all but the first begin with 2."""
    return [2 if stage else 1] + [1] * (num_blocks - 1)


def three_stage_backbone(
    cfg: CfgNode,
    stem: CNNBlockBase,
    stages: Sequence[Sequence[CNNBlockBase]],
    num_blocks: int,
) -> Backbone:
    """The network of a stem and all its stages, of ``num_blocks`` residual blocks each, under the
    ShakeDrop of a config."""
    backbone = ResNet(
        stem,
        stages,
        out_features=cfg.MODEL.RESNETS.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return shake_backbone(backbone, cfg, NUM_STAGES * num_blocks)
