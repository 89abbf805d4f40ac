"""Several forward passes before a backward pass, and activation checkpointing."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    apply_activation_checkpointing,
    checkpoint_wrapper,
)
from torch.utils.checkpoint import checkpoint

from shakedrop_det import shake
from shakedrop_det.modeling import ShakenBlock

from ..paper_form import paper_form
from .networks import group_norm, narrow_resnet

LEVELS = ["batch", "image", "channel", "pixel"]


def network(level: str, norm: str | Callable[[int], nn.Module] = group_norm) -> nn.Module:
    """With GroupNorm: BatchNorm would count a recomputed pass twice, and detectron2's
    FrozenBatchNorm2d rounds otherwise where no gradient is asked for, as in the first run of a
    reentrant checkpoint."""
    spec = paper_form(alpha=(-1, 1), survival_prob=0.3, level=level, gate_level="image")
    return shake(narrow_resnet(50, norm=norm), spec).double()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    first, second = torch.randn((2, 2, 3, 32, 32), generator=generator, dtype=torch.float64)
    return first.requires_grad_(), second.requires_grad_()


def gradients(model: nn.Module, passes: int, call) -> list[torch.Tensor]:
    torch.manual_seed(0)
    found = [call(model, x) for x in inputs()[:passes]]
    sum(out.square().sum() for out in found).backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def plainly(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x)["res5"]


def test_two_forward_passes_before_one_backward_pass_each_keep_their_draw() -> None:
    model = network("image")
    together = gradients(copy.deepcopy(model), 2, plainly)
    one_by_one = copy.deepcopy(model)
    torch.manual_seed(0)
    for x in inputs():
        plainly(one_by_one, x).square().sum().backward()
    for a, b in zip(together, (p.grad for p in one_by_one.parameters()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def wrap_blocks(model: nn.Module, implementation: CheckpointImpl) -> nn.Module:
    apply_activation_checkpointing(
        model,
        checkpoint_wrapper_fn=lambda m: checkpoint_wrapper(m, checkpoint_impl=implementation),
        check_fn=lambda m: isinstance(m, ShakenBlock),
    )
    return model


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_checkpointing_fused_junctions_gives_bit_equal_gradients(norm) -> None:
    """In the way that torch recommends; for the other see :func:`network`."""
    model = network("image", norm)
    expected = gradients(copy.deepcopy(model), 2, plainly)
    wrapped = wrap_blocks(copy.deepcopy(model), CheckpointImpl.NO_REENTRANT)
    found = gradients(wrapped, 2, plainly)
    assert len(found) == len(expected) > 0
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("implementation", list(CheckpointImpl))
def test_checkpointing_each_block_gives_bit_equal_gradients(implementation, level, passes) -> None:
    model = network(level)
    expected = gradients(copy.deepcopy(model), passes, plainly)
    got = gradients(wrap_blocks(copy.deepcopy(model), implementation), passes, plainly)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_each_stage_gives_bit_equal_gradients(use_reentrant, level, passes) -> None:
    model = network(level)

    class Checkpointed(nn.Module):
        def __init__(self, stage: nn.Module) -> None:
            super().__init__()
            self.stage = stage

        def forward(self, x):
            return checkpoint(self.stage, x, use_reentrant=use_reentrant)

    wrapped = copy.deepcopy(model)
    wrapped.stages = [Checkpointed(stage) for stage in wrapped.stages]
    expected = gradients(copy.deepcopy(model), passes, plainly)
    got = gradients(wrapped, passes, plainly)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_the_network_gives_bit_equal_gradients(use_reentrant, level, passes) -> None:
    def call(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda x: plainly(model, x), x, use_reentrant=use_reentrant)

    model = network(level)
    expected = gradients(copy.deepcopy(model), passes, plainly)
    got = gradients(copy.deepcopy(model), passes, call)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
