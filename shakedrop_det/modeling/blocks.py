"""detectron2's residual blocks with ShakeDrop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import ClassVar, NoReturn, Optional, TypeVar

import torch
from detectron2.layers import CNNBlockBase, Conv2d
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, DeformBottleneckBlock
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det.layers import (
    Scales,
    ShakeDropSpec,
    can_skip,
    draw_gate,
    draw_scales,
    expected_junction,
    junction,
    skip_branch,
)

from .linear_blocks import LinearBasicBlock, LinearBottleneckBlock, LinearDeformBottleneckBlock
from .residual_branch import (
    BasicBranch,
    BottleneckBranch,
    DeformBottleneckBranch,
    ResidualBranch,
    before_norm,
)

logger = logging.getLogger(__name__)


class ShakenBlock(ResidualBranch, CNNBlockBase):
    """Base class of residual blocks with ShakeDrop: the junction, and when it is random.

    :meth:`shake` turns a stock block into one by changing its class, which keeps parameters,
    buffers, hooks and state dict keys. A subclass is registered for its stock block with
    :func:`register_shaken_block`, and defines the residual branch: ``last_conv`` and
    ``residual_input``.
    """

    spec: ShakeDropSpec
    survival_prob: float
    frozen: bool
    """Whether no parameter is trained, when :meth:`train` was last called. Noise would be of no use
    then."""
    noise: bool
    advice: str
    """What the first training step of this block warns of; "" for nothing."""

    STOCK: ClassVar[type[CNNBlockBase]]
    """The class of the plain block."""

    LINEAR: ClassVar[Optional[type[CNNBlockBase]]] = None
    """The class of the plain block without the ReLU after the addition; None if there is none."""

    NUM_BRANCHES: ClassVar[int] = 1
    ENDS_IN_RELU: ClassVar[bool] = True
    """Whether the stock block has a ReLU after the addition."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """
        Raises:
            TypeError: always; :meth:`shake` makes such a block of a stock one.
        """
        stock = getattr(type(self), "STOCK", CNNBlockBase)
        raise TypeError(
            f"{type(self).__name__} cannot be built: build the network with {stock.__name__}, "
            "then apply shakedrop_det.shake to it"
        )

    @classmethod
    def check(cls, spec: ShakeDropSpec) -> None:
        """Raise an error if the spec requests Shake-Shake and the block has one branch.

        Raises:
            ValueError: naming the keys to set.
        """
        if spec.branches == "shake_shake" and cls.NUM_BRANCHES == 1:
            raise ValueError(
                f"branches 'shake_shake' needs residual blocks of two branches, and "
                f"{cls.STOCK.__name__} has one: set MODEL.SHAKEDROP.BRANCHES to 'sum', or "
                "MODEL.BACKBONE.NAME to 'build_shake_shake_backbone'"
            )

    @classmethod
    def shake(cls, block: CNNBlockBase, *, spec: ShakeDropSpec, survival_prob: float) -> None:
        """Apply ShakeDrop to a stock block, in place.

        Args:
            block: a block of the type :attr:`STOCK`.
            spec: ShakeDrop's settings, see :meth:`check`.
            survival_prob: p_l of this block.
        """
        block.__class__ = cls
        assert isinstance(block, ShakenBlock)
        block.spec = spec
        block.survival_prob = survival_prob
        block.noise = True
        block.advice = ""
        block.frozen = _is_frozen(block)

    def unshake(self) -> None:
        """Turn back into the plain block, in place; see :meth:`plain_type`."""
        plain_type = self.plain_type()
        for name in ("spec", "survival_prob", "frozen", "noise", "advice"):
            delattr(self, name)
        self.__class__ = plain_type

    def plain_type(self) -> type[CNNBlockBase]:
        """The class of the plain block, without the final ReLU if ShakeDrop erased it.

        Raises:
            ValueError: if there is no such class.
        """
        if not self.ENDS_IN_RELU or not self.spec.erase_relu:
            return self.STOCK
        if self.LINEAR is None:
            raise ValueError(
                f"{type(self).__name__} has no plain counterpart without the final ReLU: name one "
                "where it is registered, as in @register_shaken_block(Block, linear=Linear)"
            )
        return self.LINEAR

    def test_scales(self) -> list[tuple[Conv2d, float]]:
        """The last convolution of each branch, with the scale of its output at test time."""
        return [(self.last_conv, self.spec.test_scale(self.survival_prob))]

    def is_perturbed(self) -> bool:
        """Whether training perturbs this block: it is not frozen, and does not always survive."""
        return not self.frozen and self.survival_prob < 1.0

    def freeze(self) -> "ShakenBlock":
        """Freeze the block as detectron2 does, and let it behave as at test time."""
        super().freeze()
        self.frozen = True
        return self

    def train(self, mode: bool = True) -> "ShakenBlock":
        """Set the mode as ``nn.Module.train`` does, and note whether the block is frozen now."""
        super().train(mode)
        self.frozen = _is_frozen(self)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: of shape (N, C, H, W).

        Returns:
            Tensor: of shape (N, out_channels, H / stride, W / stride).
        """
        if self.training and self.noise and self.is_perturbed():
            if self.advice and not torch.compiler.is_compiling():
                logger.warning(self.advice)
                self.advice = ""
            return self._perturbed(x)
        if self.spec.inverted or self.survival_prob == 1.0:  # The test scale is 1.
            return self._plain(x)
        return self._expected(x)

    @property
    def _relu(self) -> bool:
        return self.ENDS_IN_RELU and not self.spec.erase_relu

    def _shortcut(self, x: Tensor) -> Tensor:
        return x if self.shortcut is None else self.shortcut(x)

    def _plain(self, x: Tensor) -> Tensor:
        """The arithmetic of the stock block."""
        out = self.residual(x)
        out += self._shortcut(x)
        return F.relu_(out) if self._relu else out

    def _expected(self, x: Tensor) -> Tensor:
        """As at test time."""
        residual = self.residual(x)
        scale = self.spec.test_scale(self.survival_prob)
        return expected_junction(self._shortcut(x), residual, scale, relu=self._relu)

    def _perturbed(self, x: Tensor) -> Tensor:
        """One training step."""
        gate = self._draw_gate(x)
        if gate is False and self.spec.drops_branches and self._can_skip():
            # The block's own as well, such as a learned scale.
            modules: list[nn.Module] = [self, *self.branch_modules()]
            parameters = [p for module in modules for p in module.parameters(recurse=False)]
            return skip_branch(self._shortcut(x), parameters, relu=self._relu)
        residual, norm = self._residual_and_norm(x)
        scales = self._draw_scales(residual, gate)
        return junction(self._shortcut(x), residual, scales, norm=norm, relu=self._relu)

    def _can_skip(self) -> bool:
        return can_skip(self.branch_modules(), skip=self.spec.skip)

    def _draw_gate(self, x: Tensor) -> bool | Tensor:
        p, level = self.survival_prob, self.spec.gate_level
        return draw_gate(p, gate_level=level, shape=x.shape, device=x.device)

    def _draw_scales(self, residual: Tensor, gate: bool | Tensor) -> Scales:
        return draw_scales(self.spec, self.survival_prob, gate, residual.shape, residual.device)

    def _residual_and_norm(self, x: Tensor) -> tuple[Tensor, Optional[nn.Module]]:
        """The residual, and the norm that the junction still has to apply."""
        return before_norm(self, x)

    def branch_modules(self) -> Iterator[nn.Module]:
        """All modules of the residual branches, that is, all except those of the shortcut."""
        for name, child in self.named_children():
            if name != "shortcut":
                yield from child.modules()

    def __prepare_scriptable__(self) -> NoReturn:
        raise TypeError(
            "torch.jit.script cannot compile the random part of blocks with ShakeDrop: script "
            "shakedrop_det.fold(copy.deepcopy(model)), which computes the same at test time. "
            "torch.jit.trace needs no such step."
        )

    def extra_repr(self) -> str:
        scales = dict.fromkeys(f"{scale:.4g}" for _, scale in self.test_scales())
        frozen = ", frozen" if self.frozen else ""
        return f"survival_prob={self.survival_prob:.4g}, test_scale={' and '.join(scales)}{frozen}"


