"""The residual branches of detectron2's blocks, without the addition of the shortcut.

detectron2 implements the forward pass of a block in one function. These mixins implement the part
up to the last convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional as F


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
