"""Residual blocks without the ReLU after the addition ("EraseReLU"), and without ShakeDrop."""

from __future__ import annotations

from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, DeformBottleneckBlock
from torch import Tensor

from .residual_branch import BasicBranch, BottleneckBranch, DeformBottleneckBranch, ResidualBranch


class _LinearBlock(ResidualBranch, CNNBlockBase):
    """``y = x + F(x)``; x is projected where the number of channels changes."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.residual(x)
        out += x if self.shortcut is None else self.shortcut(x)
        return out


class LinearBasicBlock(BasicBranch, _LinearBlock, BasicBlock):
    """:class:`detectron2.modeling.backbone.resnet.BasicBlock` without its final ReLU."""


class LinearBottleneckBlock(BottleneckBranch, _LinearBlock, BottleneckBlock):
    """:class:`detectron2.modeling.backbone.resnet.BottleneckBlock` without its final ReLU."""


class LinearDeformBottleneckBlock(DeformBottleneckBranch, _LinearBlock, DeformBottleneckBlock):
    """:class:`detectron2.modeling.backbone.resnet.DeformBottleneckBlock` without its final ReLU."""
