"""Blocks of PyramidNet against the paper, written once more in plain torch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from shakedrop_det import shake
from shakedrop_det.modeling.cifar import PyramidBasicBlock, PyramidBottleneckBlock
from shakedrop_det.modeling.cifar.pyramid_blocks import pyramid_channels
from tests.modeling.networks import feature_map, randomize_norms, run
from tests.modeling.recording import recorded_scales
from tests.modeling.small_networks import pyramid_residual, pyramid_shortcut

from ...paper_form import paper_form

SHAPES = [(6, 6, 1), (6, 9, 1), (6, 9, 2), (6, 6, 2)]
"""Input channels, output channels, stride."""


def block_of(kind: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    torch.manual_seed(0)
    if kind == "basic":
        block: nn.Module = PyramidBasicBlock(in_channels, out_channels, stride=stride)
    else:
        block = PyramidBottleneckBlock(
            in_channels, out_channels, bottleneck_channels=4, stride=stride
        )
    randomize_norms(block)
    return block.double()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_a_block_is_that_of_the_paper(kind, shape, training) -> None:
    block = block_of(kind, *shape).train(training)
    x = feature_map()
    expected = pyramid_shortcut(x, shape[1], shape[2]) + pyramid_residual(block, x, shape[2])
    torch.testing.assert_close(block(x), expected)
    assert (expected < 0).any(), "no ReLU ends the block"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_a_training_step_under_shakedrop_follows_the_equations(kind, shape, seed) -> None:
    stock = block_of(kind, *shape)
    shaken = shake(copy.deepcopy(stock), paper_form(alpha=(-1, 1), survival_prob=0.3))
    with recorded_scales() as scales:
        got = run(shaken, feature_map(), seed=seed)
    ((s, t),) = scales

    def equation(x: Tensor) -> Tensor:
        f = pyramid_residual(stock, x, shape[2])
        f = s * f + (t - s) * (f - f.detach())
        return pyramid_shortcut(x, shape[1], shape[2]) + f

    reference = nn.Module()
    reference.stock, reference.forward = stock, equation
    expected = run(reference, feature_map())
    for name in ("out", "input gradient"):
        torch.testing.assert_close(got[name], expected[name], rtol=1e-6, atol=1e-6)
    for name, _ in stock.named_parameters():
        other = expected[f"gradient of stock.{name}"]
        torch.testing.assert_close(got[f"gradient of {name}"], other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("erase_relu", [False, True])
def test_there_is_no_relu_to_erase(erase_relu) -> None:
    stock = block_of("basic", *SHAPES[1])
    spec = paper_form(survival_prob=0.5, erase_relu=erase_relu)
    shaken = shake(copy.deepcopy(stock), spec).eval()
    x, stock = feature_map(), stock.eval()
    expected = pyramid_shortcut(x, 9, 1) + 0.5 * pyramid_residual(stock, x, 1)
    torch.testing.assert_close(shaken(x), expected)


def test_an_odd_resolution_is_halved_upwards_as_by_the_convolution() -> None:
    x = torch.randn(2, 6, 7, 5)
    assert PyramidBasicBlock(6, 9, stride=2)(x).shape == (2, 9, 4, 3)


def test_channels_grow_linearly_from_stem_to_stem_plus_alpha() -> None:
    assert pyramid_channels(4, 10) == [18, 21, 24, 26]  # 18.5 and 23.5 are rounded to even
    assert pyramid_channels(54, 270)[:3] == [21, 26, 31]
    assert pyramid_channels(54, 270)[-1] == 286


def test_fewer_channels_than_before_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be less than in_channels, 6, .* got 4"):
        PyramidBasicBlock(6, 4)
