"""Residual blocks of Wide ResNets (Zagoruyko and Komodakis, BMVC 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectron2.layers import CNNBlockBase, get_norm
from torch import Tensor, nn
from torch.nn import functional as F

from ..blocks import ShakenBlock, register_shaken_block
from ..residual_branch import BasicBranch
from .convolution import conv_norm


class WideBlock(BasicBranch, CNNBlockBase):
    """Norm, ReLU, 3x3 convolution, norm, ReLU, 3x3 convolution (figure 1c of the paper).

    If the number of channels or the resolution changes, the shortcut is a 1x1 convolution of the
    first ReLU's output, as in the authors' code, models/wide-resnet.lua. There is no ReLU after the
    addition, regardless of ShakeDrop's ``erase_relu``.
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
            in_channels, out_channels: channels of the block.
            stride: stride of the first convolution and of the shortcut.
            norm: see detectron2's ``get_norm``.
            last_norm: norm at the end of the branch, see ``get_norm``. The original block has none;
                the authors of ShakeDrop add one.
        """
        super().__init__(in_channels, out_channels, stride)
        self.norm1 = get_norm(norm, in_channels) or nn.Identity()
        self.conv1 = conv_norm(in_channels, out_channels, 3, norm=norm, stride=stride)
        self.conv2 = conv_norm(out_channels, out_channels, 3, norm=last_norm)
        self.shortcut = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = conv_norm(in_channels, out_channels, 1, norm="", stride=stride)

    def activate(self, x: Tensor) -> Tensor:
        """Return the input of the first convolution for the block's input; of the same shape."""
        return F.relu(self.norm1(x))

    def shared_input(self, x: Tensor) -> Tensor:
        """Compute what branch and shortcut share of the block's input: the first norm and ReLU if
        the shortcut is a convolution, nothing if it is the identity."""
        return x if self.shortcut is None else self.activate(x)

    def residual_input(self, x: Tensor) -> Tensor:
        """Like the base class, but from the output of :meth:`shared_input`."""
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


@register_shaken_block(WideBlock)
class ShakenWideBlock(ShakenBlock, WideBlock):
    """:class:`WideBlock` with ShakeDrop."""

    ENDS_IN_RELU = False

    def forward(self, x: Tensor) -> Tensor:
        """Compute the same as :class:`WideBlock`, perturbed in training."""
        # Computed once for branch and shortcut, so that the norm sees the input once per step.
        return super().forward(self.shared_input(x))
