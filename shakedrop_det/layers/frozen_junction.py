"""The junction of a branch that ends in FrozenBatchNorm2d, whose affine map takes the scales."""

from __future__ import annotations

from typing import Any, Optional

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor

from .scaled_add import add_scaled, scaled_gradients, zero_dropped
from .scales import Scales


def frozen_affine(norm: FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, (1, C, 1, 1), of the map that a FrozenBatchNorm2d is."""
    weight = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * weight
    return weight.view(1, -1, 1, 1), bias.view(1, -1, 1, 1)


def frozen_junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales,
    norm: FrozenBatchNorm2d,
    *,
    relu: bool,
    inplace: bool,
) -> Tensor:
    """``act(x + s (w f + c))`` in two passes over memory, three with the ReLU.

    The arithmetic of the (N, C) factors is done in float32 and rounded once.

    Args:
        shortcut: x, (N, C, H, W).
        residual: f, the output of the last convolution, of the shape of ``shortcut``.
        scales: each broadcastable to (N, C, 1, 1).
        norm: holds w and c.
        relu: whether a ReLU follows.
        inplace: whether the result may take the place of ``residual``.
    """
    weight, bias = frozen_affine(norm)
    return _FrozenJunction.apply(
        shortcut.to(residual.dtype),
        residual,
        scales.forward,
        scales.backward,
        weight,
        bias,
        relu,
        scales.is_dropped(),
        inplace,
    )


class _FrozenJunction(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        shortcut: Tensor,
        residual: Tensor,
        scale: Tensor,
        backward_scale: Tensor,
        weight: Tensor,
        bias: Tensor,
        relu: bool,
        dropped: Optional[bool],
        inplace: bool,
    ) -> Tensor:
        if dropped is None:
            residual = zero_dropped(residual, scale, inplace=inplace)
        dtype = residual.dtype
        offset = None if dropped else (scale * bias).to(dtype)
        factor = (scale * weight).to(dtype)
        return add_scaled(
            shortcut, residual, factor, offset, relu=relu, dropped=dropped, inplace=inplace
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, residual, _, backward_scale, weight, _, relu, dropped, inplace = inputs
        if inplace and not dropped:
            ctx.mark_dirty(residual)
        ctx.save_for_backward(backward_scale, weight, *((output,) if relu else ()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        backward_scale, weight, *output = ctx.saved_tensors
        grads = scaled_gradients(grad, backward_scale * weight, *output)
        return *grads, None, None, None, None, None, None, None
