"""The junction together with the convolution before it, whose gradient takes the scales."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from .frozen_junction import frozen_affine
from .scaled_add import add_scaled, zero_dropped
from .scales import Scales


class ConvGeometry(NamedTuple):
    """How a convolution moves over its input."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "ConvGeometry":
        """That of a module whose padding is given in pixels."""
        assert not isinstance(conv.padding, str)
        return cls(conv.stride, conv.padding, conv.dilation, conv.groups)

    def output_size(self, x: Tensor, weight: Tensor) -> list[int]:
        """(N, C, H, W) of the convolution of ``x`` with ``weight``."""
        pixels = [
            (length + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for length, pad, dilation, kernel, stride in zip(
                x.shape[2:], self.padding, self.dilation, weight.shape[2:], self.stride, strict=True
            )
        ]
        return [x.shape[0], weight.shape[0], *pixels]


def conv_junction(
    shortcut: Tensor,
    x: Tensor,
    conv: nn.Conv2d,
    norm: FrozenBatchNorm2d,
    scales: Scales,
    *,
    relu: bool,
    fold: bool,
    skip: bool,
) -> Tensor:
    """``act(shortcut + s (w conv(x) + c))``, where w and c are those of a frozen norm.

    Eqs. 6 and 7 of the paper, with t in place of s in the gradient of the residual.
    In the backward pass t and w need not multiply the wide map between convolution and junction: t
    goes to the convolution's input and to the gradient of that, which are narrow, w to its weight.

    Args:
        shortcut: (N, C, H, W).
        x: the input of the convolution, (N, C_in, H_in, W_in).
        conv: without bias, its padding given in pixels, its weight of the dtype of ``x``.
        norm: holds w and c.
        scales: one number for each image, or one for all: (N or 1, 1, 1, 1).
        relu: whether a ReLU follows.
        fold: whether w and c go into the convolution's weight and bias in the forward pass too.
        skip: whether the convolution is left out of the forward pass where all images drop it.

    Returns:
        Tensor: (N, C, H, W), of the dtype of ``x``.
    """
    weight, bias = frozen_affine(norm)
    return _ConvJunction.apply(
        shortcut.to(x.dtype),
        x,
        conv.weight,
        scales.forward,
        scales.backward,
        weight,
        bias,
        ConvGeometry.of(conv),
        relu,
        scales.is_dropped(),
        fold,
        skip,
    )


class _ConvJunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        shortcut: Tensor,
        x: Tensor,
        conv_weight: Tensor,
        scale: Tensor,
        backward_scale: Tensor,
        weight: Tensor,
        bias: Tensor,
        geometry: ConvGeometry,
        relu: bool,
        dropped: Optional[bool],
        fold: bool,
        skip: bool,
    ) -> Tensor:
        residual, factor, offset = shortcut, scale, None
        runs = not (dropped and skip)
        if runs and fold:
            folded = conv_weight * _per_output(weight).to(x.dtype)
            residual = F.conv2d(x, folded, bias.view(-1).to(x.dtype), *geometry)
        elif runs:
            residual = F.conv2d(x, conv_weight, None, *geometry)
            factor, offset = scale * weight, (scale * bias).to(x.dtype)
        if dropped is None:
            residual = zero_dropped(residual, scale, inplace=True)
        out = add_scaled(
            shortcut,
            residual,
            factor.to(x.dtype),
            offset,
            relu=relu,
            dropped=dropped,
            inplace=True,
        )
        ctx.geometry, ctx.relu = geometry, relu
        ctx.save_for_backward(x, conv_weight, backward_scale, weight, out if relu else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, conv_weight, scale, weight, output = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, output, 0)
        _, needs_x, needs_weight, *others = ctx.needs_input_grad
        grad_x = grad_weight = None
        if needs_x or needs_weight:
            grad_x, grad_weight = scaled_conv_gradients(
                grad, x, conv_weight, ctx.geometry, scale, weight, (needs_x, needs_weight)
            )
        return grad, grad_x, grad_weight, *(None for _ in others)


def scaled_conv_gradients(
    grad: Tensor,
    x: Tensor,
    conv_weight: Tensor,
    geometry: ConvGeometry,
    scale: Tensor,
    weight: Tensor,
    needed: tuple[bool, bool],
) -> tuple[Optional[Tensor], Optional[Tensor]]:
    """The gradients of input and weight of a convolution, for ``scale * weight * grad``.

    What is multiplied is the gradient itself, or input and weight where they are smaller.

    Args:
        grad: of the shape of the convolution's output.
        x, conv_weight, geometry: of the convolution.
        scale: broadcastable to ``grad``; cheapest is one number for each image or for all.
        weight: (1, C, 1, 1).
        needed: which of the two.

    Returns:
        tuple: both, of the shapes of ``x`` and ``conv_weight``, or None for what is not needed.
    """
    per_image = factor = None
    if grad.numel() < 4 * conv_weight.numel() or scale.shape[1:].numel() > 1:
        grad = grad * (scale * weight).to(grad.dtype)
    elif scale.shape[0] == 1:
        factor = _per_output(weight * scale).to(x.dtype)
    else:
        per_image, factor = scale.to(x.dtype), _per_output(weight).to(x.dtype)
    conv_weight = conv_weight.to(x.dtype)
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad,
        x if per_image is None else x * per_image,
        conv_weight if factor is None else conv_weight * factor,
        None,
        *geometry[:3],
        False,
        [0, 0],
        geometry.groups,
        [*needed, False],
    )
    if grad_x is not None and per_image is not None:
        grad_x = grad_x * per_image
    if grad_weight is not None and factor is not None:
        grad_weight = grad_weight * factor
    return grad_x, grad_weight


def _per_output(weight: Tensor) -> Tensor:
    """(1, C, 1, 1) as (C, 1, 1, 1): along the outputs of a convolution's weight."""
    return weight.view(-1, 1, 1, 1)
