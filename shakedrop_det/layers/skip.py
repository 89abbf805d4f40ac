"""Skipping dropped residual branches (RandomDrop, Stochastic Depth)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

import torch
from detectron2.layers import Conv2d, DeformConv, FrozenBatchNorm2d, ModulatedDeformConv
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks

from .junction import relu_gradient

_SKIPPABLE = {Conv2d, DeformConv, ModulatedDeformConv, FrozenBatchNorm2d, nn.BatchNorm2d}
_SKIPPABLE |= {nn.GroupNorm, nn.Identity, nn.ReLU}
"""Modules without a state of their own (except BatchNorm2d's statistics) that do not wait for other
processes, as synchronized norms do. Subclasses are not included, since they may do anything."""


def skip_branch(shortcut: Tensor, parameters: Sequence[Tensor], *, relu: bool) -> Tensor:
    """``act(x)``, with zero gradients for the parameters of a branch that did not run.

    It is correct if both scales of the branch are 0 for the whole batch. The gradients are needed
    because DistributedDataParallel waits for one of each parameter.

    Args:
        shortcut: x, of any shape.
        parameters: parameters of the residual branch.
        relu: whether a ReLU follows.

    Returns:
        Tensor: of the shape of ``shortcut``.
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
    """Whether the modules of a branch can be skipped without another effect.

    They cannot if one of them has a hook or, with "exact", if BatchNorm2d would update its running
    statistics.

    Args:
        modules: all modules of the branch.
        skip: "exact", or "always" to ignore running statistics.
    """
    return not has_global_hook() and all(_is_skippable(m, skip) for m in modules)


def _is_skippable(module: nn.Module, skip: str) -> bool:
    is_known = type(module) in _SKIPPABLE and not is_hooked(module)
    # The weights of DataParallel's copies are not parameters that could get zero gradients.
    is_known = is_known and not any(isinstance(value, Tensor) for value in vars(module).values())
    return is_known and (skip == "always" or not _moves_statistics(module))


def _moves_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.training and module.track_running_stats


def has_global_hook() -> bool:
    """Whether a hook is registered for all modules."""
    return bool(
        module_hooks._global_forward_hooks
        or module_hooks._global_forward_pre_hooks
        or module_hooks._global_backward_hooks
        or module_hooks._global_backward_pre_hooks
    )


def is_hooked(module: nn.Module) -> bool:
    """Whether a module has a hook, or a replaced ``forward``."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )
