"""The junction of a residual block, where residual and shortcut are added: the plain reference."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn

from .eager_function import apply
from .scales import Scale, Scales, SeededScale, can_read, runs_python


def reference_junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales,
    *,
    norm: Optional[nn.Module] = None,
    relu: bool = True,
) -> Tensor:
    """Add a residual to its shortcut, with independent forward and backward scales.

    Computes ``y = x + s F`` with ``dL/dF = t dL/dy`` (eqs. 6 and 7 of the paper), then the final
    ReLU if the block has one. Where s is 0, y is exactly x, even if F is not finite.

    Args:
        shortcut: x, of shape (N, C, H, W).
        residual: F(x), of the shape of ``shortcut``; if ``norm`` is given, the input of the norm.
            It may be overwritten, as by detectron2's in-place addition.
        scales: s and t.
        norm: the last normalization of the residual branch, unless it was already applied.
        relu: whether a ReLU follows the addition (False for "EraseReLU").

    Returns:
        Tensor: y, of shape (N, C, H, W). Its dtype is that of the (normalized) residual, as with
        detectron2's in-place addition under mixed precision.
    """
    if norm is not None:
        residual = norm(residual)
    shortcut = shortcut.to(residual.dtype)
    # Not while a graph is recorded, not on a leaf, and not on a view, whose base others may use.
    eager = runs_python(residual.device)
    inplace = eager and not residual.is_leaf and not residual._is_view()
    if scales.are_one:
        out = residual.add_(shortcut) if inplace else residual + shortcut
        return out.relu_() if relu else out
    if scales.number:
        # An open gate of the inverted form: autograd's own gradient is the right one.
        out = torch.add(shortcut, residual, alpha=scales.number)
        return out.relu_() if relu else out
    return apply(_ScaledAdd, shortcut, residual, *scales, relu, inplace, eager=eager)


class _ScaledAdd(torch.autograd.Function):
    """``y = act(x + s f)`` whose gradient with respect to ``f`` is ``t`` times that of the sum.

    It saves ``t`` and, with a ReLU, the output. The next convolution keeps the output alive anyway,
    so a boolean mask would take additional memory.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        shortcut: Tensor,
        residual: Tensor,
        scale: Scale,
        backward_scale: Scale,
        relu: bool,
        inplace: bool,
    ) -> Tensor:
        return add_scaled(shortcut, residual, scale, relu=relu, inplace=inplace)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, residual, forward_scale, scale, relu, inplace = inputs
        if inplace and not _is_zero(forward_scale):
            ctx.mark_dirty(residual)
        is_tensor = isinstance(scale, Tensor)
        ctx.scale = None if is_tensor else scale
        ctx.save_for_backward(scale if is_tensor else None, output if relu else None)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        scale, output = ctx.saved_tensors
        grad = relu_gradient(grad, output)
        return grad, scaled(grad, ctx.scale if scale is None else scale), *[None] * 4


def add_scaled(
    shortcut: Tensor, residual: Tensor, scale: Scale, *, relu: bool, inplace: bool = False
) -> Tensor:
    """``act(x + s f)``, which is ``act(x)`` where s is 0, even if f is not finite.

    With ``inplace``, the result overwrites f, unless the scale is the float 0.
    """
    if _is_zero(scale):
        return shortcut.relu() if relu else shortcut.clone()
    out = residual if inplace else None
    if isinstance(scale, float):
        out = torch.add(shortcut, residual, alpha=scale, out=out)
    else:
        scale = as_tensor(scale, residual.dtype)
        dropped = zeros_of(scale)
        if dropped is not None:
            mask = residual.masked_fill_ if inplace else residual.masked_fill
            residual = mask(dropped, 0)
        out = torch.addcmul(shortcut, residual, scale, out=out)
    return out.relu_() if relu else out


def _is_zero(scale: Scale) -> bool:
    return isinstance(scale, float) and scale == 0.0


def zeros_of(scale: Tensor) -> Optional[Tensor]:
    """A mask of where the scale is 0 and the residual must be masked, since 0 times Inf is NaN.
    None if the scale certainly has no zeros."""
    dropped = scale == 0
    return None if can_read(dropped) and not dropped.any() else dropped


def relu_gradient(grad: Tensor, output: Optional[Tensor]) -> Tensor:
    """The gradient before a ReLU with this output; the gradient itself without a ReLU (None)."""
    return grad if output is None else torch.ops.aten.threshold_backward(grad, output, 0)


def scaled(grad: Tensor, scale: Scale) -> Tensor:
    """``t g``, in the dtype of g."""
    if isinstance(scale, float):
        # Not None for 0: DistributedDataParallel waits for a gradient of each parameter.
        return torch.zeros_like(grad) if scale == 0.0 else grad * scale
    return grad * as_tensor(scale, grad.dtype)


def as_tensor(scale: Tensor | SeededScale, dtype: torch.dtype) -> Tensor:
    """A scale as a tensor, in the dtype of what it multiplies. A float32 scale would silently lift
    the whole network out of half precision."""
    return (scale.make() if isinstance(scale, SeededScale) else scale).to(dtype)


def expected_junction(
    shortcut: Tensor, residual: Tensor, test_scale: float, *, relu: bool = True
) -> Tensor:
    """Add a residual to its shortcut as at test time: ``y = x + e F`` (eq. 8 of the paper).

    Args:
        shortcut, residual: x and F(x), (N, C, H, W).
        test_scale: e, see :meth:`ShakeDropSpec.test_scale`.
        relu: whether a ReLU follows.

    Returns:
        Tensor: y, of shape (N, C, H, W) and of the dtype of the residual.
    """
    out = torch.add(shortcut.to(residual.dtype), residual, alpha=test_scale)
    return out.relu_() if relu else out
