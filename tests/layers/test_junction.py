"""The junction, the reference and each faster way, against the paper's equations in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from shakedrop_det.layers import (
    Scales,
    SeededScale,
    expected_junction,
    junction,
    reference_junction,
)
from tests.saved_tensors import saved_storages

from .equations import junction_by_equations, random_map

N, C, H, W = 3, 4, 5, 6
SHAPES = {
    "batch": (1, 1, 1, 1),
    "image": (N, 1, 1, 1),
    "channel": (N, C, 1, 1),
    "pixel": (N, C, H, W),
}
WAYS = {"reference": reference_junction, "fastest": junction}
both_ways = pytest.mark.parametrize("join", WAYS.values(), ids=WAYS)
NORMS = {
    "none": lambda: None,
    "FrozenBN": lambda: FrozenBatchNorm2d(C),
    "BN": lambda: nn.BatchNorm2d(C),
    "BN in eval": lambda: nn.BatchNorm2d(C).eval(),
    "BN without affine": lambda: nn.BatchNorm2d(C, affine=False),
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


@both_ways
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("relu", [True, False], ids=["ReLU", "EraseReLU"])
@pytest.mark.parametrize("level", SHAPES)
@pytest.mark.parametrize("norm_name", NORMS)
def test_values_gradients_and_statistics_follow_the_equations(
    norm_name, level, relu, layout, join
) -> None:
    x, f, norm = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), make_norm(norm_name)
    scales = random_scales(level)
    reference_norm = copy.deepcopy(norm)
    branch = f if norm is None else reference_norm(f)
    expected = junction_by_equations(x, branch, *scales, relu=relu)
    residual = f.clone(memory_format=LAYOUTS[layout])  # as a convolution's output is nobody's
    got = join(x, residual, scales, norm=norm, relu=relu)
    for a, b in zip(
        results(got, x, f, norm=norm),
        results(expected, x, f, norm=reference_norm),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@settings(max_examples=60)
@given(
    s=st.floats(-2, 2) | st.sampled_from([0.0, 1.0]),
    t=st.floats(-2, 2) | st.sampled_from([0.0, 1.0]),
    equal=st.booleans(),
    as_tensor=st.booleans(),
    relu=st.booleans(),
    norm_name=st.sampled_from(["none", "BN", "FrozenBN"]),
    join=st.sampled_from(list(WAYS.values())),
)
def test_any_pair_of_scales_follows_the_equations(
    s, t, equal, as_tensor, relu, norm_name, join
) -> None:
    t = s if equal else t
    x, f, norm = random_map(2, C, 3, 3), random_map(2, C, 3, 3, seed=1), make_norm(norm_name)
    tensors = torch.tensor([s, t], dtype=torch.float64).view(2, 1, 1, 1, 1)
    scales = Scales(*tensors) if as_tensor else Scales(s, t)
    reference_norm = copy.deepcopy(norm)
    branch = f if norm is None else reference_norm(f)
    expected = junction_by_equations(x, branch, *tensors, relu=relu)
    got = join(x, f.clone(), scales, norm=norm, relu=relu)
    for a, b in zip(
        results(got, x, f, norm=norm), results(expected, x, f, norm=reference_norm), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@both_ways
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN", "GN"])
@pytest.mark.parametrize("level", ["a number", "batch", "image"])
def test_a_scale_of_zero_gives_exactly_the_shortcut_whatever_the_residual(
    level, norm_name, bad, join
) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1).detach()
    f[0, 1, 2, 3] = bad
    s = 0.0 if level == "a number" else torch.zeros(SHAPES[level], dtype=torch.float64)
    out = join(x, f, Scales(s, s), norm=make_norm(norm_name), relu=False)
    assert torch.equal(out, x)


@both_ways
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "GN", "BN"])
def test_only_the_images_whose_scale_is_zero_keep_their_shortcut(norm_name, join) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1).detach()
    f[1] = float("inf")
    s = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64).view(N, 1, 1, 1)
    norm = make_norm(norm_name)
    out = join(x, f.clone(), Scales(s, s), norm=norm, relu=False)
    normed = f if norm is None else norm(f)
    assert torch.equal(out[1], x[1])
    # BatchNorm's statistics are of the whole batch: there the other images are lost, as in stock.
    torch.testing.assert_close(out[::2], (x + s * normed)[::2], equal_nan=norm_name == "BN")


@both_ways
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 16])
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN in eval"])
def test_what_is_not_a_number_stays_so_through_the_relu(norm_name, size, dtype, join) -> None:
    """Or a network that diverged would show a finite loss."""
    x = torch.randn(2, C, size, size, dtype=dtype)
    norm = make_norm(norm_name)
    norm = norm if norm is None else norm.to(dtype)
    for s in (1.0, 0.9):
        f = torch.full_like(x, float("nan"))
        assert join(x, f, Scales(s, s), norm=norm, relu=True).isnan().all()


@both_ways
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("s", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("norm_name", ["FrozenBN", "BN", "GN"])
def test_what_is_done_to_the_output_in_place_leaves_the_shortcut_alone(
    norm_name, s, relu, join
) -> None:
    x, f = random_map(N, C, H, W).detach(), random_map(N, C, H, W, seed=1).detach()
    before = x.clone()
    join(x, f, Scales(s, s), norm=make_norm(norm_name), relu=relu).add_(1)
    expected_junction(x, f, s, relu=relu).add_(1)
    assert torch.equal(x, before)


def test_scales_of_pixels_are_the_same_numbers_in_both_passes() -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1)
    shape = torch.Size((N, C, H, W))
    seeded = Scales(*(SeededScale(seed, (-1.0, 1.0), shape, x.device) for seed in (3, 4)))
    made = Scales(*(scale.make() for scale in seeded))
    found = [results(junction(x, f, scales), x, f, norm=None) for scales in (seeded, made)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@both_ways
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN"])
def test_half_precision_stays_half_precision(norm_name, dtype, join) -> None:
    x, f = random_map(N, C, H, W, dtype=dtype), random_map(N, C, H, W, seed=1, dtype=dtype)
    norm = make_norm(norm_name)
    scales = Scales(*(scale.float() for scale in random_scales("image")))
    out = join(x, f.clone(), scales, norm=None if norm is None else norm.to(dtype))
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
        return junction(x, f.clone(), Scales(s, s), norm=norm, relu=relu)

    assert torch.autograd.gradcheck(function, (x, f))
    assert torch.autograd.gradgradcheck(function, (x, f))


@pytest.mark.parametrize("norm_name", ["none", "FrozenBN"])
def test_func_grad_and_vmap_equal_the_loop(norm_name) -> None:
    x, f = random_map(N, C, H, W).detach(), random_map(N, C, H, W, seed=1).detach()
    scales, norm = random_scales("batch"), make_norm(norm_name)

    def loss(f: Tensor, x: Tensor) -> Tensor:
        return junction(x[None], f[None] * 1, scales, norm=norm).square().sum()

    together = torch.func.vmap(torch.func.grad(loss))(f, x)
    one_by_one = torch.stack([torch.func.grad(loss)(f[i], x[i]) for i in range(N)])
    torch.testing.assert_close(together, one_by_one)
    leaf = f.clone().requires_grad_()
    junction(x, leaf * 1, scales, norm=norm).square().sum().backward()
    torch.testing.assert_close(together, leaf.grad)


@pytest.mark.parametrize("relu", [True, False])
def test_at_test_time_the_residual_has_the_expected_scale(relu) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1)
    out = expected_junction(x, f, 0.3, relu=relu)
    expected = x + 0.3 * f
    torch.testing.assert_close(out, expected.clamp(min=0) if relu else expected)


@both_ways
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("level", ["a number", "equal numbers", *SHAPES])
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN"])
def test_what_is_saved_is_scales_and_output_and_no_byte_more(norm_name, level, relu, join) -> None:
    """The next convolution keeps the output alive anyway."""
    x, f, norm = (
        random_map(N, C, H, W),
        random_map(N, C, H, W, seed=1).clone(),
        make_norm(norm_name),
    )
    if level == "pixel":
        scales = Scales(*(SeededScale(i, (-1.0, 1.0), x.shape, x.device) for i in range(2)))
    else:
        numbers = {"a number": Scales(0.5, 0.7), "equal numbers": Scales(1.1, 1.1)}
        scales = numbers[level] if level in numbers else random_scales(level)
    with saved_storages() as storages:
        out = join(x, f, scales, norm=norm, relu=relu)
    scale_bytes = 2 * scales.backward.nbytes if isinstance(scales.backward, Tensor) else 0
    # Stock FrozenBatchNorm2d saves the factor of each channel as well.
    factors = C * 8 if norm is not None else 0
    assert sum(storages.values()) <= scale_bytes + factors + out.nbytes * relu


@both_ways
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("level", SHAPES)
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN", "GN"])
def test_under_autocast_it_computes_what_it_computes_without(norm_name, level, relu, join) -> None:
    """Nothing is lifted to float32, and the float32 shortcut of a first block is brought down."""
    x = random_map(N, C, H, W, dtype=torch.float32)
    f = random_map(N, C, H, W, seed=1, dtype=torch.bfloat16)
    norm = make_norm(norm_name)
    norm = None if norm is None else norm.float()
    scales = Scales(*(scale.float() for scale in random_scales(level)))
    with torch.autocast("cpu", torch.bfloat16):
        out = join(x, f.clone(), scales, norm=norm, relu=relu)
        branch = f.double() if norm is None else copy.deepcopy(norm)(f).double()
    assert out.dtype == torch.bfloat16
    expected = junction_by_equations(x.double(), branch, *scales, relu=relu)
    torch.testing.assert_close(out.double(), expected, rtol=0.03, atol=0.03)
    out.float().sum().backward()
    assert x.grad.dtype == torch.float32 and f.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN"])
def test_a_batch_without_images_passes(norm_name) -> None:
    """As the regions of an image may be none."""
    norm = make_norm(norm_name)
    x, f = random_map(0, C, H, W), random_map(0, C, H, W)
    out = junction(x, f.clone(), Scales(*torch.rand(2, 0, 1, 1, 1).double()), norm=norm)
    out.sum().backward()
    assert out.shape == x.grad.shape == f.grad.shape == (0, C, H, W)


@both_ways
@pytest.mark.parametrize("s", [0.5, 1.0, torch.tensor([0.5, 0.25]).view(2, 1, 1, 1)])
def test_a_view_of_what_others_hold_is_not_overwritten(s, join) -> None:
    """As InstanceNorm gives one of a tensor that its gradient needs."""
    x, base = random_map(2, C, 3, 3), random_map(2, C, 3, 3, seed=1)
    held = base * 1
    before = held.detach().clone()
    scale = s.double() if isinstance(s, Tensor) else s
    join(x, held.view(2, C, 3, 3), Scales(scale, scale)).sum().backward()
    assert torch.equal(held, before)
