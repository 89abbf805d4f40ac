"""The residual branches of detectron2's blocks, without the addition of the shortcut.

detectron2 implements the forward pass of a block in one function. These mixins implement the part
up to the last convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det.layers import can_fuse, has_global_hook, is_hooked


class ResidualBranch:
    """The parts of a residual branch that the junction needs."""

    # TorchScript compiles properties, but does not support modules as properties.
    __jit_unused_properties__ = ["last_conv"]

    @property
    def last_conv(self) -> Conv2d:
        """The convolution, with its norm, that ends the residual branch."""
        raise NotImplementedError

    def residual_input(self, x: Tensor) -> Tensor:
        """The input of :attr:`last_conv`, from the input of the block; both (N, C, H, W)."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        """F(x), of :attr:`last_conv`, from the input of the block; both (N, C, H, W)."""
        return self.last_conv(self.residual_input(x))  # Not for TorchScript, see above.


class BasicBranch(ResidualBranch):
    """The branch of :class:`detectron2.modeling.backbone.resnet.BasicBlock`."""

    if TYPE_CHECKING:  # TorchScript would treat them as attributes of types unknown to it.
        conv1: nn.Module
        conv2: Conv2d

    @property
    def last_conv(self) -> Conv2d:
        return self.conv2

    def residual_input(self, x: Tensor) -> Tensor:
        return F.relu_(self.conv1(x))

    def residual(self, x: Tensor) -> Tensor:
        return self.conv2(self.residual_input(x))


class BottleneckBranch(ResidualBranch):
    """The branch of :class:`detectron2.modeling.backbone.resnet.BottleneckBlock`."""

    if TYPE_CHECKING:
        conv1: nn.Module
        conv2: nn.Module
        conv3: Conv2d

    @property
    def last_conv(self) -> Conv2d:
        return self.conv3

    def residual_input(self, x: Tensor) -> Tensor:
        return F.relu_(self.conv2(F.relu_(self.conv1(x))))

    def residual(self, x: Tensor) -> Tensor:
        return self.conv3(self.residual_input(x))


class DeformBottleneckBranch(BottleneckBranch):
    """The branch of :class:`detectron2.modeling.backbone.resnet.DeformBottleneckBlock`."""

    if TYPE_CHECKING:
        conv2_offset: nn.Module
        deform_modulated: bool

    def residual_input(self, x: Tensor) -> Tensor:
        out = F.relu_(self.conv1(x))
        offset = self.conv2_offset(out)
        if not self.deform_modulated:
            return F.relu_(self.conv2(out, offset))
        offset_x, offset_y, mask = torch.chunk(offset, 3, dim=1)
        return F.relu_(self.conv2(out, torch.cat((offset_x, offset_y), dim=1), mask.sigmoid()))


def before_norm(branch: ResidualBranch, x: Tensor) -> tuple[Tensor, Optional[nn.Module]]:
    """A residual, and the norm that the junction still has to apply; None if it was applied.

    The norm is left to the junction if that can compute both at once, and neither the convolution
    nor the norm has a hook. Subclasses and quantized modules may compute anything, so they run.

    Args:
        branch: a branch that ends in a convolution with a norm.
        x: its input, (N, C, H, W).
    """
    conv = branch.last_conv
    is_plain = type(conv) is Conv2d and conv.activation is None and not is_hooked(conv)
    if not is_plain or not can_fuse(conv.norm, x.device):
        return branch.residual(x), None
    if is_hooked(conv.norm) or has_global_hook():
        return branch.residual(x), None
    f = branch.residual_input(x)
    # Like detectron2's Conv2d, which ignores padding_mode and pads with zeros.
    args = conv.stride, conv.padding, conv.dilation, conv.groups
    return F.conv2d(f, conv.weight, conv.bias, *args), conv.norm
