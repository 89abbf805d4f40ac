"""What a dropped residual branch need not compute.

Both functions give every parameter a gradient, zero or not: a parameter without one would stop
DistributedDataParallel, which waits for all of them.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

import torch
from torch import Tensor, nn


def skip_branch(shortcut: Tensor, parameters: Sequence[Tensor], *, relu: bool) -> Tensor:
    """``act(x)``, with zero gradients for the parameters of a branch that did not run.

    Right where both scales of the branch are 0 for the whole batch (RandomDrop).

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
        ctx.relu = relu
        ctx.save_for_backward(*((out,) if relu else ()), *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        saved = list(ctx.saved_tensors)
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, saved.pop(0), 0)
        zeros = (
            torch.zeros_like(parameter) if needed else None
            for parameter, needed in zip(saved, ctx.needs_input_grad[2:], strict=True)
        )
        return grad, None, *zeros


def skip_conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution whose output nobody reads, but whose gradient is asked for.

    Right where the forward scale is 0 for the whole batch and what follows needs no more of the
    output than its shape. The gradients of input and weight are those of the convolution, which
    do not depend on its output.

    Args:
        conv: without bias.
        x: its input, (N, C, H, W).

    Returns:
        Tensor: zeros of the output's shape, which take no memory.
    """
    return _SkippedConv.apply(x, conv.weight, conv.stride, conv.padding, conv.dilation, conv.groups)


class _SkippedConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        ctx.settings = stride, padding, dilation, groups
        ctx.save_for_backward(x, weight)
        size = [
            (length + 2 * pad - dil * (kernel - 1) - 1) // step + 1
            for length, pad, dil, kernel, step in zip(
                x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
            )
        ]
        return x.new_zeros(()).expand(x.shape[0], weight.shape[0], *size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        mask = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad,
            x,
            weight.to(x.dtype),
            None,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            mask,
        )
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        return grad_x, grad_weight, None, None, None, None
