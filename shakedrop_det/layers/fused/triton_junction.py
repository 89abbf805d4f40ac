"""The junction as one Triton kernel per direction: one pass over memory, float32 arithmetic.

Used for CUDA tensors outside of compiled graphs, where the compiler makes such kernels by itself.
"""

from __future__ import annotations

import contextlib
from typing import Any, Optional

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from ..junction import relu_gradient
from ..scales import Scale, Scales, SeededScale
from . import triton_kernels
from .frozen_batch_norm import frozen_affine


def triton_junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales,
    *,
    norm: Optional[nn.Module] = None,
    relu: bool = True,
) -> Tensor:
    """See :func:`~shakedrop_det.layers.reference_junction`; the affine map of a FrozenBatchNorm2d
    is part of the kernels, another norm is applied before.

    Args:
        shortcut, residual: x and f, (N, C, H, W), contiguous or channels_last.
        scales, norm, relu: see there.

    Returns:
        Tensor: of the dtype of ``residual``, in its memory format.
    """
    weight = bias = None
    if type(norm) is FrozenBatchNorm2d:
        weight, bias = (factor.reshape(-1).float() for factor in frozen_affine(norm))
    elif norm is not None:
        residual = norm(residual)
    return _TritonJunction.apply(shortcut, residual, *scales, weight, bias, relu)


class _TritonJunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        shortcut: Tensor,
        residual: Tensor,
        scale: Scale,
        backward_scale: Scale,
        weight: Optional[Tensor],
        bias: Optional[Tensor],
        relu: bool,
    ) -> Tensor:
        residual, memory_format = _dense(residual)
        shortcut = shortcut.to(residual.dtype).contiguous(memory_format=memory_format)
        out = torch.empty_like(residual)
        values, arguments = _of_scale(scale, out, memory_format)
        if out.numel():
            with _device_of(out):
                triton_kernels.forward_kernel[_grid(out)](
                    shortcut,
                    residual,
                    values,
                    values if weight is None else weight,
                    values if bias is None else bias,
                    out,
                    **arguments,
                    AFFINE=weight is not None,
                    RELU=relu,
                    DROPPED=isinstance(scale, float) and scale == 0.0,
                )
        is_tensor = isinstance(backward_scale, Tensor)
        ctx.scale, ctx.memory_format = None if is_tensor else backward_scale, memory_format
        ctx.save_for_backward(backward_scale if is_tensor else None, weight, out if relu else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        scale, weight, out = ctx.saved_tensors
        scale = ctx.scale if scale is None else scale
        if torch.is_grad_enabled():  # The gradient itself is to be differentiated.
            _, factor = _gradients(torch.ones_like(grad), scale, weight, None, ctx.memory_format)
            grad = relu_gradient(grad, out)
            return grad, grad * factor, None, None, None, None, None
        grads = _gradients(grad, scale, weight, out, ctx.memory_format)
        return *grads, None, None, None, None, None


def _gradients(
    grad: Tensor,
    scale: Scale,
    weight: Optional[Tensor],
    out: Optional[Tensor],
    memory_format: torch.memory_format,
) -> tuple[Tensor, Tensor]:
    """The gradients of x and of f in ``y = act(x + s (w f + c))``; ``out`` is y under a ReLU."""
    grad = grad.contiguous(memory_format=memory_format)
    grad_shortcut = grad if out is None else torch.empty_like(grad)
    grad_residual = torch.empty_like(grad)
    values, arguments = _of_scale(scale, grad, memory_format)
    if grad.numel():
        with _device_of(grad):
            triton_kernels.backward_kernel[_grid(grad)](
                grad,
                grad if out is None else out,
                values,
                values if weight is None else weight,
                grad_shortcut,
                grad_residual,
                **arguments,
                AFFINE=weight is not None,
                RELU=out is not None,
            )
    return grad_shortcut, grad_residual


def _of_scale(
    scale: Scale, like: Tensor, memory_format: torch.memory_format
) -> tuple[Tensor, dict[str, Any]]:
    """A scale's tensor, float32, and the arguments of a kernel for maps like this one."""
    number, level = 0.0, "batch"
    if isinstance(scale, SeededScale):
        scale = scale.make()
    if isinstance(scale, float):
        number, values = scale, torch.empty(0, device=like.device)
    else:
        values = scale.float().contiguous(memory_format=memory_format)
        kept = [size > 1 for size in values.shape]
        level = "pixel" if any(kept[2:]) else "channel" if kept[1] else "image"
        if level == "pixel":
            values = values.expand_as(like).contiguous(memory_format=memory_format)
    _, channels, height, width = like.shape
    return values, {
        "image_size": channels * height * width,
        "pixels": height * width,
        "number": number,
        "stride": values.stride(0) if len(values) > 1 else 0,
        "channels": channels,
        "CHANNELS_LAST": memory_format == torch.channels_last,
        "LEVEL": level,
        "BLOCK": triton_kernels.BLOCK,
    }


def _device_of(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be that of the tensors."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def _dense(tensor: Tensor) -> tuple[Tensor, torch.memory_format]:
    """The tensor in one of the two layouts that the kernels index, and which."""
    if tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return tensor, torch.channels_last
    return tensor.contiguous(), torch.contiguous_format


def _grid(tensor: Tensor) -> tuple[int, int]:
    return -(-tensor[0].numel() // triton_kernels.BLOCK), tensor.shape[0]
