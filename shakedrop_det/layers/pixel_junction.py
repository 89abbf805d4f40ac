"""The junction under scales that differ from pixel to pixel."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from .pixel_scales import BACKWARD, FORWARD, PixelScales, in_parts
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
        if dropped:
            out = add_scaled(shortcut, residual, shortcut, relu=relu, dropped=True, inplace=False)
        else:
            out = residual if inplace else residual.clone()
            affine = () if weight is None or bias is None else (weight, bias)
            _join_in_place(shortcut, out, scales, *(t.to(out.dtype) for t in affine), relu=relu)
        ctx.scales, ctx.relu = scales, relu
        ctx.save_for_backward(weight, out if relu else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        weight, output = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, output, 0)
        weight = None if weight is None else weight.to(grad.dtype)
        if _in_full_precision(grad) and ctx.scales.can_stream(BACKWARD):
            grad_residual = _StreamedProduct.apply(grad, ctx.scales, weight)
        else:
            scale = ctx.scales.backward.to(grad.dtype)
            grad_residual = grad * (scale if weight is None else scale * weight)
        return grad, grad_residual, None, None, None, None, None


def _join_in_place(
    shortcut: Tensor,
    residual: Tensor,
    scales: PixelScales,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    *,
    relu: bool,
) -> None:
    """``act(shortcut + s (weight * residual + bias))`` in place of the residual."""
    maps = shortcut, residual
    if _in_full_precision(*maps) and scales.can_stream(FORWARD):
        stream = scales.stream(FORWARD)
        scale = residual.new_empty(0)
        for x, f, *affine in in_parts(*maps, *(t for t in (weight, bias) if t is not None)):
            scale = stream.fill(scale.resize_(f.shape))
            if affine:
                f.mul_(affine[0]).add_(affine[1])
            torch.addcmul(x, f, scale, out=f)
            if relu:
                f.relu_()
        return
    if weight is not None and bias is not None:
        residual.mul_(weight).add_(bias)
    scale = scales.forward.to(residual.dtype)
    zero_dropped(residual, scale, inplace=True)
    add_scaled(shortcut, residual, scale, relu=relu, dropped=False, inplace=True)


class _StreamedProduct(torch.autograd.Function):
    """``t * weight * grad``, t being made part by part."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, scales: PixelScales, weight: Optional[Tensor]) -> Tensor:
        ctx.scales = scales
        ctx.save_for_backward(weight)
        product, stream = torch.empty_like(grad), scales.stream(BACKWARD)
        for g, out, *factor in in_parts(grad, product, *(() if weight is None else (weight,))):
            stream.fill(out)
            if factor:
                out.mul_(factor[0])
            out.mul_(g)
        return product

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        # The product is linear in what it multiplies.
        return _StreamedProduct.apply(grad.contiguous(), ctx.scales, *ctx.saved_tensors), None, None


def _in_full_precision(*maps: Tensor) -> bool:
    """Whether maps can be written part by part, as they lie in memory, without rounding.

    That is not so for several gradients at once (``is_grads_batched``).
    """
    return all(
        m.is_contiguous()
        and m.dtype in (torch.float32, torch.float64)
        and not torch._C._functorch.is_legacy_batchedtensor(m)
        for m in maps
    )
