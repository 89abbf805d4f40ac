"""Residual blocks of detectron2 whose residual passes through ShakeDrop's junction."""

from __future__ import annotations

from typing import NoReturn

from detectron2.layers import CNNBlockBase, Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BottleneckBlock,
    DeformBottleneckBlock,
)
from torch import Tensor
from torch.nn import functional as F

from shakedrop_det.layers import (
    Draw,
    Scales,
    ScaleSampler,
    ShakeDropSpec,
    conv_junction,
    expected_junction,
    frozen_affine,
    junction,
    postpone_branch,
    skip_branch,
    takes_scales,
    unseen_conv,
)
from shakedrop_det.modeling.cifar.pyramid_blocks import PyramidBasicBlock, PyramidBottleneckBlock

from .branch import Branch
from .fusion import (
    can_join_conv,
    conv_with_frozen_norm,
    conv_without_norm,
    is_plain,
)
from .replace import shallow_copy
from .residual_branch import BasicBranch, BottleneckBranch, DeformBottleneckBranch, ResidualBranch


class ShakenBlock(ResidualBranch, CNNBlockBase):
    """What the shaken residual blocks share: the junction, and when it is random.

    Such a block is made from a stock one, see :meth:`from_block`; it has the parameters, buffers
    and state_dict keys of that block. Subclasses mix in the residual branch.
    """

    spec: ShakeDropSpec
    survival_prob: float
    frozen: bool
    noise: bool

    OWN_ATTRIBUTES = ("spec", "survival_prob", "frozen", "noise", "_store", "_position")
    """What a shaken block has beyond the stock one."""

    NUM_BRANCHES = 1
    ENDS_IN_RELU = True
    """Whether the stock block has a ReLU after the addition."""

    @classmethod
    def from_block(
        cls, block: CNNBlockBase, *, spec: ShakeDropSpec, survival_prob: float
    ) -> "ShakenBlock":
        """Make a shaken block that shares the parameters, buffers and hooks of ``block``.

        Args:
            block: a residual block of the type that this class derives from.
            spec: ShakeDrop's settings.
            survival_prob: p_l of this block.

        Raises:
            ValueError: if the spec asks for Shake-Shake, and the block has one branch.
        """
        if spec.branches == "shake_shake" and cls.NUM_BRANCHES == 1:
            raise ValueError(
                f"branches 'shake_shake' needs residual blocks of two branches, and "
                f"{type(block).__name__} has one: set MODEL.SHAKEDROP.BRANCHES to 'sum', or "
                "MODEL.BACKBONE.NAME to 'build_shake_shake_backbone'"
            )
        shaken = shallow_copy(block, cls)
        shaken.spec = spec
        shaken.survival_prob = survival_prob
        shaken.noise = True
        parameters = list(block.parameters())
        shaken.frozen = bool(parameters) and not any(p.requires_grad for p in parameters)
        return shaken

    @property
    def num_draws(self) -> int:
        """How many entries of a sampler's draws the block takes, one after the other."""
        return 1

    def test_scales(self) -> list[tuple[Conv2d, float]]:
        """The last convolution of each branch, and what its output is multiplied by at test
        time."""
        return [(self.last_conv, self.spec.test_scale(self.survival_prob))]

    def draw_from(self, sampler: ScaleSampler, position: int) -> None:
        """Take this block's training scales from entry ``position`` of ``sampler``'s draws, and
        from those after it if :attr:`num_draws` is more than 1."""
        self._store = sampler.store  # Not the module: that is registered once, where it runs.
        self._position = position

    def is_perturbed(self) -> bool:
        """Whether training perturbs this block: not if it is frozen, or always survives."""
        return not self.frozen and self.survival_prob < 1.0

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
        if self.survival_prob == 1.0:  # never perturbed
            return self._unscaled(x)
        if self.training and self.noise and self.is_perturbed():
            return self._perturbed(x)
        return self._expected(x)

    @property
    def _relu(self) -> bool:
        return self.ENDS_IN_RELU and not self.spec.erase_relu

    def _shortcut(self, x: Tensor) -> Tensor:
        return x if self.shortcut is None else self.shortcut(x)

    def _unscaled(self, x: Tensor) -> Tensor:
        """The arithmetic of the stock block."""
        out = self.last_conv(self.residual_input(x))
        out += self._shortcut(x)
        return F.relu_(out) if self._relu else out

    def _expected(self, x: Tensor) -> Tensor:
        """As at test time."""
        residual = self.last_conv(self.residual_input(x))
        scale = self.spec.test_scale(self.survival_prob)
        return expected_junction(self._shortcut(x), residual, scale, relu=self._relu)

    def _perturbed(self, x: Tensor) -> Tensor:
        """One training step, by the way that costs least."""
        spec = self.spec
        draw = self._store.draw(self._position, x)
        gate = draw.gate(self._position)
        # Then nobody else sees what the last convolution computes.
        plain = spec.fuse != "none" and is_plain(self.last_conv)
        takes = plain and takes_scales(self.last_conv.norm)
        if gate and not spec.inverted and not takes:  # both scales are 1
            return self._unscaled(x)
        if gate is False and spec.alpha == (0.0, 0.0) and spec.skip != "never":
            branch = Branch(self)
            if spec.beta == (0.0, 0.0) and branch.can_be_skipped(x, spec.skip):
                return skip_branch(self._shortcut(x), branch.parameters(), relu=self._relu)
            if plain and branch.can_be_postponed(self.last_conv, x):
                return self._postponed(x, draw, branch)
        return self._joined(x, draw) if plain else self._joined_as_a_whole(x, draw)

    def _postponed(self, x: Tensor, draw: Draw, branch: Branch) -> Tensor:
        """The branch is dropped, and its gradient asked for."""
        shortcut, conv = self._shortcut(x), self.last_conv
        scales = draw.scales(self._position, shortcut)

        def run(x: Tensor, *parameters: Tensor) -> Tensor:
            with branch.holding(parameters):
                f, (weight, _) = self.residual_input(x), frozen_affine(conv.norm)
                return unseen_conv(conv, f, scale=scales.backward, weight=weight)

        return postpone_branch(shortcut, x, run, branch.parameters(), relu=self._relu)

    def _joined(self, x: Tensor, draw: Draw) -> Tensor:
        """The last norm, and where that saves time its convolution, go into the junction."""
        spec, relu, conv, norm = self.spec, self._relu, self.last_conv, self.last_conv.norm
        branch_input = self.residual_input(x)
        if spec.level in ("batch", "image") and can_join_conv(conv, branch_input):
            shortcut = self._shortcut(x)
            scales = draw.scales(self._position, shortcut)
            assert isinstance(scales, Scales)
            fold, skip = spec.fuse == "conv", spec.skip != "never"
            return conv_junction(
                shortcut, branch_input, conv, norm, scales, relu=relu, fold=fold, skip=skip
            )
        if type(norm) is FrozenBatchNorm2d and spec.fuse == "conv":
            residual, norm = conv_with_frozen_norm(conv, branch_input), None
        else:
            residual = conv_without_norm(conv, branch_input)
        scales = draw.scales(self._position, residual)
        return junction(self._shortcut(x), residual, scales, norm=norm, relu=relu, inplace=True)

    def _joined_as_a_whole(self, x: Tensor, draw: Draw) -> Tensor:
        """The last convolution and its norm are called like any other module."""
        residual = self.residual(x)
        scales = draw.scales(self._position, residual)
        return junction(self._shortcut(x), residual, scales, relu=self._relu)

    def __prepare_scriptable__(self) -> NoReturn:
        raise TypeError(
            "torch.jit.script cannot compile the random part of blocks under ShakeDrop: script "
            "shakedrop_det.fold(copy.deepcopy(model)), which computes the same at test time. "
            "torch.jit.trace needs no such step."
        )

    def extra_repr(self) -> str:
        scales = dict.fromkeys(f"{scale:.4g}" for _, scale in self.test_scales())
        frozen = ", frozen" if self.frozen else ""
        return f"survival_prob={self.survival_prob:.4g}, test_scale={' and '.join(scales)}{frozen}"


class ShakenBasicBlock(BasicBranch, ShakenBlock, BasicBlock):
    """:class:`detectron2.modeling.backbone.resnet.BasicBlock` under ShakeDrop."""


class ShakenBottleneckBlock(BottleneckBranch, ShakenBlock, BottleneckBlock):
    """:class:`detectron2.modeling.backbone.resnet.BottleneckBlock` under ShakeDrop."""


class ShakenDeformBottleneckBlock(DeformBottleneckBranch, ShakenBlock, DeformBottleneckBlock):
    """:class:`detectron2.modeling.backbone.resnet.DeformBottleneckBlock` under ShakeDrop."""


class ShakenPyramidBasicBlock(ShakenBlock, PyramidBasicBlock):
    """:class:`PyramidBasicBlock` under ShakeDrop."""

    ENDS_IN_RELU = False


class ShakenPyramidBottleneckBlock(ShakenBlock, PyramidBottleneckBlock):
    """:class:`PyramidBottleneckBlock` under ShakeDrop."""

    ENDS_IN_RELU = False
