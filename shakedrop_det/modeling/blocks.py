"""Residual blocks of detectron2 whose residual passes through ShakeDrop's junction."""

from __future__ import annotations

from typing import Dict, Type

import torch
from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BottleneckBlock,
    DeformBottleneckBlock,
)
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det.layers import ScaleSampler, ShakeDropSpec, expected_junction, junction


class ShakenBlock(CNNBlockBase):
    """What the shaken residual blocks share: the junction, and when it is random.

    Such a block is made from a stock one, see :meth:`from_block`; it has the parameters, buffers
    and state_dict keys of that block. Subclasses define the residual branch.
    """

    spec: ShakeDropSpec
    survival_prob: float
    frozen: bool
    noise: bool

    @classmethod
    def from_block(
        cls, block: CNNBlockBase, *, spec: ShakeDropSpec, survival_prob: float
    ) -> "ShakenBlock":
        """Make a shaken block that shares the parameters, buffers and hooks of ``block``.

        Args:
            block: a residual block of the type that this class derives from.
            spec: ShakeDrop's settings.
            survival_prob: p_l of this block.
        """
        shaken = cls.__new__(cls)
        # A shallow copy of each registry, so that replacing a child here leaves `block` alone.
        for name, value in vars(block).items():
            shaken.__dict__[name] = value.copy() if isinstance(value, dict) else value
        shaken.spec = spec
        shaken.survival_prob = survival_prob
        shaken.noise = True
        parameters = list(block.parameters())
        shaken.frozen = bool(parameters) and not any(p.requires_grad for p in parameters)
        return shaken

    def draw_from(self, sampler: ScaleSampler, position: int) -> None:
        """Take this block's training scales from entry ``position`` of ``sampler``'s draws."""
        self._store = sampler.store  # Not the module: that is registered once, where it runs.
        self._position = position

    @property
    def last_conv(self) -> nn.Module:
        """The convolution that ends the residual branch."""
        raise NotImplementedError

    def residual_input(self, x: Tensor) -> Tensor:
        """The residual branch up to the input of :attr:`last_conv`."""
        raise NotImplementedError

    def freeze(self) -> "ShakenBlock":
        """Make the block not trainable, as detectron2 does, and let it behave as at test time."""
        super().freeze()
        self.frozen = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: of shape (N, C, H, W).

        Returns:
            Tensor: of shape (N, out_channels, H / stride, W / stride).
        """
        residual = self.last_conv(self.residual_input(x))
        shortcut = x if self.shortcut is None else self.shortcut(x)
        relu = not self.spec.erase_relu
        if self.survival_prob == 1.0:  # never perturbed: the arithmetic of the stock block
            residual += shortcut
            return F.relu_(residual) if relu else residual
        if self.frozen or not (self.training and self.noise):
            scale = self.spec.test_scale(self.survival_prob)
            return expected_junction(shortcut, residual, scale, relu=relu)
        scales = self._store.scales(self._position, x, residual)
        return junction(shortcut, residual, scales, relu=relu)

    def extra_repr(self) -> str:
        test_scale = self.spec.test_scale(self.survival_prob)
        frozen = ", frozen" if self.frozen else ""
        return f"survival_prob={self.survival_prob:.4g}, test_scale={test_scale:.4g}{frozen}"


class ShakenBasicBlock(ShakenBlock, BasicBlock):
    """:class:`detectron2.modeling.backbone.resnet.BasicBlock` under ShakeDrop."""

    @property
    def last_conv(self) -> nn.Module:
        return self.conv2

    def residual_input(self, x: Tensor) -> Tensor:
        return F.relu_(self.conv1(x))


class ShakenBottleneckBlock(ShakenBlock, BottleneckBlock):
    """:class:`detectron2.modeling.backbone.resnet.BottleneckBlock` under ShakeDrop."""

    @property
    def last_conv(self) -> nn.Module:
        return self.conv3

    def residual_input(self, x: Tensor) -> Tensor:
        return F.relu_(self.conv2(F.relu_(self.conv1(x))))


class ShakenDeformBottleneckBlock(ShakenBlock, DeformBottleneckBlock):
    """:class:`detectron2.modeling.backbone.resnet.DeformBottleneckBlock` under ShakeDrop."""

    @property
    def last_conv(self) -> nn.Module:
        return self.conv3

    def residual_input(self, x: Tensor) -> Tensor:
        out = F.relu_(self.conv1(x))
        offset = self.conv2_offset(out)
        if not self.deform_modulated:
            return F.relu_(self.conv2(out, offset))
        offset_x, offset_y, mask = torch.chunk(offset, 3, dim=1)
        return F.relu_(self.conv2(out, torch.cat((offset_x, offset_y), dim=1), mask.sigmoid()))


SHAKEN_BLOCKS: Dict[Type[CNNBlockBase], Type[ShakenBlock]] = {
    BasicBlock: ShakenBasicBlock,
    BottleneckBlock: ShakenBottleneckBlock,
    DeformBottleneckBlock: ShakenDeformBottleneckBlock,
}
"""The shaken counterpart of each residual block of detectron2."""
