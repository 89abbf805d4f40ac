"""The junction of a branch that ends in FrozenBatchNorm2d, whose affine map takes the scales."""

from __future__ import annotations

from typing import Any, Optional

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor

from .scaled_add import add_scaled
from .scales import Scales


def frozen_affine(norm: FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, (1, C, 1, 1), of the map that a FrozenBatchNorm2d is."""
    weight = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * weight
    return weight.view(1, -1, 1, 1), bias.view(1, -1, 1, 1)


def frozen_junction(
    shortcut: Tensor, residual: Tensor, scales: Scales, norm: FrozenBatchNorm2d, relu: bool
) -> Tensor:
    """``act(x + s (w f + c))`` in two passes over memory, three with the ReLU.

    The arithmetic of the (N, C) factors is done in float32 and rounded once.

    Args:
        shortcut: x, (N, C, H, W).
        residual: f, the output of the last convolution, of the shape of ``shortcut``.
        scales: each broadcastable to (N, C, 1, 1).
        norm: holds w and c.
        relu: whether a ReLU follows.
    """
    weight, bias = frozen_affine(norm)
    dtype = residual.dtype
    scale = (scales.forward * weight).to(dtype)
    dropped = scales.is_dropped()
    offset = None if dropped else (scales.forward * bias).to(dtype)
    return _FrozenJunction.apply(
        shortcut.to(dtype), residual, scale, offset, scales.backward, weight, relu, dropped
    )


class _FrozenJunction(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        shortcut: Tensor,
        residual: Tensor,
        scale: Tensor,
        offset: Optional[Tensor],
        backward_scale: Tensor,
        weight: Tensor,
        relu: bool,
        dropped: Optional[bool],
    ) -> Tensor:
        return add_scaled(shortcut, residual, scale, offset, relu=relu, dropped=dropped)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *_, backward_scale, weight, relu, _ = inputs
        ctx.relu = relu
        ctx.save_for_backward(backward_scale, weight, *((output,) if relu else ()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        backward_scale, weight, *output = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, output[0], 0)
        grad_residual = grad * (backward_scale * weight).to(grad.dtype)
        return grad, grad_residual, None, None, None, None, None, None
