"""junction(): each path against the paper's equations in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from shakedrop_det.layers import Scales, expected_junction, junction
from tests.saved_tensors import saved_storages

from .reference import random_map, reference_junction

N, C, H, W = 3, 4, 5, 6
SHAPES = {
    "batch": (1, 1, 1, 1),
    "image": (N, 1, 1, 1),
    "channel": (N, C, 1, 1),
    "pixel": (N, C, H, W),
}
NORMS = {
    "none": lambda: None,
    "FrozenBN": lambda: FrozenBatchNorm2d(C),
    "BN": lambda: nn.BatchNorm2d(C),
    "BN in eval": lambda: nn.BatchNorm2d(C).eval(),
    "BN without affine": lambda: nn.BatchNorm2d(C, affine=False),
    "BN, cumulative": lambda: nn.BatchNorm2d(C, momentum=None),
    "BN, no statistics": lambda: nn.BatchNorm2d(C, track_running_stats=False),
    "GN": lambda: nn.GroupNorm(2, C),
}


def make_norm(name: str) -> nn.Module | None:
    norm = NORMS[name]()
    if norm is None:
        return None
    norm.double()
    generator = torch.Generator().manual_seed(3)
    for tensor in [*norm.parameters(), *norm.buffers()]:
        if tensor.dtype.is_floating_point:
            values = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.data.copy_(values + 0.5)
    return norm


def random_scales(level: str, seed: int = 1) -> Scales:
    generator = torch.Generator().manual_seed(seed)
    s, t = torch.rand((2, *SHAPES[level]), generator=generator, dtype=torch.float64) * 2 - 1
    return Scales(s, t)


def results(out: Tensor, *inputs: Tensor, norm: nn.Module | None) -> list[Tensor]:
    """The output, the gradients of a weighted sum of it, and the norm's state after it."""
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
    parameters = [] if norm is None else list(norm.parameters())
    gradients = torch.autograd.grad((out * weights).sum(), [*inputs, *parameters])
    buffers = [] if norm is None else [b.double() for b in norm.buffers()]
    return [out, *gradients, *buffers]


LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inplace", [False, True], ids=["", "in place"])
@pytest.mark.parametrize("relu", [True, False], ids=["ReLU", "EraseReLU"])
@pytest.mark.parametrize("level", SHAPES)
@pytest.mark.parametrize("norm_name", NORMS)
def test_values_gradients_and_statistics_follow_the_equations(
    norm_name, level, relu, inplace, layout
) -> None:
    x, f, norm = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), make_norm(norm_name)
    scales = random_scales(level)
    reference_norm = copy.deepcopy(norm)
    expected = reference_junction(
        x, f if norm is None else reference_norm(f), *scales[:2], relu=relu
    )
    residual = f.clone(memory_format=LAYOUTS[layout])  # as a convolution's output is nobody's
    got = junction(x, residual, scales, norm=norm, relu=relu, inplace=inplace)
    for a, b in zip(
        results(got, x, f, norm=norm),
        results(expected, x, f, norm=reference_norm),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm_name", ["none", "FrozenBN"])
def test_in_place_the_output_takes_the_place_of_the_residual(norm_name) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1).clone()
    out = junction(x, f, random_scales("image"), norm=make_norm(norm_name), inplace=True)
    assert out.data_ptr() == f.data_ptr()


@pytest.mark.parametrize("mean", [0.0, 1e3])
@pytest.mark.parametrize("norm_name", ["BN", "BN, cumulative"])
def test_batch_norm_is_as_precise_as_torch_has_it(norm_name, mean) -> None:
    """Also where the mean is large, so that sums of squares without it would not do."""
    size = (4, C, 32, 32)
    x, f = random_map(*size), (random_map(*size, seed=1) + mean).detach().requires_grad_()
    grad = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    one = Scales(*torch.ones(2, 1, 1, 1, 1, dtype=torch.float64))
    found = {}
    for name, dtype in (
        ("exact", torch.float64),
        ("ours", torch.float32),
        ("torch", torch.float32),
    ):
        norm = make_norm(norm_name).to(dtype)
        shortcut, residual = (t.detach().to(dtype).requires_grad_() for t in (x, f))
        if name == "ours":
            out = junction(shortcut, residual, one.to(dtype), norm=norm, relu=False)
        else:
            out = shortcut + norm(residual)
        gradients = torch.autograd.grad(out, [residual, *norm.parameters()], grad.to(dtype))
        found[name] = [out, *gradients, norm.running_mean, norm.running_var]
    for ours, other, exact in zip(found["ours"], found["torch"], found["exact"], strict=True):
        error, allowed = ((t.double() - exact).abs().max() for t in (ours, other))
        assert error <= 2 * allowed + 1e-6 * exact.abs().max()


