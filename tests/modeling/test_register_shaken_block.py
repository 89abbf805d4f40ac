"""@register_shaken_block: a residual block of one's own under ShakeDrop, and folded again."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import CNNBlockBase, Conv2d
from torch import Tensor, nn

from shakedrop_det import fold, register_shaken_block, shake
from shakedrop_det.modeling import SHAKEN_BLOCKS, ShakenBlock
from shakedrop_det.modeling.advice import warn_of_frozen_norms
from shakedrop_det.modeling.initialization import zero_init_residual

from ..paper_form import paper_form


def test_a_block_of_ones_own_is_taught_by_a_decorator() -> None:
    stack = nn.Sequential(OwnBlock(), OwnBlock())
    spec = paper_form(alpha=(0, 1), survival_prob=0.0, decay="constant")
    shaken = shake(copy.deepcopy(stack), spec)
    assert [type(block) for block in shaken] == [ShakenOwnBlock] * 2
    assert list(shaken.state_dict()) == list(stack.state_dict())
    x = torch.randn(4, 6, 5, 5)
    assert not torch.equal(shaken.train()(x), shaken(x))
    expected = shaken.eval()(x)
    folded = fold(shaken)
    assert [type(block) for block in folded] == [OwnBlock] * 2
    torch.testing.assert_close(folded(x), expected)


class OwnBlock(CNNBlockBase):
    """A residual block that an extension might bring."""

    def __init__(self) -> None:
        super().__init__(6, 6, 1)
        self.shortcut = None
        self.first = Conv2d(6, 6, 1)
        self.second = Conv2d(6, 6, 1, norm=nn.BatchNorm2d(6))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.first(x).tanh())).relu()


@register_shaken_block(OwnBlock)
class ShakenOwnBlock(ShakenBlock, OwnBlock):
    @property
    def last_conv(self) -> Conv2d:
        return self.second

    def residual_input(self, x: Tensor) -> Tensor:
        return self.first(x).tanh()


def test_a_block_without_a_linear_counterpart_is_not_folded_where_it_needs_one() -> None:
    block = shake(OwnBlock(), paper_form(alpha=(-1, 1), erase_relu=True))
    before = copy.deepcopy(block.state_dict())
    with pytest.raises(ValueError, match="ShakenOwnBlock has no plain counterpart .*linear="):
        fold(block)
    assert type(block) is ShakenOwnBlock
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())


def test_the_decorator_wants_a_class_that_derives_from_both() -> None:
    with pytest.raises(TypeError, match="must derive from ShakenBlock and OwnBlock"):
        register_shaken_block(OwnBlock)(ShakenBlock)


class ScaledBlock(OwnBlock):
    """With a parameter of its own in the branch, as LayerScale has."""

    def __init__(self) -> None:
        super().__init__()
        self.second = Conv2d(6, 6, 1)
        self.gamma = nn.Parameter(torch.full((6, 1, 1), 0.5))


@register_shaken_block(ScaledBlock)
class ShakenScaledBlock(ShakenOwnBlock, ScaledBlock):
    def residual_input(self, x: Tensor) -> Tensor:
        return self.gamma * self.first(x)


def test_a_parameter_of_the_block_itself_has_a_gradient_of_0_if_the_branch_is_skipped() -> None:
    block = shake(ScaledBlock(), paper_form(beta=(0, 0), survival_prob=0.0, decay="constant"))
    block.train()(torch.randn(2, 6, 5, 5)).sum().backward()
    assert dict(block.named_parameters()).keys() >= {"gamma"}
    assert all(p.grad is not None and not p.grad.any() for p in block.parameters())


def test_a_class_with_shakedrop_cannot_be_built_and_says_what_can() -> None:
    with pytest.raises(TypeError, match="build the network with OwnBlock, then apply .*shake"):
        ShakenOwnBlock()
    with pytest.raises(TypeError, match="ShakenBlock cannot be built"):
        ShakenBlock()


def test_a_residual_of_which_folding_knows_nothing_is_refused() -> None:
    """fold() would multiply the test scale into the convolution, before a norm that divides it
    away."""
    with pytest.raises(TypeError, match="Own defines residual, and fold.* could not tell which"):

        @register_shaken_block(OwnBlock)
        class Own(ShakenBlock, OwnBlock):
            def residual(self, x: Tensor) -> Tensor:
                return self.second(self.first(x).tanh()) / 2

    assert SHAKEN_BLOCKS[OwnBlock] is ShakenOwnBlock


class TorchBlock(CNNBlockBase):
    """With convolutions of torch, which have no norm."""

    def __init__(self) -> None:
        super().__init__(6, 6, 1)
        self.shortcut = None
        self.conv1 = nn.Conv2d(6, 6, 1)
        self.conv2 = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv2(self.conv1(x).tanh())).relu()


@register_shaken_block(TorchBlock)
class ShakenTorchBlock(ShakenBlock, TorchBlock):
    @property
    def last_conv(self) -> nn.Conv2d:
        return self.conv2

    def residual_input(self, x: Tensor) -> Tensor:
        return self.conv1(x).tanh()


def test_a_convolution_of_torch_may_end_a_branch() -> None:
    block = shake(TorchBlock(), paper_form(survival_prob=0.5))
    warn_of_frozen_norms(get_cfg(), block)
    with pytest.raises(ValueError, match="trainable norm at the end .* has NoneType"):
        zero_init_residual(block)
    x = torch.randn(2, 6, 5, 5)
    expected = block.eval()(x)
    torch.testing.assert_close(fold(block)(x), expected)
