"""Convolutions of the networks for small images."""

from __future__ import annotations

import fvcore.nn.weight_init as weight_init
from detectron2.layers import Conv2d, get_norm


def conv_norm(
    in_channels: int,
    out_channels: int,
    size: int,
    *,
    norm: str,
    stride: int = 1,
    num_groups: int = 1,
) -> Conv2d:
    """Build a convolution with a norm and without a bias, initialized as in detectron2. At stride 1
    it keeps the resolution.

    Args:
        in_channels, out_channels: number of channels.
        size: kernel size, odd.
        norm: see detectron2's ``get_norm``.
        stride, num_groups: see ``nn.Conv2d``.
    """
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=size,
        stride=stride,
        padding=size // 2,
        groups=num_groups,
        bias=False,
        norm=get_norm(norm, out_channels),
    )
    weight_init.c2_msra_fill(conv)
    return conv
