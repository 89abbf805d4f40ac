"""Scales of each pixel: made again in the backward pass, and nowhere kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from shakedrop_det.layers import PixelScales, ScaleSampler, ShakeDropSpec, junction

from .reference import random_map, reference_junction
from .test_junction import make_norm, results

N, C, H, W = 3, 4, 5, 6
RANGES = {
    "EraseReLU's": {"alpha": (-1, 1)},
    "final ReLU's": {},
    "RandomDrop's": {"beta": (0, 0)},
    "inverted": {"alpha": (-0.5, 1), "inverted": True},
}


def draw(gate_level: str = "batch", survival_prob: float = 0.0, **settings: object) -> PixelScales:
    """Of a block whose gate is closed, or open for some of the images."""
    spec = ShakeDropSpec(
        level="pixel", gate_level=gate_level, survival_prob=0.5, **settings  # type: ignore[arg-type]
    )
    sampler = ScaleSampler(spec, [survival_prob or 1e-9], channels=[C])
    torch.manual_seed(5)
    scales = sampler(N).scales(0, torch.empty(N, C, H, W))
    assert isinstance(scales, PixelScales)
    return scales


@pytest.mark.parametrize("inplace", [False, True], ids=["", "in place"])
@pytest.mark.parametrize("relu", [True, False], ids=["ReLU", "EraseReLU"])
@pytest.mark.parametrize("norm_name", ["none", "FrozenBN", "BN", "GN"])
@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("ranges", RANGES)
def test_values_and_gradients_follow_the_equations(
    ranges, gate_level, norm_name, relu, inplace
) -> None:
    scales = draw(gate_level, 0.0 if gate_level == "batch" else 0.5, **RANGES[ranges])
    x, f, norm = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), make_norm(norm_name)
    reference_norm = copy.deepcopy(norm)
    normed = f if norm is None else reference_norm(f)
    expected = reference_junction(x, normed, scales.forward, scales.backward, relu=relu)
    got = junction(x, f.clone(), scales, norm=norm, relu=relu, inplace=inplace)
    for a, b in zip(
        results(got, x, f, norm=norm), results(expected, x, f, norm=reference_norm), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm_name", ["none", "FrozenBN"])
@pytest.mark.parametrize("relu", [True, False], ids=["ReLU", "EraseReLU"])
def test_no_map_of_scales_is_saved(norm_name, relu) -> None:
    x, f = random_map(N, C, H, W), random_map(N, C, H, W, seed=1)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        out = junction(x, f, draw(alpha=(-1, 1)), norm=make_norm(norm_name), relu=relu)
    maps = [t.data_ptr() for t in saved if t.numel() == out.numel()]
    assert maps == ([out.data_ptr()] if relu else [])


def test_forward_and_backward_numbers_differ_and_each_is_the_same_again() -> None:
    scales = draw(alpha=(0, 1))
    assert torch.equal(scales.backward, scales.backward)
    assert torch.equal(scales.forward, scales.forward)
    assert not torch.equal(scales.forward, scales.backward)


def test_blocks_and_steps_draw_other_numbers() -> None:
    sampler = ScaleSampler(ShakeDropSpec(level="pixel"), [1e-9] * 2, channels=[C] * 2)
    like = torch.empty(N, C, H, W)
    found = [sampler(N).scales(block, like).backward for _ in range(2) for block in range(2)]
    assert len({tuple(scale.flatten().tolist()) for scale in found}) == 4


def test_a_penalty_on_gradients_meets_the_same_scales() -> None:
    x, f, scales = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), draw(alpha=(-1, 1))
    grad = torch.randn(N, C, H, W, dtype=torch.float64).requires_grad_()
    out = junction(x, f, scales, relu=False)
    (grad_f,) = torch.autograd.grad(out, f, grad, create_graph=True)
    (again,) = torch.autograd.grad(grad_f.sum(), grad)
    torch.testing.assert_close(again, scales.backward.double())


def test_several_gradients_at_once_equal_one_after_the_other() -> None:
    x, f, scales = random_map(N, C, H, W), random_map(N, C, H, W, seed=1), draw(alpha=(-1, 1))
    out = junction(x, f, scales, norm=make_norm("FrozenBN"))
    grads = random_map(2, N, C, H, W, seed=2).detach()
    (together,) = torch.autograd.grad(out, f, grads, is_grads_batched=True, retain_graph=True)
    for got, grad in zip(together, grads, strict=True):
        (expected,) = torch.autograd.grad(out, f, grad, retain_graph=True)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_half_precision(dtype) -> None:
    x, f = random_map(N, C, H, W, dtype=dtype), random_map(N, C, H, W, seed=1, dtype=dtype)
    out = junction(x, f, draw(alpha=(-1, 1)), norm=make_norm("FrozenBN").to(dtype))
    assert out.dtype == dtype
    assert all(g.dtype == dtype for g in torch.autograd.grad(out.sum(), [x, f]))


def test_a_dropped_branch_gives_exactly_the_shortcut_whatever_the_residual() -> None:
    x, f = random_map(N, C, H, W), torch.full((N, C, H, W), float("inf"), dtype=torch.float64)
    assert torch.equal(junction(x, f, draw(), relu=False), x)
    scales = draw("image", 0.5)
    out = junction(x, f, scales, relu=False)
    closed = ~scales.drawn_gate.flatten()
    assert closed.any() and not closed.all()
    assert torch.equal(out[closed], x[closed])
