"""Blocks of two branches, against Gastaldi's and the ShakeDrop paper's equations."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import Tensor, nn

from shakedrop_det import shake
from shakedrop_det.modeling.cifar import TwoBranchBlock
from shakedrop_det.modeling.cifar.two_branch_blocks import BottleneckResidual, TwoPathShortcut
from tests.modeling.networks import assert_equal_runs, feature_map, randomize_norms, run
from tests.modeling.recording import recorded_scales
from tests.modeling.small_networks import branch_residual, two_path_shortcut

from ...paper_form import paper_form

SHAPES = [(6, 6, 1), (6, 8, 1), (6, 8, 2), (6, 6, 2)]
"""Input channels, output channels, stride."""
KINDS = {
    "basic": (1, {}),
    "bottleneck": (
        2,
        {"make_branch": BottleneckResidual, "bottleneck_channels": 4, "num_groups": 2},
    ),
}
"""Groups of the second convolution, and the arguments that make such a block."""
SHAKE_SHAKE = {"survival_prob": 0.0, "decay": "constant", "branches": "shake_shake"}
SETTINGS = {
    "type A": {"branches": "sum", "alpha": (-1, 1)},
    "type A, RandomDrop": {"branches": "sum", "beta": (0, 0), "skip": "always"},
    "type A, inverted": {"branches": "sum", "inverted": True},
    "type B": {"branches": "each", "alpha": (-1, 1)},
    "type B, per batch": {"branches": "each", "alpha": (-1, 1), "level": "batch"},
    "type B, gate per image": {"branches": "each", "gate_level": "image"},
    "type B, no ReLU in the network to keep": {"branches": "each", "erase_relu": True},
    "Shake-Shake": {**SHAKE_SHAKE, "alpha": (0, 1)},
    "Shake-Shake, per batch": {**SHAKE_SHAKE, "alpha": (0, 1), "level": "batch"},
    "Even-Shake": {**SHAKE_SHAKE, "alpha": (0.5, 0.5)},
}


def block_of(kind: str, in_channels: int, out_channels: int, stride: int) -> TwoBranchBlock:
    torch.manual_seed(0)
    block = TwoBranchBlock(in_channels, out_channels, stride=stride, **KINDS[kind][1])
    randomize_norms(block)
    return block.double()


def equation(kind: str, block: nn.Module, x: Tensor, scales: list[tuple[Tensor, Tensor]]) -> Tensor:
    """``y = x + s1 F1 + s2 F2``, with t1 and t2 for the gradients of F1 and F2."""
    out = two_path_shortcut(block, x, block.stride)
    for branch, (s, t) in zip((block.branch1, block.branch2), scales, strict=True):
        f = branch_residual(branch, x.clamp(min=0), block.stride, KINDS[kind][0])
        out = out + s * f + (t - s) * (f - f.detach())
    return out


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_without_shakedrop_the_branches_are_added_up(kind, shape, training) -> None:
    block = block_of(kind, *shape).train(training)
    one = torch.ones((), dtype=torch.float64)
    expected = equation(kind, block, feature_map(), [(one, one)] * 2)
    torch.testing.assert_close(block(feature_map()), expected)
    assert (expected < 0).any(), "no ReLU ends the block"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_step_follows_the_equations(kind, shape, setting, seed) -> None:
    spec = paper_form(**SETTINGS[setting])
    stock = block_of(kind, *shape)
    shaken = shake(copy.deepcopy(stock), spec)
    with recorded_scales() as drawn:
        got = run(shaken, feature_map(), seed=seed)
    first, *others = drawn
    (second,) = others or [first]
    if spec.branches == "shake_shake":
        second = tuple(1 - scale for scale in first)
    assert len(others) == (spec.branches == "each")
    reference = nn.Module()
    reference.stock = stock
    reference.forward = lambda x: equation(kind, stock, x, [first, second])
    expected = run(reference, feature_map())
    for name in ("out", "input gradient"):
        torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-5)
    for name, _ in stock.named_parameters():
        other = expected[f"gradient of stock.{name}"]
        torch.testing.assert_close(got[f"gradient of {name}"], other, rtol=1e-5, atol=1e-5)


def test_in_type_b_each_branch_draws_for_itself() -> None:
    stack = nn.Sequential(*(block_of("basic", *SHAPES[0]) for _ in range(2)))
    spec = paper_form(alpha=(-1, 1), survival_prob=0.0, decay="constant", branches="each")
    with recorded_scales() as drawn:
        shake(stack, spec).train()(feature_map())
    assert len(drawn) == 4
    assert len({value for forward, _ in drawn for value in forward.flatten().tolist()}) == 16


@pytest.mark.parametrize(
    "setting, first, second",
    [
        ({"branches": "sum", "alpha": (-1, 1), "survival_prob": 0.4}, 0.4, 0.4),
        ({"branches": "each", "alpha": (0, 1), "survival_prob": 0.4}, 0.7, 0.7),
        ({"branches": "each", "survival_prob": 0.4, "inverted": True}, 1.0, 1.0),
        ({**SHAKE_SHAKE, "alpha": (0, 1)}, 0.5, 0.5),
        ({**SHAKE_SHAKE, "alpha": (0, 0.5)}, 0.25, 0.75),
    ],
)
def test_at_test_time_each_branch_has_its_expected_scale(setting, first, second) -> None:
    stock = block_of("basic", *SHAPES[2])
    shaken = shake(copy.deepcopy(stock), paper_form(**setting)).eval()
    scales = [(torch.tensor(s, dtype=torch.float64),) * 2 for s in (first, second)]
    expected = equation("basic", stock.eval(), feature_map(), scales)
    torch.testing.assert_close(shaken(feature_map()), expected)
    assert f"test_scale={first:.4g}" in shaken.extra_repr()


@pytest.mark.parametrize("branches", ["sum", "each"])
def test_a_block_that_always_survives_is_the_stock_one_bit_for_bit(branches) -> None:
    stock = block_of("bottleneck", *SHAPES[2])
    spec = paper_form(alpha=(-1, 1), survival_prob=1.0, branches=branches)
    shaken = shake(copy.deepcopy(stock), spec)
    assert_equal_runs(run(shaken, feature_map()), run(stock, feature_map()))


def test_a_frozen_block_behaves_as_at_test_time() -> None:
    block = shake(block_of("basic", *SHAPES[0]), paper_form(**SHAKE_SHAKE, alpha=(0, 1)))
    block.freeze()
    assert torch.equal(block.train()(feature_map()), copy.deepcopy(block).eval()(feature_map()))


def test_shake_shake_of_one_branch_is_refused_and_leaves_the_network_alone() -> None:
    stack = nn.Sequential(block_of("basic", *SHAPES[0]), BasicBlock(4, 4))
    before = [type(module) for module in stack.modules()]
    with pytest.raises(ValueError, match="'shake_shake' needs .* BasicBlock has one: set MODEL"):
        shake(stack, paper_form(**SHAKE_SHAKE, alpha=(0, 1)))
    assert [type(module) for module in stack.modules()] == before


def test_two_paths_need_an_even_number_of_channels() -> None:
    with pytest.raises(ValueError, match="must be even for two paths, got 9"):
        TwoPathShortcut(6, 9)
