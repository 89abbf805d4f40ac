"""The convolutions of the networks for small images."""

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
    """A convolution without bias that keeps the resolution at stride 1, and its norm; initialized
    as detectron2's.

    Args:
        in_channels, out_channels: its channels.
        size: side of its kernel, odd.
        norm: see detectron2's ``get_norm``.
        stride, num_groups: as of ``nn.Conv2d``.
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
