"""Residual blocks of Wide ResNets (Zagoruyko and Komodakis, BMVC 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectron2.layers import CNNBlockBase, get_norm
from torch import Tensor, nn
from torch.nn import functional as F

from ..blocks import ShakenBlock, shakes
from ..residual_branch import BasicBranch
from .convolution import conv_norm


class WideBlock(BasicBranch, CNNBlockBase):
    """Norm, ReLU, 3x3 convolution, norm, ReLU, 3x3 convolution (figure 1c of the paper).

    Where the number of channels or the resolution changes, the shortcut is a 1x1 convolution of
    what comes after the first ReLU; so it is in the authors' code, models/wide-resnet.lua. There is
    no ReLU after the addition, with ShakeDrop's ``erase_relu`` or without.
    """

    if TYPE_CHECKING:
        norm1: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        norm: str = "BN",
        last_norm: str = "",
    ) -> None:
        """
        Args:
            in_channels, out_channels: of the block.
            stride: of the first convolution and of the shortcut.
            norm: see detectron2's ``get_norm``.
            last_norm: the same of a norm at the end of the branch, which the original block lacks,
                and which the authors of ShakeDrop add.
        """
        super().__init__(in_channels, out_channels, stride)
        self.norm1 = get_norm(norm, in_channels) or nn.Identity()
        self.conv1 = conv_norm(in_channels, out_channels, 3, norm=norm, stride=stride)
        self.conv2 = conv_norm(out_channels, out_channels, 3, norm=last_norm)
        self.shortcut = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = conv_norm(in_channels, out_channels, 1, norm="", stride=stride)

    def activate(self, x: Tensor) -> Tensor:
        """What the first convolution sees of the block's input; of the same shape."""
        return F.relu(self.norm1(x))

    def shared_input(self, x: Tensor) -> Tensor:
        """What branch and shortcut have in common, from the input of the block: all up to the first
        ReLU where the shortcut is a convolution, nothing where it is the identity."""
        return x if self.shortcut is None else self.activate(x)

    def residual_input(self, x: Tensor) -> Tensor:
        """As in the base class, but from :meth:`shared_input`."""
        return F.relu_(self.conv1(self.activate(x) if self.shortcut is None else x))

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, in_channels, H, W).

        Returns:
            Tensor: (N, out_channels, H / stride, W / stride), sizes rounded up.
        """
        x = self.shared_input(x)
        out = self.residual(x)
        out += x if self.shortcut is None else self.shortcut(x)
        return out


@shakes(WideBlock)
class ShakenWideBlock(ShakenBlock, WideBlock):
    """:class:`WideBlock` under ShakeDrop."""

    ENDS_IN_RELU = False

    def forward(self, x: Tensor) -> Tensor:
        """As of :class:`WideBlock`."""
        # Once for both, so that the norm sees the input once in each step.
        return super().forward(self.shared_input(x))