def _is_frozen(block: nn.Module) -> bool:
    parameters = list(block.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


SHAKEN_BLOCKS: dict[type[CNNBlockBase], type[ShakenBlock]] = {}
"""The class with ShakeDrop for each residual block that :func:`shake` supports."""

Shaken = TypeVar("Shaken", bound=type[ShakenBlock])


def register_shaken_block(
    stock: type[CNNBlockBase], *, linear: Optional[type[CNNBlockBase]] = None
) -> Callable[[Shaken], Shaken]:
    """Register the decorated class as the version of a residual block with ShakeDrop.

    ::

        @register_shaken_block(MyBlock)
        class ShakenMyBlock(ShakenBlock, MyBlock):
            @property
            def last_conv(self):
                return self.conv2

            def residual_input(self, x):
                return F.relu(self.conv1(x))

    F(x) is ``last_conv(residual_input(x))``. A norm that follows the last convolution must
    therefore be part of it, as in detectron2's ``Conv2d(..., norm=norm)``: :func:`fold` multiplies
    the test scale into it.

    Args:
        stock: the residual block, with an attribute ``shortcut`` that is None for the identity.
        linear: the same block without the ReLU after the addition; :func:`fold` needs it for
            networks that were trained with ``erase_relu``.

    Raises:
        TypeError: if the decorated class does not derive from both, or defines ``residual``, which
            may then compute something else, without ``test_scales``.
    """

    def register(shaken: Shaken) -> Shaken:
        if not issubclass(shaken, ShakenBlock) or not issubclass(shaken, stock):
            raise TypeError(
                f"{shaken.__name__} must derive from ShakenBlock and {stock.__name__}, in this "
                "order"
            )
        if "residual" in vars(shaken) and "test_scales" not in vars(shaken):
            raise TypeError(
                f"{shaken.__name__} defines residual, and fold() could not tell which tensors "
                "scale its result: define residual_input and last_conv, with the norm as part of "
                "it, as in detectron2's Conv2d(norm=...), or define test_scales as well"
            )
        shaken.STOCK, shaken.LINEAR = stock, linear
        SHAKEN_BLOCKS[stock] = shaken
        return shaken

    return register


@register_shaken_block(BasicBlock, linear=LinearBasicBlock)
class ShakenBasicBlock(BasicBranch, ShakenBlock, BasicBlock):
    """:class:`detectron2.modeling.backbone.resnet.BasicBlock` with ShakeDrop."""


@register_shaken_block(BottleneckBlock, linear=LinearBottleneckBlock)
class ShakenBottleneckBlock(BottleneckBranch, ShakenBlock, BottleneckBlock):
    """:class:`detectron2.modeling.backbone.resnet.BottleneckBlock` with ShakeDrop."""


@register_shaken_block(DeformBottleneckBlock, linear=LinearDeformBottleneckBlock)
class ShakenDeformBottleneckBlock(DeformBottleneckBranch, ShakenBlock, DeformBottleneckBlock):
    """:class:`detectron2.modeling.backbone.resnet.DeformBottleneckBlock` with ShakeDrop."""
