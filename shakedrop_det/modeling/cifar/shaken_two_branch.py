"""Blocks of two branches with ShakeDrop or Shake-Shake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det.layers import complement, expected_junction, junction

from ..blocks import ShakenBlock, register_shaken_block
from ..residual_branch import before_norm
from .two_branch_blocks import TwoBranchBlock


@register_shaken_block(TwoBranchBlock)
class ShakenTwoBranchBlock(ShakenBlock, TwoBranchBlock):
    """:class:`TwoBranchBlock` perturbed according to the spec's ``branches``.

    * "sum": ``y = x + s (F1 + F2)``, type A of the ShakeDrop paper;
    * "each": ``y = x + s1 F1 + s2 F2``, type B; both branches have survival probability p_l;
    * "shake_shake": ``y = x + s F1 + (1 - s) F2``, see :func:`complement`.
    """

    NUM_BRANCHES = 2
    ENDS_IN_RELU = False

    def test_scales(self) -> list[tuple[Conv2d, float]]:
        first = self.spec.test_scale(self.survival_prob)
        second = 1 - first if self.spec.branches == "shake_shake" else first
        return [(self.branch1.last_conv, first), (self.branch2.last_conv, second)]

    def residual(self, x: Tensor) -> Tensor:
        """Return ``F1 + F2`` for the block's input, (N, C, H, W)."""
        active = F.relu(x)
        out = self.branch1.residual(active)
        out += self.branch2.residual(active)
        return out

    def branch_modules(self) -> Iterator[nn.Module]:
        for branch in (self.branch1, self.branch2):
            for child in branch.children():
                yield from child.modules()

    def _shortcut(self, x: Tensor) -> Tensor:
        return x if self.shortcut is None else self.shortcut(F.relu(x))

    def _residual_and_norm(self, x: Tensor) -> tuple[Tensor, Optional[nn.Module]]:
        return self.residual(x), None  # Each branch applies its own norm.

    def _plain(self, x: Tensor) -> Tensor:
        return TwoBranchBlock.forward(self, x)

    def _expected(self, x: Tensor) -> Tensor:
        active = F.relu(x)
        out = self._shortcut(x)
        branches = self.branch1, self.branch2
        for branch, (_, scale) in zip(branches, self.test_scales(), strict=True):
            out = expected_junction(out, branch.residual(active), scale, relu=False)
        return out

    def _perturbed(self, x: Tensor) -> Tensor:
        if self.spec.branches == "sum":
            return super()._perturbed(x)
        active = F.relu(x)
        first, first_norm = before_norm(self.branch1, active)
        second, second_norm = before_norm(self.branch2, active)
        scales = self._draw_scales(first, self._draw_gate(first))
        out = junction(self._shortcut(x), first, scales, norm=first_norm, relu=False)
        if self.spec.branches == "each":
            scales = self._draw_scales(second, self._draw_gate(second))
        else:
            scales = complement(scales)
        return junction(out, second, scales, norm=second_norm, relu=False)
