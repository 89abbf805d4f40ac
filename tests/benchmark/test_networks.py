"""The networks of the benchmark, with a survival probability of 1 or none of the noise."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn

from shakedrop_det.benchmark.networks import (
    OURS,
    RANDOM_DROP,
    STOCHASTIC_DEPTH,
    _image_with_squares,
    inference_variants,
    networks,
    step_variants,
    total,
)
from shakedrop_det.benchmark.rivals import AdditionBlock, PublicBlock, StochasticDepthBlock

RIVALS = {"public formulation": PublicBlock, STOCHASTIC_DEPTH: StochasticDepthBlock}


def stage(norm: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(BottleneckBlock(16, 16, bottleneck_channels=4, norm=norm) for _ in range(2))
    )


def step(variant, network: nn.Module) -> list[Tensor]:
    loss = variant()
    return [loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_all_variants_that_survive_take_the_stock_step(norm) -> None:
    ours = {"ours": OURS["ours"], **RANDOM_DROP}
    found = networks(stage(norm).train(), rivals=RIVALS, ours=ours, survival_prob=1.0)
    variants = step_variants(found, torch.randn(2, 16, 6, 6))
    assert len(variants) == 5
    expected = step(variants["detectron2"], found["detectron2"])
    assert len(expected) == 1 + len(list(found["detectron2"].parameters()))
    for name, variant in variants.items():
        for a, b in zip(step(variant, found[name]), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def test_addition_alone_is_the_stock_block_whose_last_norm_does_nothing() -> None:
    block = BottleneckBlock(8, 16, stride=2, bottleneck_channels=4, norm="FrozenBN").double()
    found = networks(nn.Sequential(block), rivals={"addition": AdditionBlock}, ours={})
    block.conv3.norm = None
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(found["addition"](x), block(x))


def test_each_step_begins_without_gradients() -> None:
    found = networks(stage("FrozenBN"), rivals={}, ours={})
    (variant,) = step_variants(found, torch.randn(2, 16, 6, 6)).values()
    first, second = (step(variant, found["detectron2"]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_folded_network_computes_what_the_shaken_one_does() -> None:
    variants = inference_variants("cpu")
    _, shaken, folded = (variant() for variant in variants.values())
    for name, out in shaken.items():
        torch.testing.assert_close(folded[name], out, rtol=1e-3, atol=1e-4)


def test_losses_are_summed() -> None:
    assert total({"a": torch.tensor(1.0), "b": torch.tensor([2.0, 4.0])}) == 4


def test_the_squares_of_an_image_fill_their_boxes() -> None:
    instances = _image_with_squares("cpu")["instances"]
    assert instances.gt_masks.tensor.sum((1, 2)).tolist() == instances.gt_boxes.area().tolist()
