"""Leaving a dropped residual branch out of a step (RandomDrop, Stochastic Depth)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

import torch
from detectron2.layers import Conv2d, DeformConv, FrozenBatchNorm2d, ModulatedDeformConv
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from .junction import relu_gradient

_SKIPPABLE = {Conv2d, DeformConv, ModulatedDeformConv, FrozenBatchNorm2d, nn.BatchNorm2d}
_SKIPPABLE |= {nn.GroupNorm, nn.Identity, nn.ReLU}
"""Modules that neither keep a state of their own, but for BatchNorm2d's statistics, nor wait for
other processes, as synchronized norms do. Subclasses may do anything."""


def skip_branch(shortcut: Tensor, parameters: Sequence[Tensor], *, relu: bool) -> Tensor:
    """``act(x)``, with zero gradients for the parameters of a branch that did not run.

    Right where both scales of the branch are 0 for the whole batch. A parameter without any
    gradient would stop DistributedDataParallel, which waits for all of them.

    Args:
        shortcut: x, of any shape.
        parameters: those of the residual branch.
        relu: whether a ReLU follows.
    """
    return _SkippedBranch.apply(shortcut, relu, *parameters)


class _SkippedBranch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shortcut: Tensor, relu: bool, *parameters: Tensor) -> Tensor:
        out = shortcut.relu() if relu else shortcut.clone()
        ctx.save_for_backward(out if relu else None, *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        output, *parameters = ctx.saved_tensors
        zeros = (
            torch.zeros_like(parameter) if needed else None
            for parameter, needed in zip(parameters, ctx.needs_input_grad[2:], strict=True)
        )
        return relu_gradient(grad, output), None, *zeros


def can_skip(modules: Iterable[nn.Module], *, skip: str) -> bool:
    """Whether nobody notices if the modules of a branch do not run in a step.

    Somebody does who hooked one of them, and whoever relies on the running statistics of
    BatchNorm2d, which a step without the branch does not move.

    Args:
        modules: all of the branch.
        skip: "always" if running statistics count as nothing, else "exact".
    """
    return not _has_any_global_hook() and all(_is_skippable(m, skip) for m in modules)


def _is_skippable(module: nn.Module, skip: str) -> bool:
    is_known = type(module) in _SKIPPABLE and not is_hooked(module)
    # The weights of DataParallel's copies are no parameters, which could be given zeros.
    is_known = is_known and not any(isinstance(value, Tensor) for value in vars(module).values())
    return is_known and (skip == "always" or not _moves_statistics(module))


def _moves_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.training and module.track_running_stats


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody hooked a module to see it run, or replaced its ``forward``."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )
