"""The junction of a branch that ends in FrozenBatchNorm2d, whose affine map takes the scales."""

from __future__ import annotations

from typing import Any, Optional

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor

from .eager_function import apply
from .junction import relu_gradient, zeros_of
from .scales import Scales, SeededScale, runs_python


def supports(scales: Scales) -> bool:
    """Whether the affine map can take these scales: not those of each pixel."""
    return not any(
        isinstance(scale, SeededScale)
        or (isinstance(scale, Tensor) and scale.shape[2:].numel() > 1)
        for scale in scales
    )


def frozen_affine(norm: FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, (1, C, 1, 1), of the map that a FrozenBatchNorm2d is."""
    weight = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * weight
    return weight.view(1, -1, 1, 1), bias.view(1, -1, 1, 1)


def junction(
    shortcut: Tensor, residual: Tensor, scales: Scales, *, norm: FrozenBatchNorm2d, relu: bool
) -> Tensor:
    """``act(x + s (w f + c))``: one multiplication and addition for norm and scale together.

    The arithmetic of the (N, C) factors is done in float32 and rounded once.

    Args:
        shortcut: x, (N, C, H, W).
        residual: f, the output of the last convolution, of the shape of ``shortcut``; it may be
            overwritten.
        scales: s and t; each a number, or broadcastable to (N, C, 1, 1).
        norm: holds w and c.
        relu: whether a ReLU follows.
    """
    weight, bias = frozen_affine(norm)
    scale, backward_scale = scales
    assert not isinstance(scale, SeededScale) and not isinstance(backward_scale, SeededScale)
    affine = dropped = None
    if not isinstance(scale, float) or scale != 0.0:
        affine = (scale * weight).to(residual.dtype), (scale * bias).to(residual.dtype)
        dropped = zeros_of(scale) if isinstance(scale, Tensor) else None
    eager = runs_python(residual.device)
    return apply(
        _FrozenJunction,
        shortcut.to(residual.dtype),
        residual,
        *(affine or (None, None)),
        dropped,
        weight,
        backward_scale,
        relu,
        affine is not None and eager,
        eager=eager,
    )


class _FrozenJunction(torch.autograd.Function):
    """``act(x + a f + b)``, or ``act(x)`` without a and b; the gradient of f is ``t w`` times that
    of the sum."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        shortcut: Tensor,
        residual: Tensor,
        factor: Optional[Tensor],
        offset: Optional[Tensor],
        dropped: Optional[Tensor],
        weight: Tensor,
        backward_scale: float | Tensor,
        relu: bool,
        inplace: bool,
    ) -> Tensor:
        if factor is None or offset is None:
            return shortcut.relu() if relu else shortcut.clone()
        if dropped is not None:
            mask = residual.masked_fill_ if inplace else residual.masked_fill
            residual = mask(dropped, 0)
        out = torch.addcmul(shortcut, residual, factor, out=residual if inplace else None)
        out.add_(offset)
        return out.relu_() if relu else out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, residual, *_, weight, scale, relu, inplace = inputs
        if inplace:
            ctx.mark_dirty(residual)
        ctx.scale = scale if isinstance(scale, float) else None
        scale = scale if isinstance(scale, Tensor) else None
        ctx.save_for_backward(weight, scale, output if relu else None)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        weight, scale, output = ctx.saved_tensors
        grad = relu_gradient(grad, output)
        factor = weight * (ctx.scale if scale is None else scale)
        return grad, grad * factor.to(grad.dtype), *[None] * 7