@settings(max_examples=40, deadline=None)
@given(
    s=st.floats(-2, 2),
    t=st.floats(-2, 2),
    relu=st.booleans(),
    norm_name=st.sampled_from(["none", "BN"]),
)
def test_any_pair_of_scales_follows_the_equations(s, t, relu, norm_name) -> None:
    x, f, norm = random_map(2, C, 3, 3), random_map(2, C, 3, 3, seed=1), make_norm(norm_name)
    scales = Scales(*torch.tensor([s, t], dtype=torch.float64).view(2, 1, 1, 1, 1))
    reference_norm = copy.deepcopy(norm)
    expected = reference_junction(
        x, f if norm is None else reference_norm(f), *scales[:2], relu=relu
    )
    got = junction(x, f, scales, norm=norm, relu=relu)
    for a, b in zip(
        results(got, x, f, norm=norm), results(expected, x, f, norm=reference_norm), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN", "GN"])
@pytest.mark.parametrize("level", ["batch", "image"])
def test_a_scale_of_zero_gives_exactly_the_shortcut_whatever_the_residual(
    norm_name, level, bad
) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1).detach()
    f[0, 1, 2, 3] = bad
    s = torch.zeros(SHAPES[level], dtype=torch.float64)
    out = junction(x, f, Scales(s, s), norm=make_norm(norm_name), relu=False)
    assert torch.equal(out, x)


@pytest.mark.parametrize("inplace", [False, True], ids=["", "in place"])
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "GN", "BN"])
def test_only_the_images_whose_scale_is_zero_keep_their_shortcut(norm_name, inplace) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1).detach()
    f[1] = float("inf")
    s = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64).view(N, 1, 1, 1)
    norm = make_norm(norm_name)
    out = junction(x, f.clone(), Scales(s, s), norm=norm, relu=False, inplace=inplace)
    normed = f if norm is None else norm(f)
    assert torch.equal(out[1], x[1])
    # BatchNorm's statistics are of the whole batch: there the other images are lost, as in stock.
    torch.testing.assert_close(out[::2], (x + s * normed)[::2], equal_nan=norm_name == "BN")


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("s", [0.0, 1.0])
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN", "GN"])
def test_what_is_done_to_the_output_in_place_leaves_the_inputs_alone(norm_name, s, relu) -> None:
    x, f = random_map(N, C, H, W).detach(), random_map(N, C, H, W, seed=1).detach()
    before = x.clone(), f.clone()
    scale = torch.full((1, 1, 1, 1), s, dtype=torch.float64)
    junction(x, f, Scales(scale, scale), norm=make_norm(norm_name), relu=relu).add_(1)
    expected_junction(x, f, s, relu=relu).add_(1)
    assert torch.equal(x, before[0]) and torch.equal(f, before[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN"])
def test_half_precision_stays_half_precision(norm_name, dtype) -> None:
    x, f = random_map(N, C, H, W, dtype=dtype), random_map(N, C, H, W, seed=1, dtype=dtype)
    norm = make_norm(norm_name)
    scales = Scales(*(scale.float() for scale in random_scales("image")[:2]))
    out = junction(x, f, scales, norm=None if norm is None else norm.to(dtype))
    assert out.dtype == dtype
    assert all(g.dtype == dtype for g in torch.autograd.grad(out.sum(), [x, f]))


def test_the_dtype_is_that_of_the_residual() -> None:
    """As detectron2's in-place addition: under autocast the shortcut may be float32."""
    x, f = random_map(N, C, H, W, dtype=torch.float32), random_map(N, C, H, W, dtype=torch.bfloat16)
    out = junction(x, f, random_scales("image"))
    assert out.dtype == torch.bfloat16
    assert torch.autograd.grad(out.sum(), x)[0].dtype == torch.float32


@pytest.mark.parametrize("norm_name", ["none", "FrozenBN"])
@pytest.mark.parametrize("relu", [True, False])
def test_gradcheck_and_gradgradcheck_pass_where_both_scales_are_equal(norm_name, relu) -> None:
    x, f, norm = random_map(2, C, 2, 2), random_map(2, C, 2, 2, seed=1), make_norm(norm_name)
    s = torch.tensor([0.7, -0.4], dtype=torch.float64).view(2, 1, 1, 1)

    def function(x: Tensor, f: Tensor) -> Tensor:
        return junction(x, f, Scales(s, s), norm=norm, relu=relu)

    assert torch.autograd.gradcheck(function, (x, f))
    assert torch.autograd.gradgradcheck(function, (x, f))


def test_gradcheck_passes_through_a_trainable_norm() -> None:
    x, f = random_map(2, C, 3, 3), random_map(2, C, 3, 3, seed=1)
    for level in ("batch", "image"):
        s = random_scales(level).forward[:2]
        norm = make_norm("BN")

        def function(x: Tensor, f: Tensor, s: Tensor = s, norm: nn.Module = norm) -> Tensor:
            return junction(x, f, Scales(s, s), norm=norm, relu=False)

        assert torch.autograd.gradcheck(function, (x, f))
        assert torch.autograd.gradgradcheck(function, (x, f))


def test_func_grad_and_vmap_equal_the_loop() -> None:
    x, f = random_map(N, C, H, W).detach(), random_map(N, C, H, W, seed=1).detach()
    scales = random_scales("batch")

    def loss(f: Tensor, x: Tensor) -> Tensor:
        return junction(x[None], f[None], scales).square().sum()

    together = torch.func.vmap(torch.func.grad(loss))(f, x)
    one_by_one = torch.stack([torch.func.grad(loss)(f[i], x[i]) for i in range(N)])
    torch.testing.assert_close(together, one_by_one)
    leaf = f.clone().requires_grad_()
    junction(x, leaf, scales).square().sum().backward()
    torch.testing.assert_close(together, leaf.grad)


@pytest.mark.parametrize("norm_name", ["none", "FrozenBN"])
@pytest.mark.parametrize("relu", [True, False])
def test_no_feature_map_is_saved_but_the_output_that_the_next_layer_needs(norm_name, relu) -> None:
    x, f, norm = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), make_norm(norm_name)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        out = junction(x, f, random_scales("image"), norm=norm, relu=relu)
    maps = [t for t in saved if t.numel() == out.numel()]
    assert [t.data_ptr() for t in maps] == ([out.data_ptr()] if relu else [])


@pytest.mark.parametrize("relu", [True, False])
def test_at_test_time_the_residual_has_the_expected_scale(relu) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1)
    out = expected_junction(x, f, 0.3, relu=relu)
    expected = x + 0.3 * f
    torch.testing.assert_close(out, expected.clamp(min=0) if relu else expected)


