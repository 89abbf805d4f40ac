"""Modules that others put into a branch, of which nothing is known: the branch always runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    checkpoint_wrapper,
)
from torch.nn.utils.parametrizations import spectral_norm

from shakedrop_det.modeling import ShakenBlock

from .networks import running_convolutions
from .test_postponed_branches import by_copies, dropped, feature_map, stack


class Scaled(nn.Module):
    """Multiplies by a parameter that is not its own."""

    def __init__(self, conv: nn.Module, factor: nn.Parameter) -> None:
        super().__init__()
        self.conv, self.borrowed = conv, [factor]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.borrowed[0]


class Centered(nn.Module):
    """Gathers a statistic, each time in a new tensor."""

    mean: Tensor

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        self.mean = 0.5 * self.mean + 0.5 * out.detach().mean()
        return out - self.mean


def scaled(conv: nn.Module, factor: nn.Parameter) -> nn.Module:
    return Scaled(conv, factor)


def centered(conv: nn.Module, factor: nn.Parameter) -> nn.Module:
    return Centered(conv)


def checkpointed(conv: nn.Module, factor: nn.Parameter) -> nn.Module:
    return checkpoint_wrapper(conv, CheckpointImpl.REENTRANT)


def normalized(conv: nn.Module, factor: nn.Parameter) -> nn.Module:
    """Its weight comes from a power iteration that goes on with each call."""
    torch.manual_seed(0)
    return spectral_norm(conv)


def two_steps(network: nn.Module, factor: nn.Parameter) -> dict[str, Optional[Tensor]]:
    """The gradients and buffers after them."""
    for step in range(2):
        torch.manual_seed(step)
        x = feature_map().requires_grad_()
        network(x).square().sum().backward()
    found = {"x": x.grad, "factor": factor.grad}
    found.update((name, p.grad) for name, p in network.named_parameters())
    found.update(network.named_buffers())
    return found


@pytest.mark.parametrize("beta", [(0, 1), (0, 0)], ids=["ShakeDrop", "RandomDrop"])
@pytest.mark.parametrize("kind", [scaled, centered, checkpointed, normalized])
def test_a_step_is_that_of_branches_that_run(
    kind: Callable[[nn.Module, nn.Parameter], nn.Module], beta: tuple[int, int]
) -> None:
    found = []
    for skip in ("never", "exact"):
        factor = nn.Parameter(torch.full((1, 6, 1, 1), 0.5, dtype=torch.float64))
        network = dropped(stack(), skip, beta=beta)
        for block in network:
            assert isinstance(block, ShakenBlock)
            block.conv1 = kind(block.conv1, factor)
        found.append(two_steps(network, factor))
    expected, got = found
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert (got[name] is None) == (value is None), name
        if value is not None:
            torch.testing.assert_close(got[name], value, msg=name)


def test_two_backward_passes_see_the_same_dropout() -> None:
    network = dropped(stack())
    for block in network:
        block.conv1 = nn.Sequential(block.conv1, nn.Dropout2d())
    loss = network(feature_map()).square().sum()
    weights = list(network.parameters())
    once, again = (torch.autograd.grad(loss, weights, retain_graph=True) for _ in range(2))
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a, b)


def test_weights_that_are_no_parameters_get_the_gradient_of_a_branch_that_runs() -> None:
    """As those of FullyShardedDataParallel, which waits for them in all processes."""
    expected, got = (by_copies(dropped(stack(), skip, beta=(0, 0))) for skip in ("never", "exact"))
    for name, gradient in expected.items():
        assert gradient is not None
        torch.testing.assert_close(got[name], gradient, msg=name)


@pytest.mark.parametrize("beta", [(0, 1), (0, 0)], ids=["ShakeDrop", "RandomDrop"])
def test_modules_of_torch_and_detectron2_are_known(beta) -> None:
    """Or the tests above would tell nothing."""
    network = dropped(stack()[1:], beta=beta)
    network[0].conv1 = nn.Sequential(network[0].conv1, nn.Identity())
    with running_convolutions() as weights:
        network(feature_map_of_second_block())
    assert not weights


def feature_map_of_second_block() -> Tensor:
    return torch.randn(3, 6, 4, 4, dtype=torch.float64)
