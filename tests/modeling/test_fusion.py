"""Other ways to compute or leave out a branch give what calling each module gives."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, get_norm
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import Tensor, nn

from shakedrop_det import ShakeDropSpec, shake
from shakedrop_det.layers import frozen_affine, unseen_conv
from shakedrop_det.modeling.branch import Branch
from shakedrop_det.modeling.fusion import (
    can_join_conv,
    conv_with_frozen_norm,
    conv_without_norm,
    is_plain,
)

from .networks import group_norm, randomize_norms, running_convolutions

CONVS = {
    "1x1": {"kernel_size": 1},
    "3x3": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "grouped": {"kernel_size": 3, "padding": (1, 0), "groups": 2},
    "with bias": {"kernel_size": 1, "bias": True},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "same": {"kernel_size": 3, "padding": "same"},
}


class TensorOfSomebody(Tensor):
    """A kind of tensor that is not torch's own."""


def make_conv(name: str, norm: str = "FrozenBN") -> Conv2d:
    conv = Conv2d(4, 6, **{"bias": False, **CONVS[name]}, norm=get_norm(norm, 6)).double()
    randomize_norms(conv)
    return conv


def feature_map(height: int = 7, width: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = 2, 4, height, width
    return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_with_its_norm_folded_in_is_both(name) -> None:
    conv, x = make_conv(name), feature_map()
    torch.testing.assert_close(conv_with_frozen_norm(conv, x), conv(x))


@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_and_its_norm_apart_are_both(name) -> None:
    conv, x = make_conv(name), feature_map()
    torch.testing.assert_close(conv.norm(conv_without_norm(conv, x)), conv(x))


@pytest.mark.parametrize("size", [(7, 8), (20, 20)], ids=["small", "large"])
@pytest.mark.parametrize("scale_shape", [(1, 1, 1, 1), (2, 1, 1, 1), (2, 6, 1, 1), (1, 6, 1, 1)])
@pytest.mark.parametrize("name", [name for name in CONVS if name not in ("with bias", "same")])
def test_an_unseen_convolution_has_shape_and_gradients_of_one_that_ran(
    name, scale_shape, size
) -> None:
    """Both where there are more numbers in the output and where there are more in the weight."""
    conv, x = make_conv(name), feature_map(*size)
    scale, (weight, _) = torch.randn(scale_shape, dtype=x.dtype), frozen_affine(conv.norm)
    ran = scale * weight * conv_without_norm(conv, x)
    unseen = unseen_conv(conv, x, scale=scale, weight=weight)
    assert unseen.shape == ran.shape and not unseen.any()
    assert unseen.untyped_storage().nbytes() == x.element_size()
    gradient = torch.randn(ran.shape, dtype=ran.dtype)
    for a, b in zip(
        torch.autograd.grad(unseen, [x, conv.weight], gradient),
        torch.autograd.grad(ran, [x, conv.weight], gradient),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_an_unseen_convolution_of_half_precision_gives_the_weight_a_gradient_of_its_own() -> None:
    conv, x = make_conv("3x3").float(), feature_map().detach().bfloat16().requires_grad_()
    weight, _ = frozen_affine(conv.norm)
    out = unseen_conv(conv, x, scale=torch.ones(2, 1, 1, 1), weight=weight)
    assert out.dtype == torch.bfloat16
    out.backward(torch.ones_like(out))
    assert x.grad.dtype == torch.bfloat16 and conv.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d, nn.SyncBatchNorm, "naiveSyncBN", "LN"])
def test_a_convolution_whose_norm_the_junction_does_not_know_is_called_as_a_whole(norm) -> None:
    assert is_plain(Conv2d(4, 6, 1, norm=get_norm("BN", 6)))
    assert not is_plain(Conv2d(4, 6, 1, norm=get_norm(norm, 6)))


class TwiceFrozenBN(FrozenBatchNorm2d):
    """Computes something else than its base class."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class TwiceBN(nn.BatchNorm2d):
    """Computes something else than its base class."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_is_joined_where_the_junction_can_compute_it(name) -> None:
    assert can_join_conv(make_conv(name), feature_map()) == (name not in ("with bias", "same"))


@pytest.mark.parametrize("norm", ["BN", group_norm, "", "naiveSyncBN", TwiceFrozenBN])
def test_a_convolution_whose_norm_needs_its_output_is_neither_joined_nor_postponed(norm) -> None:
    conv = Conv2d(4, 6, 1, bias=False, norm=get_norm(norm, 6)).double()
    assert not can_join_conv(conv, feature_map())
    assert not Branch(nn.Sequential(conv)).can_be_postponed(conv, feature_map())


