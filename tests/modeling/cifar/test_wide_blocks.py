"""Blocks of Wide ResNets against the paper, written once more in plain torch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from shakedrop_det import ShakeDropSpec, fold, shake
from shakedrop_det.modeling.cifar import WideBlock
from tests.modeling.networks import assert_equal_runs, feature_map, randomize_norms, run
from tests.modeling.recording import recorded_scales
from tests.modeling.small_networks import wide_block
from tests.paper_form import paper_form

SHAPES = [(6, 6, 1), (6, 9, 1), (6, 9, 2), (6, 6, 2)]
"""Input channels, output channels, stride."""
NORMS = ["", "BN"]
"""At the end of the branch: none, as in the original, or the one that is added for ShakeDrop."""
SETTINGS = {
    "per image": {"alpha": (-1, 1)},
    "per batch": {"alpha": (-1, 1), "level": "batch"},
    "per channel": {"alpha": (-1, 1), "level": "channel"},
    "per pixel": {"alpha": (-1, 1), "level": "pixel", "gate_level": "image"},
    "alpha 0": {},
    "RandomDrop": {"beta": (0, 0)},
    "RandomDrop, as much left out as possible": {"beta": (0, 0), "skip": "always"},
    "inverted": {"inverted": True, "erase_relu": True},
}


def block_of(in_channels: int, out_channels: int, stride: int, last_norm: str) -> WideBlock:
    torch.manual_seed(0)
    block = WideBlock(in_channels, out_channels, stride=stride, last_norm=last_norm)
    randomize_norms(block)
    return block.double()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("last_norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_block_is_that_of_the_paper(shape, last_norm, training) -> None:
    block = block_of(*shape, last_norm).train(training)
    x = feature_map()
    expected = sum(wide_block(block, x, shape[2]))
    torch.testing.assert_close(block(x), expected)
    assert (expected < 0).any(), "no ReLU ends the block"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("last_norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_training_step_follows_the_equations_and_sees_its_input_once(
    shape, last_norm, setting, seed
) -> None:
    stock = block_of(*shape, last_norm)
    spec = paper_form(survival_prob=0.3, **SETTINGS[setting])
    shaken = shake(copy.deepcopy(stock), spec)
    with recorded_scales() as scales:
        got = run(shaken, feature_map(), seed=seed)
    ((s, t),) = scales
    left_out = spec.skip == "always" and not s.any()
    runs = {name: int(n) for name, n in shaken.named_buffers() if name.endswith("tracked")}
    assert runs.pop("norm1.num_batches_tracked") == int(not left_out or shape != SHAPES[0])
    assert set(runs.values()) == {int(not left_out)}

    def equation(x: Tensor) -> Tensor:
        shortcut, f = wide_block(stock, x, shape[2])
        return shortcut + s * f + (t - s) * (f - f.detach())

    reference = nn.Module()
    reference.stock, reference.forward = stock, equation
    expected = run(reference, feature_map())
    for name in ("out", "input gradient"):
        torch.testing.assert_close(got[name], expected[name], rtol=1e-6, atol=1e-6)
    for name, _ in stock.named_parameters():
        other = expected[f"gradient of stock.{name}"]
        torch.testing.assert_close(got[f"gradient of {name}"], other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("last_norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_with_p_l_of_1_it_is_the_plain_block_bit_for_bit(shape, last_norm) -> None:
    stock = block_of(*shape, last_norm).float()
    spec = ShakeDropSpec(alpha=(-1, 1), survival_prob=1.0, level="pixel")
    shaken = shake(copy.deepcopy(stock), spec)
    x = feature_map().float()
    assert_equal_runs(run(shaken, x), run(stock, x))


@pytest.mark.parametrize("erase_relu", [False, True])
@pytest.mark.parametrize("last_norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_folded_it_computes_the_same_and_there_is_no_relu_to_erase(
    shape, last_norm, erase_relu
) -> None:
    stock = block_of(*shape, last_norm).eval()
    spec = paper_form(alpha=(0, 1), survival_prob=0.5, erase_relu=erase_relu)
    shaken = shake(copy.deepcopy(stock), spec).eval()
    x = feature_map()
    shortcut, f = wide_block(stock, x, shape[2])
    torch.testing.assert_close(shaken(x), shortcut + 0.75 * f)
    folded = fold(copy.deepcopy(shaken))
    assert type(folded) is WideBlock and folded.state_dict().keys() == stock.state_dict().keys()
    torch.testing.assert_close(folded(x), shaken(x))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plain_block_can_be_scripted(shape) -> None:
    block = block_of(*shape, "BN").eval()
    torch.testing.assert_close(torch.jit.script(block)(feature_map()), block(feature_map()))
