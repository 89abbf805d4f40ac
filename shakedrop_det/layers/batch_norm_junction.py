"""The junction of a branch that ends in a trainable BatchNorm2d."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .scaled_add import add_scaled, zero_dropped
from .scales import Scales


def batch_norm_junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales,
    norm: nn.BatchNorm2d,
    *,
    relu: bool,
    inplace: bool,
) -> Tensor:
    """``act(x + s BN(f))`` with the batch's statistics, in place of BN's output.

    The scales go into the affine map that BN applies anyway, and in the backward pass into sums
    over each image and channel, so that they cost no pass over memory. Running statistics move as
    in ``norm`` itself.

    Args:
        shortcut: x, (N, C, H, W).
        residual: f, the output of the last convolution, of the shape of ``shortcut``.
        scales: each broadcastable to (N, C, 1, 1).
        norm: in training mode, with affine parameters.
        relu: whether a ReLU follows.
        inplace: whether ``residual`` may be written to.
    """
    momentum = _count_batch(norm)
    return _BatchNormJunction.apply(
        shortcut.to(residual.dtype),
        residual,
        norm.weight,
        norm.bias,
        scales.forward,
        scales.backward,
        _Running(norm.running_mean, norm.running_var, momentum),
        norm.eps,
        relu,
        scales.is_dropped(),
        inplace,
    )


class _Running(NamedTuple):
    """Running statistics, if any, and the weight of this batch in them."""

    mean: Optional[Tensor]
    var: Optional[Tensor]
    momentum: float


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
        running: _Running,
        eps: float,
        relu: bool,
        dropped: Optional[bool],
        inplace: bool,
    ) -> Tensor:
        if _is_fast_to_reduce(residual):
            # Nobody else has the residual; its gradient is the same without its mean.
            ctx.centered, reuse = inplace, not inplace
            normed, mean, invstd = _center(residual, running, eps, inplace=inplace)
            factor = weight * invstd
        else:
            ctx.centered, reuse = False, True
            normed, mean, invstd = torch.native_batch_norm(
                residual, None, None, running.mean, running.var, True, running.momentum, eps
            )
            factor = weight
        factor, offset = (
            (scale * _per_channel(values)).to(residual.dtype) for values in (factor, bias)
        )
        if dropped is None:
            normed = zero_dropped(normed, scale, inplace=reuse)
            factor = factor.masked_fill(scale == 0, 0)  # statistics may be NaN as well
        out = add_scaled(
            shortcut, normed, factor, offset, relu=relu, dropped=dropped, inplace=reuse
        )
        ctx.relu, ctx.eps = relu, eps
        ctx.save_for_backward(
            residual, weight, mean, invstd, backward_scale, *((out,) if relu else ())
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        residual, weight, mean, invstd, backward_scale, *output = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, output[0], 0)
        # Only torch's own backward pass can itself be differentiated.
        if _is_fast_to_reduce(residual) and not torch.is_grad_enabled():
            centered = residual if ctx.centered else residual - _per_channel(mean)
            grads = _branch_gradients(grad, centered, weight, invstd, backward_scale)
        else:
            grads = torch.ops.aten.native_batch_norm_backward(
                grad * backward_scale.to(grad.dtype),
                residual,
                weight,
                None,
                None,
                torch.zeros_like(mean) if ctx.centered else mean,
                invstd,
                True,
                ctx.eps,
                [True, True, True],
            )
        return grad, *grads, None, None, None, None, None, None, None


def _is_fast_to_reduce(residual: Tensor) -> bool:
    """Whether sums over each image and channel run along memory, in full precision. torch's own
    kernels for this layout add up one number at a time."""
    return residual.is_contiguous() and residual.dtype in (torch.float32, torch.float64)


def _center(
    residual: Tensor, running: _Running, eps: float, *, inplace: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The residual less its mean, that mean, and 1 / sqrt(var + eps), the latter of shape (C,)."""
    count = residual.numel() // residual.shape[1]
    mean = residual.sum((0, 2, 3)) / count
    centered = torch.sub(residual, _per_channel(mean), out=residual if inplace else None)
    var = torch.linalg.vector_norm(centered, dim=(2, 3)).square().sum(0) / count
    if running.mean is not None and running.var is not None:
        running.mean.lerp_(mean.to(running.mean.dtype), running.momentum)
        running.var.lerp_((var * (count / (count - 1))).to(running.var.dtype), running.momentum)
    return centered, mean, (var + eps).rsqrt()


def _branch_gradients(
    grad: Tensor, centered: Tensor, weight: Tensor, invstd: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of residual, weight and bias of BN, for ``scale`` times the gradient ``grad``."""
    count = centered.numel() // centered.shape[1]
    scale = scale.to(centered.dtype)
    # Sums over an image are scaled rather than the maps.
    grad_bias = (grad.sum((2, 3), keepdim=True) * scale).sum((0, 2, 3))
    dot = ((grad * centered).sum((2, 3), keepdim=True) * scale).sum((0, 2, 3))
    factor = weight * invstd
    # As an affine map of BN at test time, which goes over memory once.
    slope, offset = factor * invstd.square() * dot / -count, factor * grad_bias / -count
    zero, one = torch.zeros_like(slope), torch.ones_like(slope)
    grad_residual = F.batch_norm(centered, zero, one, slope, offset, eps=0.0)
    grad_residual.addcmul_(grad, scale * _per_channel(factor))
    return grad_residual, dot * invstd, grad_bias


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
