"""The junction of a residual block: where the residual meets the shortcut, under two scales."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Scales(NamedTuple):
    """The two factors of one block in one step; each broadcasts to (N, C, H, W).

    Attributes:
        forward: s, which multiplies the residual.
        backward: t, which multiplies the gradient that flows into the residual branch.
    """

    forward: Tensor
    backward: Tensor


class _ScaledAdd(torch.autograd.Function):
    """``y = act(x + s f)`` whose gradient with respect to ``f`` is ``t`` times that of the sum.

    Only ``t`` is saved, and the output where the ReLU stays: the next convolution keeps the
    output alive anyway, so that a boolean mask would cost memory rather than save it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        shortcut: Tensor, residual: Tensor, scale: Tensor, backward_scale: Tensor, relu: bool
    ) -> Tensor:
        out = _add_scaled(shortcut, residual, scale)
        return out.relu_() if relu else out

    @staticmethod
    def setup_context(ctx: Any, inputs: Tuple[Any, ...], output: Tensor) -> None:
        _, _, _, backward_scale, relu = inputs
        ctx.relu = relu
        ctx.save_for_backward(*((backward_scale, output) if relu else (backward_scale,)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        if ctx.relu:
            backward_scale, output = ctx.saved_tensors
            grad = torch.ops.aten.threshold_backward(grad, output, 0)
        else:
            (backward_scale,) = ctx.saved_tensors
        grad_residual = grad * backward_scale if ctx.needs_input_grad[1] else None
        return grad, grad_residual, None, None, None


def _add_scaled(shortcut: Tensor, residual: Tensor, scale: Tensor) -> Tensor:
    """``shortcut + scale * residual``; exactly ``shortcut`` where the scale is 0, whatever the
    residual holds: 0 times Inf must not turn a dropped branch into NaN."""
    dropped = scale == 0
    # Reading the scales would wait for a GPU and split a compiled graph; elsewhere it is far
    # cheaper than the extra pass over memory that `where` takes.
    if scale.device.type == "cpu" and not torch.compiler.is_compiling() and _is_plain(scale):
        if not dropped.any():
            return torch.addcmul(shortcut, residual, scale)
        if dropped.all():
            return shortcut.clone()
    return torch.where(dropped, shortcut, torch.addcmul(shortcut, residual, scale))


def _is_plain(tensor: Tensor) -> bool:
    """Whether the values can be read: not under torch.func transforms, fake or meta tensors."""
    return type(tensor) is Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales,
    *,
    norm: Optional[nn.Module] = None,
    relu: bool = True,
) -> Tensor:
    """Join a residual to its shortcut with independent forward and backward scales.

    Computes ``y = x + s F`` with ``dL/dF = t dL/dy`` (eqs. 6 and 7 of the paper), then the final
    ReLU if the block keeps it.

    Args:
        shortcut: x, of shape (N, C, H, W).
        residual: F(x), of the shape of ``shortcut``; before ``norm``, if that is given.
        scales: the forward and backward scale; each broadcasts to (N, C, H, W).
        norm: the last normalization of the residual branch, if it was not yet applied.
        relu: whether a ReLU follows the addition (False for "EraseReLU").

    Returns:
        Tensor: y, of shape (N, C, H, W) and of the dtype of the (normalized) residual, as
        detectron2's in-place addition gives under mixed precision.
    """
    if norm is not None:
        residual = norm(residual)
    # Scales that stayed in float32 would silently lift the whole network out of half precision.
    dtype = residual.dtype
    scale, backward_scale = scales.forward.to(dtype), scales.backward.to(dtype)
    return _ScaledAdd.apply(shortcut.to(dtype), residual, scale, backward_scale, relu)


def expected_junction(
    shortcut: Tensor,
    residual: Tensor,
    test_scale: float,
    *,
    norm: Optional[nn.Module] = None,
    relu: bool = True,
) -> Tensor:
    """Join a residual to its shortcut as at test time: ``y = x + e F`` (eq. 8 of the paper).

    Args:
        shortcut, residual, norm, relu: see :func:`junction`.
        test_scale: e, see :meth:`ShakeDropSpec.test_scale`.

    Returns:
        Tensor: y, of shape (N, C, H, W) and of the dtype of the (normalized) residual.
    """
    if norm is not None:
        residual = norm(residual)
    out = torch.add(shortcut.to(residual.dtype), residual, alpha=test_scale)
    return F.relu_(out) if relu else out
