"""Other ways to compute or leave out a branch give what calling each module gives."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, get_norm
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import nn
from torch.overrides import TorchFunctionMode

from shakedrop_det import ShakeDropSpec, shake
from shakedrop_det.layers import skip_conv
from shakedrop_det.modeling.fusion import (
    can_skip_conv,
    conv_with_frozen_norm,
    conv_without_norm,
    is_plain,
)

from .networks import group_norm, randomize_norms

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


class TensorOfSomebody(torch.Tensor):
    """A kind of tensor that is not torch's own."""


def make_conv(name: str, norm: str = "FrozenBN") -> Conv2d:
    conv = Conv2d(4, 6, **{"bias": False, **CONVS[name]}, norm=get_norm(norm, 6)).double()
    randomize_norms(conv)
    return conv


def feature_map() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 7, 8, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_with_its_norm_folded_in_is_both(name) -> None:
    conv, x = make_conv(name), feature_map()
    torch.testing.assert_close(conv_with_frozen_norm(conv, x), conv(x))


@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_and_its_norm_apart_are_both(name) -> None:
    conv, x = make_conv(name), feature_map()
    torch.testing.assert_close(conv.norm(conv_without_norm(conv, x)), conv(x))


@pytest.mark.parametrize("name", CONVS)
def test_a_skipped_convolution_has_shape_and_gradients_of_one_that_ran(name) -> None:
    conv, x = make_conv(name), feature_map()
    if not can_skip_conv(conv, x):
        assert name in ("with bias", "same")
        return
    ran, skipped = conv_without_norm(conv, x), skip_conv(conv, x)
    assert skipped.shape == ran.shape and not skipped.any()
    gradient = torch.randn(ran.shape, dtype=ran.dtype)
    for a, b in zip(
        torch.autograd.grad(skipped, [x, conv.weight], gradient),
        torch.autograd.grad(ran, [x, conv.weight], gradient),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("norm", ["BN", "GN", ""])
def test_a_convolution_whose_norm_needs_its_output_is_not_skipped(norm) -> None:
    conv = Conv2d(4, 32, 1, bias=False, norm=get_norm(norm, 32))
    assert not can_skip_conv(conv, torch.empty(0))


def test_a_convolution_that_autocast_would_run_in_another_dtype_is_not_skipped() -> None:
    conv = make_conv("1x1").float()
    for dtype, same in ((torch.float32, False), (torch.bfloat16, True)):
        x = torch.randn(2, 4, 7, 8, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16):
            assert (conv(x).dtype == dtype) == can_skip_conv(conv, x) == same


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


class TwiceFrozenBN(FrozenBatchNorm2d):
    """Computes something else than its base class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class TwiceBN(nn.BatchNorm2d):
    """Computes something else than its base class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


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


@pytest.mark.parametrize("relu", [True, False])
def test_a_skipped_branch_gives_each_parameter_a_gradient_of_zero(relu) -> None:
    """Or DistributedDataParallel would wait for it."""
    spec = ShakeDropSpec(
        beta=(0, 0), survival_prob=0.0, decay="constant", erase_relu=not relu, skip="exact"
    )
    block = BasicBlock(4, 6, stride=2, norm="FrozenBN")
    watched: list[int] = []
    shaken = shake(nn.Sequential(block), spec).train()
    shaken[0].conv1.weight.register_hook(lambda g: watched.append(g.count_nonzero().item()))
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    out = shaken(x)
    shortcut = shaken[0].shortcut(x)
    assert torch.equal(out, shortcut.relu() if relu else shortcut)
    gradient = torch.randn(out.shape)
    (grad_x,) = torch.autograd.grad(shortcut.relu() if relu else shortcut, x, gradient)
    out.backward(gradient)
    assert torch.equal(x.grad, grad_x)
    assert watched == [0]
    for name, parameter in shaken.named_parameters():
        assert parameter.grad is not None
        assert name.startswith("0.shortcut") or not parameter.grad.any()


def test_a_skipped_branch_does_not_run() -> None:
    spec = ShakeDropSpec(beta=(0, 0), survival_prob=0.0, decay="constant")
    block = BasicBlock(4, 4, norm="FrozenBN")
    nn.init.constant_(block.conv1.weight, float("nan"))
    shaken = shake(nn.Sequential(block), spec).train()
    assert isinstance(block.conv2.norm, FrozenBatchNorm2d)
    assert convolutions(shaken) == []


def convolutions(network: nn.Module) -> list[torch.Tensor]:
    """The weights of those that run in a forward pass."""
    weights: list[torch.Tensor] = []

    class Recorder(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.nn.functional.conv2d:
                weights.append(args[1])
            return function(*args, **(kwargs or {}))

    with Recorder():
        network(torch.randn(2, 4, 6, 6))
    return weights


@pytest.mark.parametrize("skip, expected", [("never", 2), ("exact", 1), ("always", 1)])
def test_the_last_convolution_of_a_dropped_branch_does_not_run(skip, expected) -> None:
    spec = ShakeDropSpec(survival_prob=0.0, decay="constant", skip=skip)
    shaken = shake(nn.Sequential(BasicBlock(4, 4, norm="FrozenBN")), spec).train()
    assert len(convolutions(shaken)) == expected


@pytest.mark.parametrize("fuse", ["none", "norm", "conv"])
def test_a_frozen_norm_is_folded_into_the_convolution_only_if_asked_to(fuse) -> None:
    spec = ShakeDropSpec(alpha=(-1, 1), survival_prob=0.0, decay="constant", fuse=fuse)
    block = BasicBlock(4, 4, norm="FrozenBN")
    first, last = convolutions(shake(nn.Sequential(block), spec).train())
    assert first is block.conv1.weight
    assert (last is not block.conv2.weight) == (fuse == "conv")


def test_a_hook_keeps_a_branch_running_but_one_on_the_shortcut_does_not() -> None:
    spec = ShakeDropSpec(beta=(0, 0), survival_prob=0.0, decay="constant")
    # With a hook only the last convolution is left out.
    for watched, expected in (("conv1", 2), ("shortcut", 1)):
        block = BasicBlock(4, 6, stride=2, norm="FrozenBN")
        getattr(block, watched).register_forward_hook(lambda *_: None)
        assert len(convolutions(shake(nn.Sequential(block), spec).train())) == expected
