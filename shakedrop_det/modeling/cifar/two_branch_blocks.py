"""Two-branch residual blocks of Shake-Shake's ResNeXts (Gastaldi 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.layers import CNNBlockBase, Conv2d, get_norm
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det.modeling.residual_branch import BasicBranch, BottleneckBranch

from .convolution import conv_norm


class TwoPathShortcut(nn.Module):
    """The projection shortcut of Shake-Shake's networks, with two paths over different pixels.

    At a stride of 2, one half of the output channels is computed from every second pixel in every
    second row, and the other half from the pixels one to the left and above, by a 1x1 convolution
    each. A norm follows. This is the shortcut in the author's code, models/shakeshakeblock.lua.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: str = "BN"
    ) -> None:
        """
        Args:
            in_channels, out_channels: number of channels; ``out_channels`` must be even.
            stride: stride of both paths.
            norm: see detectron2's ``get_norm``.

        Raises:
            ValueError: if ``out_channels`` is odd.
        """
        super().__init__()
        if out_channels % 2:
            raise ValueError(f"out_channels must be even for two paths, got {out_channels!r}")
        self.stride = stride
        self.conv1 = Conv2d(in_channels, out_channels // 2, kernel_size=1, bias=False)
        self.conv2 = Conv2d(in_channels, out_channels // 2, kernel_size=1, bias=False)
        self.norm = get_norm(norm, out_channels) or nn.Identity()
        for conv in (self.conv1, self.conv2):
            weight_init.c2_msra_fill(conv)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, in_channels, H, W).

        Returns:
            Tensor: (N, out_channels, H / stride, W / stride), sizes rounded up.
        """
        step = self.stride
        shifted = F.pad(x, (1, -1, 1, -1))
        paths = self.conv1(x[..., ::step, ::step]), self.conv2(shifted[..., ::step, ::step])
        return self.norm(torch.cat(paths, dim=1))


class BasicResidual(BasicBranch, nn.Module):
    """3x3 convolution, norm, ReLU, 3x3 convolution, norm."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: str) -> None:
        """
        Args:
            in_channels, out_channels: channels of the branch.
            stride: stride of the first convolution.
            norm: see detectron2's ``get_norm``.
        """
        super().__init__()
        self.conv1 = conv_norm(in_channels, out_channels, 3, norm=norm, stride=stride)
        self.conv2 = conv_norm(out_channels, out_channels, 3, norm=norm)


class BottleneckResidual(BottleneckBranch, nn.Module):
    """1x1 convolution, norm, ReLU, grouped 3x3 convolution, norm, ReLU, 1x1 convolution, norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        num_groups: int,
        stride: int,
        norm: str,
    ) -> None:
        """
        Args:
            in_channels, out_channels: channels of the branch.
            bottleneck_channels, num_groups: channels and groups of the 3x3 convolution.
            stride: stride of the 3x3 convolution.
            norm: see detectron2's ``get_norm``.
        """
        super().__init__()
        channels = bottleneck_channels
        self.conv1 = conv_norm(in_channels, channels, 1, norm=norm)
        self.conv2 = conv_norm(
            channels, channels, 3, norm=norm, stride=stride, num_groups=num_groups
        )
        self.conv3 = conv_norm(channels, out_channels, 1, norm=norm)


class TwoBranchBlock(CNNBlockBase):
    """``y = x + F1(relu(x)) + F2(relu(x))``, without a ReLU after the addition.

    If the number of channels or the resolution changes, ``TwoPathShortcut(relu(x))`` replaces x.
    """

    if TYPE_CHECKING:
        branch1: BasicResidual | BottleneckResidual
        branch2: BasicResidual | BottleneckResidual

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        make_branch: Callable[..., BasicResidual | BottleneckResidual] = BasicResidual,
        stride: int = 1,
        norm: str = "BN",
        **kwargs: int,
    ) -> None:
        """
        Args:
            in_channels, out_channels: channels of the block.
            make_branch: :class:`BasicResidual` or :class:`BottleneckResidual`.
            stride: stride of each branch and of the shortcut.
            norm: see detectron2's ``get_norm``.
            kwargs: further arguments of ``make_branch``.
        """
        super().__init__(in_channels, out_channels, stride)
        self.branch1 = make_branch(in_channels, out_channels, stride=stride, norm=norm, **kwargs)
        self.branch2 = make_branch(in_channels, out_channels, stride=stride, norm=norm, **kwargs)
        self.shortcut = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = TwoPathShortcut(in_channels, out_channels, stride=stride, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, in_channels, H, W).

        Returns:
            Tensor: (N, out_channels, H / stride, W / stride).
        """
        active = F.relu(x)
        out = self.branch1.residual(active)
        out += self.branch2.residual(active)
        out += x if self.shortcut is None else self.shortcut(active)
        return out
