"""Activation checkpointing where it is not plain which forward pass a block runs again for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl
from torch.utils.checkpoint import checkpoint

from shakedrop_det import shake

from ..paper_form import paper_form
from .networks import group_norm
from .test_two_passes import inputs, network, plainly, wrap_blocks

LEVELS = ["batch", "image", "channel", "pixel"]


class Interruption(Exception):
    """Stands for any error in the middle of a forward pass."""


def interrupt(*_: object) -> None:
    raise Interruption


def assert_equal_gradients(model: nn.Module, wrapped: nn.Module, call: Callable) -> None:
    """``call(model, use_checkpoints)`` gives a loss; its gradients are the same, bit for bit."""
    found = []
    for module, use_checkpoints in ((model, False), (wrapped, True)):
        torch.manual_seed(0)
        call(module, use_checkpoints).backward()
        found.append([p.grad for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def blocks(level: str = "image") -> nn.Sequential:
    """Blocks whose first one gets the network's input itself."""
    torch.manual_seed(3)
    stack = nn.Sequential(
        *(BottleneckBlock(8, 8, bottleneck_channels=4, norm=group_norm) for _ in range(3))
    )
    spec = paper_form(alpha=(-1, 1), survival_prob=0.1, level=level, gate_level="image")
    return shake(stack, spec).double()


def feature_map() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(4, 8, 6, 6, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("level", LEVELS)
def test_a_forward_pass_that_fails_leaves_earlier_ones_their_scales(level) -> None:
    def call(model: nn.Module, _: bool) -> Tensor:
        first, second = inputs()
        out = plainly(model, first)
        handle = model.res5.register_forward_pre_hook(interrupt)
        with pytest.raises(Interruption):
            model(second)
        handle.remove()
        return out.square().sum()

    model = network(level)
    wrapped = wrap_blocks(copy.deepcopy(model), CheckpointImpl.NO_REENTRANT)
    assert_equal_gradients(model, wrapped, call)


@pytest.mark.parametrize("level", LEVELS)
def test_one_pass_by_blocks_and_one_as_a_whole_keep_their_scales(level) -> None:
    """The recomputation of a whole network stops early, in the middle of its forward pass."""

    def call(model: nn.Module, use_checkpoints: bool) -> Tensor:
        first, second = inputs()
        out = plainly(model, first)
        if use_checkpoints:
            other = checkpoint(lambda x: plainly(model, x), second, use_reentrant=False)
        else:
            other = plainly(model, second)
        return out.square().sum() + other.square().sum()

    model = network(level)
    wrapped = wrap_blocks(copy.deepcopy(model), CheckpointImpl.NO_REENTRANT)
    assert_equal_gradients(model, wrapped, call)


@pytest.mark.parametrize("first_first", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_the_same_input_in_two_passes_meets_the_scales_of_each(level, first_first) -> None:
    def call(model: nn.Module, _: bool) -> Tensor:
        x = feature_map()
        losses = [model(x).square().sum(), model(x).pow(3).sum()]
        if first_first:
            losses[0].backward()
            return losses[1]
        return sum(losses)

    model = blocks(level)
    wrapped = wrap_blocks(copy.deepcopy(model), CheckpointImpl.NO_REENTRANT)
    assert_equal_gradients(model, wrapped, call)


@pytest.mark.parametrize("passes", [1, 2, 4, 5])
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_a_checkpoint_may_begin_before_the_first_block(level, use_reentrant, passes) -> None:
    def call(model: nn.Module, use_checkpoints: bool) -> Tensor:
        def begin(x: Tensor) -> Tensor:
            return model.res2(model.stem(x))

        def forward(x: Tensor) -> Tensor:
            x = checkpoint(begin, x, use_reentrant=use_reentrant) if use_checkpoints else begin(x)
            for stage in model.stages[1:]:
                x = stage(x)
            return x

        model.forward = forward
        return sum(model(inputs()[0] + i).square().sum() for i in range(passes))

    model = network(level)
    model.res2[0].survival_prob = 0.0  # the first blocks are seldom perturbed as they are
    assert_equal_gradients(model, copy.deepcopy(model), call)