def test_at_test_time_a_norm_that_is_handed_in_is_applied() -> None:
    x, f, norm = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), make_norm("FrozenBN")
    assert torch.equal(expected_junction(x, f, 0.3, norm=norm), expected_junction(x, norm(f), 0.3))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("level", SHAPES)
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN"])
def test_what_is_saved_is_scales_and_output_and_no_byte_more(norm_name, level, relu) -> None:
    x, f, norm = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), make_norm(norm_name)
    scales = random_scales(level)
    if norm is not None and level == "pixel":
        norm = None  # runs by itself then, and saves what it wants to
    with saved_storages() as storages:
        out = junction(x, f, scales, norm=norm, relu=relu)
    allowed = [scales.backward] + ([norm.weight] if norm is not None else []) + [out] * relu
    # s and t are views of one tensor here, which counts as a whole.
    views = scales.backward.untyped_storage().nbytes() - scales.backward.nbytes
    assert sum(storages.values()) <= sum(tensor.nbytes for tensor in allowed) + views


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("level", SHAPES)
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN", "GN"])
def test_under_autocast_it_computes_what_it_computes_without(norm_name, level, relu) -> None:
    """Nothing is lifted to float32, and the float32 shortcut of a first block is brought down."""
    x = random_map(N, C, H, W, dtype=torch.float32)
    f = random_map(N, C, H, W, seed=1, dtype=torch.bfloat16)
    norm = make_norm(norm_name)
    norm = None if norm is None else norm.float()
    scales = Scales(*(scale.float() for scale in random_scales(level)[:2]))
    with torch.autocast("cpu", torch.bfloat16):
        out = junction(x, f, scales, norm=norm, relu=relu)
        branch = f.double() if norm is None else copy.deepcopy(norm)(f).double()
    assert out.dtype == torch.bfloat16
    expected = reference_junction(x.double(), branch, *scales[:2], relu=relu)
    torch.testing.assert_close(out.double(), expected, rtol=0.03, atol=0.03)
    out.float().sum().backward()
    assert x.grad.dtype == torch.float32 and f.grad.dtype == torch.bfloat16


def test_one_value_per_channel_is_refused_as_by_batch_norm() -> None:
    norm, one = nn.BatchNorm2d(C), torch.randn(1, C, 1, 1)
    before = norm.running_var.clone()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        junction(one, one, Scales(*torch.rand(2, 1, 1, 1, 1)), norm=norm)
    assert torch.equal(norm.running_var, before)


@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN"])
def test_a_batch_without_images_passes(norm_name) -> None:
    """As the regions of an image may be none."""
    norm = make_norm(norm_name)
    x, f = random_map(0, C, H, W), random_map(0, C, H, W)
    out = junction(x, f, Scales(*torch.rand(2, 0, 1, 1, 1).double()), norm=norm)
    out.sum().backward()
    assert out.shape == x.grad.shape == f.grad.shape == (0, C, H, W)
