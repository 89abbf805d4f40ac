"""The junction without a norm: ``y = act(x + s f)``, with t in place of s in the gradient."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor


class ScaledAdd(torch.autograd.Function):
    """``y = act(x + s f)`` whose gradient with respect to ``f`` is ``t`` times that of the sum.

    Only ``t`` is saved, and the output where the ReLU stays: the next convolution keeps the
    output alive anyway, so that a boolean mask would cost memory rather than save it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        shortcut: Tensor,
        residual: Tensor,
        scale: Tensor,
        backward_scale: Tensor,
        relu: bool,
        dropped: Optional[bool],
    ) -> Tensor:
        return add_scaled(shortcut, residual, scale, relu=relu, dropped=dropped)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, _, backward_scale, relu, _ = inputs
        ctx.relu = relu
        ctx.save_for_backward(*((backward_scale, output) if relu else (backward_scale,)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        backward_scale, *output = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, output[0], 0)
        grad_residual = grad * backward_scale if ctx.needs_input_grad[1] else None
        return grad, grad_residual, None, None, None, None


def add_scaled(
    shortcut: Tensor,
    residual: Tensor,
    scale: Tensor,
    offset: Optional[Tensor] = None,
    *,
    relu: bool,
    dropped: Optional[bool],
) -> Tensor:
    """``act(shortcut + scale * residual + offset)``, in a new tensor.

    Where the scale is 0 the residual has no part in it, whatever it holds: 0 times Inf must not
    turn a dropped branch into NaN.

    Args:
        shortcut, residual: (N, C, H, W).
        scale, offset: broadcastable to that; the offset is 0 where the branch is dropped.
        relu: whether to apply a ReLU.
        dropped: whether the scale is 0 throughout (True), nowhere (False), or either (None).
    """
    if dropped:
        return shortcut.relu() if relu else shortcut.clone()
    out = torch.addcmul(shortcut, residual, scale)
    if dropped is None:
        # This pass over memory is what certainty saves.
        out = torch.where(scale == 0, shortcut, out)
    if offset is not None:
        out.add_(offset)
    return out.relu_() if relu else out
