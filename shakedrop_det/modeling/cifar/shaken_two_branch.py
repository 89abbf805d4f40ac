"""Blocks of two branches under ShakeDrop, or under Shake-Shake."""

from __future__ import annotations

from typing import Optional

from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det.layers import Scales, expected_junction, junction, skip_branch
from shakedrop_det.layers.draw import Draw
from shakedrop_det.layers.shake_shake import complement
from shakedrop_det.modeling.blocks import ShakenBlock
from shakedrop_det.modeling.branch import Branch
from shakedrop_det.modeling.fusion import conv_without_norm, is_plain
from shakedrop_det.modeling.residual_branch import ResidualBranch

from .two_branch_blocks import TwoBranchBlock


class ShakenTwoBranchBlock(ShakenBlock, TwoBranchBlock):
    """:class:`TwoBranchBlock` by the spec's ``branches``.

    * "sum": ``y = x + s (F1 + F2)``, type A of the ShakeDrop paper;
    * "each": ``y = x + s1 F1 + s2 F2``, type B; both branches survive with probability p_l;
    * "shake_shake": ``y = x + s F1 + (1 - s) F2``, see :func:`complement`.
    """

    NUM_BRANCHES = 2
    ENDS_IN_RELU = False

    @property
    def num_draws(self) -> int:
        return 2 if self.spec.branches == "each" else 1

    def test_scales(self) -> list[tuple[Conv2d, float]]:
        first = self.spec.test_scale(self.survival_prob)
        second = 1 - first if self.spec.branches == "shake_shake" else first
        return [(self.branch1.last_conv, first), (self.branch2.last_conv, second)]

    def _unscaled(self, x: Tensor) -> Tensor:
        return TwoBranchBlock.forward(self, x)

    def _expected(self, x: Tensor) -> Tensor:
        active = F.relu(x)
        out = self._shortcut_of(x, active)
        branches = self.branch1, self.branch2
        for branch, (_, scale) in zip(branches, self.test_scales(), strict=True):
            out = expected_junction(out, branch.residual(active), scale, relu=False)
        return out

    def _perturbed(self, x: Tensor) -> Tensor:
        draw = self._store.draw(self._position, x)
        if self.spec.branches == "sum":
            return self._perturbed_sum(x, draw)
        active = F.relu(x)
        out = self._shortcut_of(x, active)
        scales = None
        for index, branch in enumerate((self.branch1, self.branch2)):
            residual, norm = self._before_norm(branch, active)
            if scales is None or self.spec.branches == "each":
                scales = draw.scales(self._position + index, residual)
            else:
                assert isinstance(scales, Scales)  # the spec allows no level with others
                scales = complement(scales)
            out = junction(out, residual, scales, norm=norm, relu=False)
        return out

    def _perturbed_sum(self, x: Tensor, draw: Draw) -> Tensor:
        spec = self.spec
        gate = draw.gate(self._position)
        if gate and not spec.inverted:  # both scales are 1
            return self._unscaled(x)
        dropped = gate is False and spec.alpha == spec.beta == (0.0, 0.0) and spec.skip != "never"
        active = F.relu(x)
        if dropped and (branch := Branch(self)).can_be_skipped(x, spec.skip):
            return skip_branch(self._shortcut_of(x, active), branch.parameters(), relu=False)
        # In the order of the stock block, which other processes may run in this step.
        residual = self.branch1.residual(active)
        residual += self.branch2.residual(active)
        scales = draw.scales(self._position, residual)
        return junction(self._shortcut_of(x, active), residual, scales, relu=False)

    def _before_norm(
        self, branch: ResidualBranch, active: Tensor
    ) -> tuple[Tensor, Optional[nn.Module]]:
        """The residual, and the norm that is left to the junction, if any."""
        conv = branch.last_conv
        if self.spec.fuse == "none" or not is_plain(conv):
            return branch.residual(active), None
        return conv_without_norm(conv, branch.residual_input(active)), conv.norm

    def _shortcut_of(self, x: Tensor, active: Tensor) -> Tensor:
        return x if self.shortcut is None else self.shortcut(active)
