"""Functions with which lazy configs build ResNets with ShakeDrop.

For any other module, use ``L(shake)(module=..., spec=L(ShakeDropSpec)(...))``.
"""

from __future__ import annotations

from typing import Any, Sequence

from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from shakedrop_det.layers import ShakeDropSpec

from .shake import shake

_NUM_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Of res2 to res5, by depth: He et al., CVPR 2016, table 1.


def shaken_resnet(
    *, stem: nn.Module, stages: Sequence[Sequence[CNNBlockBase]], spec: ShakeDropSpec, **kwargs: Any
) -> nn.Module:
    """:class:`detectron2.modeling.backbone.ResNet` with ShakeDrop, from that class's arguments.

    It replaces ``ResNet`` as the ``_target_`` of a lazy config, so that the config keeps its
    structure.

    Args:
        stem: see ``ResNet``.
        stages: res2 to res5, also if ``out_features`` needs fewer: L counts them all.
        spec: ShakeDrop's settings.
        kwargs: other arguments of ``ResNet``: ``num_classes``, ``out_features``, ``freeze_at``.

    Returns:
        ResNet: with state_dict keys of the stock network.
    """
    num_blocks = sum(len(stage) for stage in stages)
    return shake(ResNet(stem, stages, **kwargs), spec, num_blocks)


def shaken_stage(*, spec: ShakeDropSpec, last_block: int, **kwargs: Any) -> nn.Module:
    """The last stage of a network with ShakeDrop: the ``res5`` in the head of a C4 detector.

    It replaces ``ResNet.make_stage`` as the ``_target_`` of a lazy config.

    Args:
        spec: ShakeDrop's settings, those of the backbone.
        last_block: L, the number of blocks of the whole network, this stage's being the last.
        kwargs: arguments of ``ResNet.make_stage``.

    Returns:
        nn.Sequential: the blocks.
    """
    blocks = ResNet.make_stage(**kwargs)
    first_block = last_block - len(blocks) + 1
    return shake(nn.Sequential(*blocks), spec, last_block, first_block=first_block)


def resnext_stages(
    *, depth: int, num_groups: int, width_per_group: int, **kwargs: Any
) -> list[list[CNNBlockBase]]:
    """res2 to res5 of a ResNeXt or wide ResNet, which ``ResNet.make_default_stages`` cannot build.

    Args:
        depth: 50, 101 or 152.
        num_groups: groups of the 3x3 convolution in a bottleneck.
        width_per_group: channels of a group in res2; they double with each stage.
        kwargs: other arguments of ``ResNet.make_stage``: ``norm``, ``stride_in_1x1``.

    Returns:
        list[list[CNNBlockBase]]: as of ``ResNet.make_default_stages``.

    Raises:
        ValueError: for another depth.
    """
    if depth not in _NUM_BLOCKS:
        raise ValueError(f"depth must be one of {', '.join(map(str, _NUM_BLOCKS))}, got {depth!r}")
    stages: list[list[CNNBlockBase]] = []
    for index, num_blocks in enumerate(_NUM_BLOCKS[depth]):
        out_channels = 256 * 2**index
        stages.append(
            ResNet.make_stage(
                BottleneckBlock,
                num_blocks,
                stride_per_block=[1 if index == 0 else 2] + [1] * (num_blocks - 1),
                in_channels=out_channels // 2 if index else 64,
                out_channels=out_channels,
                bottleneck_channels=num_groups * width_per_group * 2**index,
                num_groups=num_groups,
                **kwargs,
            )
        )
    return stages
