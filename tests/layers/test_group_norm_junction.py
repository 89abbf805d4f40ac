"""The junction after GroupNorm, whose affine map takes the scales, against GroupNorm by itself."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from shakedrop_det.layers import Scales, junction
from tests.saved_tensors import saved_storages

from .reference import random_map, reference_junction

N, C, H, W = 3, 4, 5, 6
SHAPES = {
    "batch": (1, 1, 1, 1),
    "image": (N, 1, 1, 1),
    "channel": (N, C, 1, 1),
    "channel of the batch": (1, C, 1, 1),
}


class HalvedGroupNorm(nn.GroupNorm):
    """Computes something else than its base class."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


def make_norm(
    num_groups: int = 2, make: Callable[..., nn.GroupNorm] = nn.GroupNorm, **settings: bool
) -> nn.GroupNorm:
    norm = make(num_groups, C, **settings).double()
    for index, parameter in enumerate(norm.parameters()):
        parameter.data = random_map(C, seed=5 + index).detach()
    return norm


def random_scales(level: str, *, some_zero: bool = False) -> Scales:
    s, t = (random_map(*SHAPES[level], seed=seed).detach() for seed in (7, 8))
    if some_zero:
        s.view(-1)[::2], t.view(-1)[::3] = 0, 0
    return Scales(s, t)


def calls_of_forward() -> mock._patch:
    """Counts what still runs: within this context ``call_count`` is that of GroupNorm's forward."""
    return mock.patch.object(
        nn.GroupNorm, "forward", autospec=True, side_effect=nn.GroupNorm.forward
    )


def assert_equal_to_each_by_itself(
    x: Tensor, f: Tensor, scales: Scales, norm: nn.Module, *, relu: bool = True
) -> None:
    inputs = [t for t in (x, f, *norm.parameters()) if t.requires_grad]
    got = junction(x, f, scales, norm=norm, relu=relu)
    expected = reference_junction(x, norm(f), *scales[:2], relu=relu)
    weights = torch.linspace(-1, 1, got.numel(), dtype=got.dtype).view_as(got)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad(got, inputs, weights),
        torch.autograd.grad(expected, inputs, weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("relu", [True, False], ids=["ReLU", "EraseReLU"])
@pytest.mark.parametrize("num_groups", [1, 2, C])
@pytest.mark.parametrize("some_zero", [False, True], ids=["", "some zero"])
@pytest.mark.parametrize("level", SHAPES)
def test_values_and_gradients_are_those_of_the_norm_and_the_junction_by_themselves(
    level, some_zero, num_groups, relu
) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1)
    norm, scales = make_norm(num_groups), random_scales(level, some_zero=some_zero)
    assert_equal_to_each_by_itself(x, f, scales, norm, relu=relu)
    with calls_of_forward() as forward:
        junction(x, f, scales, norm=norm, relu=relu)
    assert not forward.called


