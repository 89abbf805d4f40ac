"""Automatic mixed precision: half precision in, half precision out of each block."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import Tensor, nn

from shakedrop_det import shake

from ..paper_form import paper_form
from .networks import group_norm, images, narrow_resnet
from .usual_formulation import UsualBlock

DTYPES = [torch.bfloat16, torch.float16]
NORMS = {"FrozenBN": "FrozenBN", "BN": "BN", "GN": group_norm, "none": ""}


def block_dtypes(network: nn.Module) -> list[torch.dtype]:
    """Of the output of each residual block in a training step under autocast."""
    found: list[torch.dtype] = []
    for module in network.modules():
        if isinstance(module, BasicBlock):
            module.register_forward_hook(lambda module, args, out: found.append(out.dtype))
    network(images())
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
@pytest.mark.parametrize("norm", NORMS)
def test_each_block_has_the_dtype_that_it_has_in_stock(norm, level, dtype) -> None:
    stock = narrow_resnet(18, norm=NORMS[norm])
    spec = paper_form(alpha=(-1, 1), survival_prob=0.0, decay="constant", level=level)
    shaken = shake(copy.deepcopy(stock), spec)
    with torch.autocast("cpu", dtype):
        expected, got = block_dtypes(stock.train()), block_dtypes(shaken.train())
    assert got == expected == [dtype] * 8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_are_those_of_float32_up_to_rounding(norm, dtype) -> None:
    fixed = {"alpha": (0.4, 0.4), "beta": (0.7, 0.7), "survival_prob": 0.0, "decay": "constant"}
    stack = nn.Sequential(*(BasicBlock(8, 8, norm=NORMS[norm]) for _ in range(2)))
    stack = shake(stack, paper_form(**fixed)).train()
    x = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))

    def gradients(enabled: bool) -> list[Tensor]:
        stack.zero_grad()
        with torch.autocast("cpu", dtype, enabled=enabled):
            out = stack(x)
        out.float().square().mean().backward()
        return [p.grad.clone() for p in stack.parameters()]

    for half, single in zip(gradients(True), gradients(False), strict=True):
        assert half.dtype == torch.float32 and half.any()
        assert (half - single).norm() <= 0.15 * single.norm()


def test_the_usual_formulation_turns_to_float32() -> None:
    """Or the tests above would tell nothing."""
    with torch.autocast("cpu", torch.bfloat16):
        assert UsualBlock(4, 4, norm="FrozenBN")(torch.randn(2, 4, 6, 6)).dtype == torch.float32
