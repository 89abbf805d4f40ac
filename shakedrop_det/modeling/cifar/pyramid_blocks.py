"""Residual blocks of PyramidNet (Han et al., "Deep Pyramidal Residual Networks", CVPR 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectron2.layers import CNNBlockBase, get_norm
from torch import Tensor, nn
from torch.nn import functional as F

from ..blocks import ShakenBlock, register_shaken_block
from ..residual_branch import BasicBranch, BottleneckBranch
from .convolution import conv_norm


class ZeroPaddedShortcut(nn.Module):
    """A shortcut without parameters: average pooling if strided, and zeros for the new channels
    (section 3.3 of the paper)."""

    def __init__(self, new_channels: int, stride: int = 1) -> None:
        """
        Args:
            new_channels: number of zero channels to append to the input.
            stride: stride and kernel size of the average pooling.
        """
        super().__init__()
        self.new_channels = new_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, C, H, W).

        Returns:
            Tensor: (N, C + new_channels, H / stride, W / stride), sizes rounded up.
        """
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))

    def extra_repr(self) -> str:
        return f"new_channels={self.new_channels}, stride={self.stride}"


class PyramidBasicBlock(BasicBranch, CNNBlockBase):
    """BN, 3x3 convolution, BN, ReLU, 3x3 convolution, BN (figure 6d of the paper).

    There is no ReLU after the addition, regardless of ShakeDrop's ``erase_relu``.
    """

    if TYPE_CHECKING:
        norm1: nn.Module

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: str = "BN"
    ) -> None:
        """
        Args:
            in_channels, out_channels: channels of the block; they must not decrease.
            stride: stride of the first convolution.
            norm: see detectron2's ``get_norm``.
        """
        super().__init__(in_channels, out_channels, stride)
        self.norm1 = get_norm(norm, in_channels) or nn.Identity()
        self.conv1 = conv_norm(in_channels, out_channels, 3, norm=norm, stride=stride)
        self.conv2 = conv_norm(out_channels, out_channels, 3, norm=norm)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def residual_input(self, x: Tensor) -> Tensor:
        return F.relu_(self.conv1(self.norm1(x)))

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, in_channels, H, W).

        Returns:
            Tensor: (N, out_channels, H / stride, W / stride).
        """
        out = self.residual(x)
        out += x if self.shortcut is None else self.shortcut(x)
        return out


class PyramidBottleneckBlock(BottleneckBranch, CNNBlockBase):
    """BN, 1x1 convolution, BN, ReLU, 3x3 convolution, BN, ReLU, 1x1 convolution, BN.

    There is no ReLU after the addition, regardless of ShakeDrop's ``erase_relu``.
    """

    if TYPE_CHECKING:
        norm1: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        norm: str = "BN",
    ) -> None:
        """
        Args:
            in_channels, out_channels: channels of the block; they must not decrease.
            bottleneck_channels: channels of the 3x3 convolution.
            stride: stride of the 3x3 convolution.
            norm: see detectron2's ``get_norm``.
        """
        super().__init__(in_channels, out_channels, stride)
        self.norm1 = get_norm(norm, in_channels) or nn.Identity()
        self.conv1 = conv_norm(in_channels, bottleneck_channels, 1, norm=norm)
        self.conv2 = conv_norm(
            bottleneck_channels, bottleneck_channels, 3, norm=norm, stride=stride
        )
        self.conv3 = conv_norm(bottleneck_channels, out_channels, 1, norm=norm)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def residual_input(self, x: Tensor) -> Tensor:
        return F.relu_(self.conv2(F.relu_(self.conv1(self.norm1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, in_channels, H, W).

        Returns:
            Tensor: (N, out_channels, H / stride, W / stride).
        """
        out = self.residual(x)
        out += x if self.shortcut is None else self.shortcut(x)
        return out


def pyramid_channels(num_blocks: int, alpha: float, *, first: int = 16) -> list[int]:
    """Return the channels of each block of an additive PyramidNet, before bottleneck expansion.

    They grow linearly from ``first`` to ``first + alpha`` (eq. 3 of the paper), rounded to the
    nearest integer as in the authors' code.

    Args:
        num_blocks: number of residual blocks in the whole network.
        alpha: widening factor.
        first: channels of the stem.
    """
    return [round(first + alpha * block / num_blocks) for block in range(1, num_blocks + 1)]


def _shortcut(in_channels: int, out_channels: int, stride: int) -> ZeroPaddedShortcut | None:
    if out_channels < in_channels:
        raise ValueError(
            f"out_channels must not be less than in_channels, {in_channels}, since a zero-padded "
            f"shortcut cannot remove channels; got {out_channels}"
        )
    if in_channels == out_channels and stride == 1:
        return None
    return ZeroPaddedShortcut(out_channels - in_channels, stride)


@register_shaken_block(PyramidBasicBlock)
class ShakenPyramidBasicBlock(ShakenBlock, PyramidBasicBlock):
    """:class:`PyramidBasicBlock` with ShakeDrop."""

    ENDS_IN_RELU = False


@register_shaken_block(PyramidBottleneckBlock)
class ShakenPyramidBottleneckBlock(ShakenBlock, PyramidBottleneckBlock):
    """:class:`PyramidBottleneckBlock` with ShakeDrop."""

    ENDS_IN_RELU = False
