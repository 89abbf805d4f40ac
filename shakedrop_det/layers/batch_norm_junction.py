"""The junction of a branch that ends in a trainable BatchNorm2d."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from .scales import Scales


def batch_norm_junction(
    shortcut: Tensor, residual: Tensor, scales: Scales, norm: nn.BatchNorm2d, relu: bool
) -> Tensor:
    """``act(x + s BN(f))`` with the batch's statistics, in place of BN's output.

    Where one scale serves the whole batch it goes into gamma and beta, and in the backward pass
    into gamma, so that it costs no pass over memory. Running statistics move as in ``norm`` itself.

    Args:
        shortcut: x, (N, C, H, W).
        residual: f, the output of the last convolution, of the shape of ``shortcut``.
        scales: each broadcastable to (N, C, 1, 1), or to a batch.
        norm: in training mode, with affine parameters.
        relu: whether a ReLU follows.
    """
    momentum = _count_batch(norm)
    dtype = residual.dtype
    return _BatchNormJunction.apply(
        shortcut.to(dtype),
        residual,
        norm.weight,
        norm.bias,
        scales.forward,
        scales.backward,
        norm.running_mean,
        norm.running_var,
        momentum,
        norm.eps,
        relu,
        scales.is_dropped(),
    )


def _count_batch(norm: nn.BatchNorm2d) -> float:
    """The weight of this batch in the running statistics, as ``nn.BatchNorm2d.forward`` has it."""
    if not norm.track_running_stats or norm.num_batches_tracked is None:
        return 0.0 if norm.momentum is None else norm.momentum
    norm.num_batches_tracked.add_(1)
    if norm.momentum is None:
        return 1.0 / float(norm.num_batches_tracked)
    return norm.momentum


class _BatchNormJunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        shortcut: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor,
        backward_scale: Tensor,
        running_mean: Optional[Tensor],
        running_var: Optional[Tensor],
        momentum: float,
        eps: float,
        relu: bool,
        dropped: Optional[bool],
    ) -> Tensor:
        whole_batch = scale.numel() == 1 and backward_scale.numel() == 1
        factor = scale.view(1).to(weight.dtype) if whole_batch else 1.0
        normed, mean, invstd = torch.native_batch_norm(
            residual,
            weight * factor,
            bias * factor,
            running_mean,
            running_var,
            True,
            momentum,
            eps,
        )
        # The normalized residual is nobody else's: the result takes its place.
        if dropped:
            out = normed.copy_(shortcut)
        elif whole_batch:
            out = normed.add_(shortcut)
        else:
            scale = scale.to(residual.dtype)
            if dropped is None:
                normed.masked_fill_(scale == 0, 0.0)
            out = torch.addcmul(shortcut, normed, scale, out=normed)
        ctx.whole_batch, ctx.relu, ctx.eps = whole_batch, relu, eps
        if relu:
            out.relu_()
        ctx.save_for_backward(
            residual, weight, mean, invstd, backward_scale, *((out,) if relu else ())
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        residual, weight, mean, invstd, backward_scale, *output = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, output[0], 0)
        # The backward pass of BN is linear in the gradient and in gamma.
        if ctx.whole_batch:
            factor = backward_scale.view(1).to(weight.dtype)
            grad_branch, scaled_weight = grad, weight * factor
        else:
            factor = 1.0
            grad_branch, scaled_weight = grad * backward_scale.to(grad.dtype), weight
        grad_residual, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad_branch,
            residual,
            scaled_weight,
            None,
            None,
            mean,
            invstd,
            True,
            ctx.eps,
            [True, True, True],
        )
        grads = grad, grad_residual, grad_weight * factor, grad_bias * factor
        return *grads, None, None, None, None, None, None, None, None
