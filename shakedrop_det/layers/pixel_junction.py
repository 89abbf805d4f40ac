"""The junction under scales that differ from pixel to pixel."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from .pixel_scales import PixelScales
from .scaled_add import add_scaled, zero_dropped


def pixel_junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: PixelScales,
    *,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    relu: bool,
    inplace: bool,
) -> Tensor:
    """``act(x + s (w f + c))``, with t in place of s in the gradient of f. Neither scale is saved.

    Args:
        shortcut, residual: x and f, (N, C, H, W).
        scales: s and t.
        weight, bias: w and c of a frozen norm, (1, C, 1, 1); or None for 1 and 0.
        relu: whether a ReLU follows.
        inplace: whether the result may take the place of ``residual``.
    """
    return _PixelJunction.apply(
        shortcut.to(residual.dtype), residual, scales, weight, bias, relu, inplace
    )


class _PixelJunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        shortcut: Tensor,
        residual: Tensor,
        scales: PixelScales,
        weight: Optional[Tensor],
        bias: Optional[Tensor],
        relu: bool,
        inplace: bool,
    ) -> Tensor:
        dropped = scales.dropped
        if inplace and not dropped:
            ctx.mark_dirty(residual)
        if weight is not None and bias is not None and not dropped:
            dtype = residual.dtype
            residual = residual.mul_(weight.to(dtype)) if inplace else residual * weight.to(dtype)
            residual.add_(bias.to(dtype))
            inplace = True
        scale = shortcut if dropped else scales.forward.to(residual.dtype)
        if not dropped:
            residual = zero_dropped(residual, scale, inplace=inplace)
        out = add_scaled(shortcut, residual, scale, relu=relu, dropped=dropped, inplace=inplace)
        ctx.scales, ctx.relu = scales, relu
        ctx.save_for_backward(weight, out if relu else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        weight, output = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, output, 0)
        scale = ctx.scales.backward.to(grad.dtype)
        if weight is not None:
            # In place of the scale, which is nobody else's, if it is a whole map.
            is_map = scale.shape == grad.shape
            scale = scale.mul_(weight.to(grad.dtype)) if is_map else scale * weight.to(grad.dtype)
        return grad, grad * scale, None, None, None, None, None
