"""The junction of a branch that ends in GroupNorm, whose affine map takes the scales."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .scaled_add import add_, zero_dropped
from .scales import Scales


def group_norm_junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales,
    norm: nn.GroupNorm,
    *,
    relu: bool,
) -> Tensor:
    """``act(x + s GN(f))`` with no pass over memory more than GN and the addition make.

    Eqs. 6 and 7 of the paper, with t in place of s in the gradient of the residual.
    GN treats each image by itself. With the images side by side as channels of a single one, its
    affine map differs from image to image: it becomes that of GN times s in the forward pass and
    times t in the backward pass.

    Args:
        shortcut: x, (N, C, H, W).
        residual: f, of the shape of ``shortcut``, contiguous.
        scales: each broadcastable to (N, C, 1, 1).
        norm: with affine parameters.
        relu: whether a ReLU follows.

    Returns:
        Tensor: (N, C, H, W), of the dtype of ``residual``.
    """
    return _GroupNormJunction.apply(
        shortcut.to(residual.dtype),
        residual,
        norm.weight,
        norm.bias,
        scales.forward,
        scales.backward,
        norm.num_groups,
        norm.eps,
        relu,
        scales.is_dropped(),
    )


class _GroupNormJunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        shortcut: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor,
        backward_scale: Tensor,
        num_groups: int,
        eps: float,
        relu: bool,
        dropped: Optional[bool],
    ) -> Tensor:
        factor, offset = (_of_each_image(scale, values, residual) for values in (weight, bias))
        normed, mean, rstd = torch.ops.aten.native_group_norm(
            residual, factor, offset, *_side_by_side(residual, num_groups), eps
        )
        if dropped:
            out = shortcut.relu() if relu else shortcut.clone()
        else:
            if dropped is None:
                normed = zero_dropped(normed, scale, inplace=True)
            out = add_(normed, shortcut, relu=relu)
        ctx.num_groups, ctx.eps, ctx.relu = num_groups, eps, relu
        ctx.save_for_backward(residual, weight, bias, mean, rstd, backward_scale, *[out] * relu)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        residual, weight, bias, mean, rstd, scale, *output = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, output[0], 0)
        if torch.is_grad_enabled():
            # Only what autograd itself writes down can be differentiated once more.
            inputs = f, w, b = [tensor.view_as(tensor) for tensor in (residual, weight, bias)]
            normed = F.group_norm(f, ctx.num_groups, w, b, ctx.eps)
            scaled = grad * scale.to(grad.dtype)
            needed = [tensor for tensor in inputs if tensor.requires_grad]
            found = iter(
                torch.autograd.grad(normed, needed, scaled, create_graph=True) if needed else ()
            )
            return grad, *(next(found) if t.requires_grad else None for t in inputs), *[None] * 6
        grads = _branch_gradients(grad, residual, weight, mean, rstd, scale, ctx.num_groups)
        return grad, *grads, *[None] * 6


def _branch_gradients(
    grad: Tensor,
    residual: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    scale: Tensor,
    num_groups: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of residual, weight and bias of GN, for ``scale`` times the gradient ``grad``."""
    grad_residual, *of_images = torch.ops.aten.native_group_norm_backward(
        grad.contiguous(),
        residual,
        mean,
        rstd,
        _of_each_image(scale, weight, residual),
        *_side_by_side(residual, num_groups),
        [True, True, True],
    )
    images, channels = residual.shape[:2]
    scale = scale.flatten(1)
    grad_weight, grad_bias = (
        (values.view(images, channels) * scale).sum(0).to(weight.dtype) for values in of_images
    )
    return grad_residual, grad_weight, grad_bias


def _of_each_image(scale: Tensor, values: Tensor, residual: Tensor) -> Tensor:
    """``scale`` times one value for each channel, as values of N C channels."""
    scaled = (scale * values.view(1, -1, 1, 1)).to(values.dtype)
    return scaled.expand(*residual.shape[:2], 1, 1).reshape(-1)


def _side_by_side(residual: Tensor, num_groups: int) -> tuple[int, int, int, int]:
    """(images, channels, pixels, groups) of a single image that holds all of them."""
    images, channels = residual.shape[:2]
    return 1, images * channels, residual.shape[2:].numel(), images * num_groups