@pytest.mark.parametrize("num_groups", [1, 2, C])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scales_of_one_give_the_bits_of_stock(dtype, relu, num_groups) -> None:
    x, f = random_map(N, C, H, W, dtype=dtype), random_map(N, C, H, W, seed=1, dtype=dtype)
    norm, one = make_norm(num_groups).to(dtype), torch.ones(1, 1, 1, 1, dtype=dtype)
    expected = norm(f) + x
    expected = expected.relu() if relu else expected
    assert torch.equal(junction(x, f, Scales(one, one), norm=norm, relu=relu), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("parameters_too", [True, False])
def test_shapes_and_dtypes_are_those_of_the_norm(parameters_too, dtype) -> None:
    x = random_map(N, C, H, W)
    f = random_map(N, C, H, W, seed=1, dtype=dtype)
    norm = make_norm().to(dtype if parameters_too else torch.float32)
    scales = random_scales("image").to(torch.float32)
    expected = norm(f)
    with calls_of_forward() as forward:
        out = junction(x, f, scales, norm=norm)
    assert not forward.called
    assert (out.dtype, out.shape) == (expected.dtype, expected.shape) == (dtype, f.shape)
    out.float().sum().backward()
    for tensor in (x, f, *norm.parameters()):
        assert tensor.grad.dtype == tensor.dtype and tensor.grad.shape == tensor.shape


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("relu", [True, False])
def test_where_the_scale_is_zero_the_shortcut_stays_and_elsewhere_the_norm_counts(
    relu, bad
) -> None:
    x, f, norm = random_map(N, C, H, W), random_map(N, C, H, W, seed=1).detach(), make_norm()
    f[1, 0, 2, 3] = bad
    s = torch.ones(N, C, 1, 1, dtype=torch.float64)
    s[1, :2] = 0  # all channels of its group
    out = junction(x, f, Scales(s, s), norm=norm, relu=relu)
    expected = x + norm(f).masked_fill(s == 0, 0)
    torch.testing.assert_close(out, expected.clamp(min=0) if relu else expected)
    assert out.isfinite().all()


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("level", SHAPES)
def test_gradcheck_and_gradgradcheck_pass_where_both_scales_are_equal(level, relu) -> None:
    inputs = [random_map(N, C, 2, 2, seed=seed) for seed in range(2)]
    parameters = [random_map(C, seed=seed).detach().requires_grad_() for seed in (2, 3)]
    s, norm = random_scales(level).forward, make_norm()
    del norm.weight, norm.bias

    def function(x: Tensor, f: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        norm.weight, norm.bias = weight, bias
        return junction(x, f, Scales(s, s), norm=norm, relu=relu)

    assert torch.autograd.gradcheck(function, (*inputs, *parameters))
    assert torch.autograd.gradgradcheck(function, (*inputs, *parameters))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("level", SHAPES)
def test_second_derivatives_are_those_of_the_norm_and_the_junction_by_themselves(
    level, relu
) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1)
    norm, scales = make_norm(), random_scales(level)
    inputs, found = [x, f, *norm.parameters()], []
    for out in (
        junction(x, f, scales, norm=norm, relu=relu),
        reference_junction(x, norm(f), *scales[:2], relu=relu),
    ):
        first = torch.autograd.grad(out.pow(3).sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        found.append([*first, *second])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("taking", ["shortcut", "residual", "weight", "bias"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_any_one_of_the_tensors_may_take_a_gradient_alone(create_graph, taking) -> None:
    norm, scales = make_norm(), random_scales("image")
    tensors = {
        "shortcut": random_map(N, C, H, W),
        "residual": random_map(N, C, H, W, seed=1),
        "weight": norm.weight,
        "bias": norm.bias,
    }

    def gradient() -> Tensor:
        out = junction(tensors["shortcut"], tensors["residual"], scales, norm=norm)
        (found,) = torch.autograd.grad(
            out.square().sum(), tensors[taking], create_graph=create_graph
        )
        return found

    expected = gradient()
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == taking)
    torch.testing.assert_close(gradient(), expected)


FALLBACKS: dict[str, tuple[Callable[[], nn.GroupNorm], Callable[[Tensor], Tensor]]] = {
    "channels next to each other": (
        make_norm,
        lambda f: f.to(memory_format=torch.channels_last),
    ),
    "not contiguous": (make_norm, lambda f: f.transpose(2, 3)),
    "without affine": (lambda: make_norm(affine=False), lambda f: f),
    "subclass": (lambda: make_norm(make=HalvedGroupNorm), lambda f: f),
    "no images": (make_norm, lambda f: f[:0]),
}


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("level", ["batch", "channel of the batch"])
@pytest.mark.parametrize("name", FALLBACKS)
def test_what_the_junction_cannot_compute_the_norm_does(name, level, relu) -> None:
    make, change = FALLBACKS[name]
    norm, f = make(), change(random_map(N, C, H, W, seed=1))
    x, scales = random_map(*f.shape), random_scales(level)
    with calls_of_forward() as forward:
        junction(x, f, scales, norm=norm, relu=relu)
    assert forward.call_count == 1
    assert_equal_to_each_by_itself(x, f, scales, norm, relu=relu)


def test_scales_of_each_pixel_are_left_to_what_follows_the_norm() -> None:
    x, f, norm = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), make_norm()
    scales = Scales(*(random_map(N, C, H, W, seed=seed).detach() for seed in (7, 8)))
    with calls_of_forward() as forward:
        junction(x, f, scales, norm=norm)
    assert forward.call_count == 1
    assert_equal_to_each_by_itself(x, f, scales, norm)


def test_under_autocast_the_norm_chooses_the_dtype() -> None:
    x, f = (random_map(N, C, H, W, seed=seed, dtype=torch.bfloat16) for seed in range(2))
    norm, scales = make_norm().float(), random_scales("image").to(torch.float32)
    with torch.autocast("cpu", torch.bfloat16), calls_of_forward() as forward:
        out = junction(x, f, scales, norm=norm)
        normed = norm(f)
    assert forward.call_count == 2 and out.dtype == normed.dtype
    expected = reference_junction(x.double(), normed.double(), *scales[:2], relu=True)
    torch.testing.assert_close(out.double(), expected, rtol=0.03, atol=0.03)


def test_a_single_channel_by_strides_of_either_layout_is_right() -> None:
    """Images that look as if their channels lay next to each other as well."""
    norm, x = nn.GroupNorm(1, 1).double(), random_map(N, 1, H, W)
    f = random_map(N, 1, H, W, seed=1).detach().as_strided((N, 1, H, W), (H * W, 1, W, 1))
    assert f.is_contiguous() and f.is_contiguous(memory_format=torch.channels_last)
    assert_equal_to_each_by_itself(x, f, random_scales("image"), norm)


def test_one_value_per_group_is_refused_as_by_group_norm() -> None:
    one = random_map(1, C, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        junction(one, one, random_scales("batch"), norm=make_norm(C))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("level", SHAPES)
def test_no_more_is_saved_than_in_stock_but_scales_and_parameters(level, relu) -> None:
    x, f, norm = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), make_norm()
    scales = Scales(*(scale.clone() for scale in random_scales(level)[:2]))

    def stock() -> Tensor:
        out = norm(f)
        out += x
        return out.relu_() if relu else out

    def bytes_saved(call: Callable[[], Tensor]) -> int:
        own = {t.data_ptr() for t in (scales.backward, *norm.parameters())}
        with saved_storages() as storages:
            out = call()
        assert out.requires_grad and storages
        return sum(size for pointer, size in storages.items() if pointer not in own)

    shaken = bytes_saved(lambda: junction(x, f, scales, norm=norm, relu=relu))
    assert f.nbytes < shaken <= bytes_saved(stock)
