"""The junction without a norm: ``y = act(x + s f)``, with t in place of s in the gradient."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from .scales import can_read


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
        inplace: bool,
    ) -> Tensor:
        if dropped is None:
            residual = zero_dropped(residual, scale, inplace=inplace)
        return add_scaled(shortcut, residual, scale, relu=relu, dropped=dropped, inplace=inplace)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, residual, _, backward_scale, relu, dropped, inplace = inputs
        if inplace and not dropped:
            ctx.mark_dirty(residual)
        ctx.save_for_backward(*((backward_scale, output) if relu else (backward_scale,)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        backward_scale, *output = ctx.saved_tensors
        grads = scaled_gradients(grad, backward_scale, *output)
        return *grads, None, None, None, None, None


def add_scaled(
    shortcut: Tensor,
    residual: Tensor,
    scale: Tensor,
    offset: Optional[Tensor] = None,
    *,
    relu: bool,
    dropped: Optional[bool],
    inplace: bool,
) -> Tensor:
    """``act(shortcut + scale * residual + offset)``.

    Args:
        shortcut, residual: (N, C, H, W).
        scale, offset: broadcastable to that; the offset is 0 where the branch is dropped.
        relu: whether to apply a ReLU.
        dropped: True if the scale is 0 throughout: then the result is a new tensor.
        inplace: whether the result takes the place of ``residual`` otherwise.
    """
    if dropped:
        return shortcut.relu() if relu else shortcut.clone()
    fused = relu and residual.dtype in (torch.float32, torch.float64) and can_read(residual)
    place = residual if inplace else None
    if fused and offset is None and scale.shape[1:].numel() == 1:
        out = torch.empty_like(residual) if place is None else place
        if scale.shape[0] == 1:
            return torch.ops.aten._add_relu.out(shortcut, residual, alpha=scale.item(), out=out)
        for x, f, s, y in zip(shortcut, residual, scale.flatten().tolist(), out, strict=True):
            torch.ops.aten._add_relu.out(x, f, alpha=s, out=y)
        return out
    out = torch.addcmul(shortcut, residual, scale, out=place)
    if offset is not None:
        return add_(out, offset, relu=relu)
    return out.relu_() if relu else out


def add_(out: Tensor, other: Tensor, *, relu: bool) -> Tensor:
    """``act(out + other)`` in place of ``out``."""
    if relu and out.dtype in (torch.float32, torch.float64) and can_read(out):
        return torch.ops.aten._add_relu_.Tensor(out, other)
    out.add_(other)
    return out.relu_() if relu else out


def scaled_gradients(
    grad: Tensor, scale: Tensor, output: Optional[Tensor] = None
) -> tuple[Tensor, Tensor]:
    """The gradients of ``x`` and ``f`` in ``act(x + f)``, the latter times a scale.

    Args:
        grad: of the output, (N, C, H, W).
        scale: broadcastable to that.
        output: of the ReLU; None if there was none.
    """
    if output is not None:
        grad = torch.ops.aten.threshold_backward(grad, output, 0)
    return grad, grad * scale.to(grad.dtype)


def zero_dropped(residual: Tensor, scale: Tensor, *, inplace: bool) -> Tensor:
    """The residual, but 0 where the scale is 0: there it must have no part in the sum, whatever it
    holds, and 0 times Inf would be NaN.

    Args:
        residual: (N, C, H, W).
        scale: broadcastable to that.
        inplace: whether to write to ``residual``.
    """
    dropped = scale == 0
    if inplace and scale.shape == (residual.shape[0], 1, 1, 1) and can_read(dropped):
        for image in dropped.flatten().nonzero().flatten().tolist():  # much faster than a mask
            residual[image].zero_()
        return residual
    return residual.masked_fill_(dropped, 0) if inplace else residual.masked_fill(dropped, 0)
