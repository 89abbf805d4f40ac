"""Common parts of the three-stage networks: number of blocks, strides, and ShakeDrop."""

from __future__ import annotations

from typing import Sequence

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase
from detectron2.modeling import Backbone
from detectron2.modeling.backbone import ResNet

from ..backbone import shake_backbone

NUM_STAGES = 3
_LAYERS = {"basic": 2, "bottleneck": 3}
"""Number of convolutions in a residual branch, by value of ``MODEL.RESNETS.BLOCK``."""


def blocks_per_stage(depth: int, block: str) -> int:
    """Return n, the number of residual blocks in each of the three stages.

    Args:
        depth: number of layers, including stem and classifier.
        block: "basic" or "bottleneck".

    Raises:
        ValueError: if the block type is unknown, or the depth is not possible with it.
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
    """Return n of a Wide ResNet, whose depth counts convolutions of branches, stem and shortcuts.

    Raises:
        ValueError: if the depth is not 6 n + 4.
    """
    num_blocks, rest = divmod(depth - 4, 2 * NUM_STAGES)
    if num_blocks < 1 or rest:
        raise ValueError(
            "MODEL.RESNETS.DEPTH must be 6 n + 4 for a Wide ResNet, such as 16, 28, 40; got "
            f"{depth!r}"
        )
    return num_blocks


def refuse_ignored(cfg: CfgNode, *, has_groups: bool) -> None:
    """Refuse keys of detectron2's ResNets that a network of three stages would ignore.

    Args:
        cfg: read is ``MODEL.RESNETS``.
        has_groups: whether the blocks have ``NUM_GROUPS`` groups.

    Raises:
        ValueError: if such a key is set, naming it.
    """
    node = cfg.MODEL.RESNETS
    if node.NUM_GROUPS != 1 and not has_groups:
        raise ValueError(
            f"MODEL.RESNETS.NUM_GROUPS {node.NUM_GROUPS!r} would have no effect in the blocks of "
            f"{cfg.MODEL.BACKBONE.NAME} with MODEL.RESNETS.BLOCK {node.BLOCK!r}: set it to 1, or "
            "use build_shakedrop_cifar_resnet_backbone or build_shake_shake_backbone with BLOCK "
            "'bottleneck'"
        )
    deformed = any(node.DEFORM_ON_PER_STAGE)
    for key, is_set, default in (
        ("DEFORM_ON_PER_STAGE", deformed, [False] * NUM_STAGES),
        ("RES5_DILATION", node.RES5_DILATION != 1, 1),
    ):
        if is_set:
            raise ValueError(
                f"MODEL.RESNETS.{key} {node[key]!r} would have no effect in "
                f"{cfg.MODEL.BACKBONE.NAME}: set it to {default!r}"
            )


def strides(stage: int, num_blocks: int) -> list[int]:
    """Return the strides of the blocks of a stage. All stages but the first, 0, begin with 2."""
    return [2 if stage else 1] + [1] * (num_blocks - 1)


def three_stage_backbone(
    cfg: CfgNode,
    stem: CNNBlockBase,
    stages: Sequence[Sequence[CNNBlockBase]],
    num_blocks: int,
) -> Backbone:
    """Build the network from a stem and stages of ``num_blocks`` residual blocks each, with the
    ShakeDrop settings of a config."""
    backbone = ResNet(
        stem,
        stages,
        out_features=cfg.MODEL.RESNETS.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return shake_backbone(backbone, cfg, NUM_STAGES * num_blocks)