def test_a_convolution_is_joined_only_where_its_output_has_the_dtype_of_its_input() -> None:
    conv = make_conv("1x1")
    assert not can_join_conv(conv.float(), feature_map())
    x = feature_map().float()
    assert can_join_conv(conv, x)
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert can_join_conv(conv, x) == (not enabled)
            assert not can_join_conv(conv, x.bfloat16()), "the weight has another dtype"


def test_a_convolution_is_not_joined_where_values_cannot_be_read() -> None:
    conv = make_conv("1x1")
    assert not can_join_conv(conv.to("meta"), feature_map().to("meta"))
    found = []
    torch.func.vmap(lambda x: found.append(can_join_conv(conv, x[None])) or x)(feature_map())
    assert found == [False]


def test_what_somebody_watches_or_changed_is_called_as_a_whole() -> None:
    def hooked(conv: Conv2d) -> Conv2d:
        conv.register_forward_hook(lambda *_: None)
        return conv

    def hooked_norm(conv: Conv2d) -> Conv2d:
        conv.norm.register_forward_pre_hook(lambda *_: None)
        return conv

    def patched(conv: Conv2d) -> Conv2d:
        conv.forward = lambda x: x
        return conv

    def parametrized(conv: Conv2d) -> Conv2d:
        return nn.utils.parametrizations.weight_norm(conv)

    def subclass(conv: Conv2d) -> Conv2d:
        conv.__class__ = type("Conv2dOfSomebody", (Conv2d,), {})
        return conv

    def quantized(conv: Conv2d) -> Conv2d:
        """As by libraries that exchange the weight for a tensor that computes in its own way."""
        conv.weight = nn.Parameter(conv.weight.detach().as_subclass(TensorOfSomebody))
        return conv

    assert is_plain(make_conv("1x1"))
    for change in (hooked, hooked_norm, patched, parametrized, subclass, quantized):
        assert not is_plain(change(make_conv("1x1")))


@pytest.mark.parametrize("norm", [TwiceFrozenBN, TwiceBN, nn.InstanceNorm2d])
@pytest.mark.parametrize("fuse", ["norm", "conv"])
@pytest.mark.parametrize("level", ["image", "pixel"])
def test_a_norm_that_is_not_known_is_called_and_keeps_its_output(level, fuse, norm) -> None:
    found = []
    for how in (fuse, "none"):
        torch.manual_seed(0)
        block = BasicBlock(4, 4, norm=norm).double()
        spec = ShakeDropSpec(survival_prob=0.0, alpha=(0.5, 1), level=level, fuse=how)
        block = shake(block, spec).train()
        x = feature_map()
        out = block(x)
        found.append((out, *torch.autograd.grad(out.square().sum(), [x, block.conv2.weight])))
    for fused, plain in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain)


@pytest.mark.parametrize("skip", ["never", "exact", "always"])
@pytest.mark.parametrize("norm", ["FrozenBN", "BN", group_norm, ""])
def test_under_autocast_a_step_has_the_dtype_of_stock_whatever_is_dropped(norm, skip) -> None:
    """A float32 input makes a difference between running a branch and leaving it out."""
    stock = nn.Sequential(*(BasicBlock(8, 8, norm=norm) for _ in range(3)))
    spec = ShakeDropSpec(beta=(0, 0), skip=skip)
    shaken = shake(copy.deepcopy(stock), spec).train()
    x = torch.randn(2, 8, 6, 6)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        expected = stock(x).dtype
        assert {shaken(x).dtype for _ in range(20)} == {expected}


def convolutions(network: nn.Module) -> list[Tensor]:
    """The weights of those that run in a forward pass."""
    with running_convolutions() as weights:
        network(torch.randn(2, 4, 6, 6))
    return weights


@pytest.mark.parametrize("fuse", ["none", "norm", "conv"])
def test_a_frozen_norm_is_folded_into_the_convolution_only_if_asked_to(fuse) -> None:
    spec = ShakeDropSpec(alpha=(-1, 1), survival_prob=0.0, decay="constant", fuse=fuse)
    block = BasicBlock(4, 4, norm="FrozenBN")
    first, last = convolutions(shake(nn.Sequential(block), spec).train())
    assert first is block.conv1.weight
    assert (last is not block.conv2.weight) == (fuse == "conv")
