"""Leaving a dropped branch out: outputs without it, gradients as if it had run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, NaiveSyncBatchNorm
from torch import nn
from torch.nn.utils import parametrizations

from shakedrop_det.layers import can_skip, skip_branch

from .equations import random_map

N, C, H, W = 2, 3, 4, 5


@pytest.mark.parametrize("relu", [True, False])
def test_a_skipped_branch_gives_the_shortcut_and_zeros_where_gradients_are_asked_for(relu) -> None:
    shortcut, frozen, weight = random_map(N, C, H, W), random_map(C, seed=1), random_map(C, seed=2)
    frozen.requires_grad_(False)
    out = skip_branch(shortcut, [frozen, weight], relu=relu)
    expected = shortcut.clamp(min=0) if relu else shortcut
    assert torch.equal(out, expected)
    grad = torch.randn_like(out)
    out.backward(grad)
    torch.testing.assert_close(shortcut.grad, torch.autograd.grad(expected, shortcut, grad)[0])
    assert frozen.grad is None and torch.equal(weight.grad, torch.zeros_like(weight))


@pytest.mark.parametrize("relu", [True, False])
def test_what_is_done_to_the_output_in_place_leaves_the_shortcut_alone(relu) -> None:
    shortcut = random_map(N, C, H, W).detach()
    before = shortcut.clone()
    skip_branch(shortcut, [], relu=relu).add_(1)
    assert torch.equal(shortcut, before)


def conv(norm: nn.Module | None, **options) -> Conv2d:
    return Conv2d(C, C, 1, bias=norm is None, norm=norm, **options).train()


def hooked(add: Callable[[nn.Module], object]) -> nn.Module:
    module = conv(FrozenBatchNorm2d(C))
    add(module.norm)
    return module


def with_own_forward() -> nn.Module:
    module = conv(None)
    module.forward = lambda x: x  # type: ignore[method-assign]
    return module


class CustomConv(Conv2d):
    """May compute anything."""


UNNOTICED = {
    "frozen norm": lambda: conv(FrozenBatchNorm2d(C)),
    "no norm": lambda: conv(None),
    "GroupNorm": lambda: conv(nn.GroupNorm(1, C)),
    "BatchNorm in test mode": lambda: conv(nn.BatchNorm2d(C)).eval(),
    "BatchNorm without statistics": lambda: conv(nn.BatchNorm2d(C, track_running_stats=False)),
}
NOTICED = {
    "forward hook": lambda: hooked(lambda m: m.register_forward_hook(lambda *_: None)),
    "forward pre-hook": lambda: hooked(lambda m: m.register_forward_pre_hook(lambda *_: None)),
    "backward hook": lambda: hooked(lambda m: m.register_full_backward_hook(lambda *_: None)),
    "own forward": with_own_forward,
    "subclass": lambda: CustomConv(C, C, 1),
    "parametrization": lambda: parametrizations.weight_norm(conv(None)),
    "SyncBatchNorm": lambda: conv(nn.SyncBatchNorm(C)),
    "NaiveSyncBatchNorm": lambda: conv(NaiveSyncBatchNorm(C)),
}


@pytest.mark.parametrize("skip", ["exact", "always"])
@pytest.mark.parametrize("name", UNNOTICED)
def test_a_branch_that_nobody_watches_is_skipped(name, skip) -> None:
    assert can_skip(UNNOTICED[name]().modules(), skip=skip)


@pytest.mark.parametrize("skip", ["exact", "always"])
@pytest.mark.parametrize("name", NOTICED)
def test_a_branch_is_not_skipped_where_somebody_would_notice(name, skip) -> None:
    assert not can_skip(NOTICED[name]().modules(), skip=skip)


def test_moving_statistics_are_skipped_only_if_asked_for() -> None:
    module = conv(nn.BatchNorm2d(C))
    assert not can_skip(module.modules(), skip="exact")
    assert can_skip(module.modules(), skip="always")


def test_a_global_hook_sees_each_branch_run() -> None:
    module = conv(None)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not can_skip(module.modules(), skip="always")
    finally:
        handle.remove()
