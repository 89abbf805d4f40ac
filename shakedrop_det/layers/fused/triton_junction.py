"""The junction as one Triton kernel per direction: one pass over memory, float32 arithmetic.

Used for CUDA tensors outside of compiled graphs, where the compiler makes such kernels by itself.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple, Optional

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from ..junction import relu_gradient
from ..scales import Scale, Scales
from . import triton_kernels
from .frozen_batch_norm import frozen_affine


class _KernelScale(NamedTuple):
    """One of the two scales, as the kernels take it.

    Attributes:
        values: float32, (N or 1, C or 1, 1, 1); at the level "pixel" the gates; unused for "batch".
        level: "batch" for a number, "image", "channel" or "pixel".
        seed, low, width, open_scale: at the level "pixel" of the numbers to be made, see
            :class:`SeededScale`; ``low`` is the number at the level "batch".
    """

    values: Tensor
    level: str
    seed: int = 0
    low: float = 0.0
    width: float = 0.0
    open_scale: float = 1.0

    @classmethod
    def of(cls, scale: Scale, device: torch.device) -> "_KernelScale":
        if isinstance(scale, float):
            return cls(torch.empty(0, device=device), "batch", low=scale)
        if isinstance(scale, Tensor):
            level = "channel" if scale.shape[1] > 1 else "image"
            return cls(scale.float().contiguous(), level)
        low, high = scale.range
        gates = torch.zeros((1, 1, 1, 1), device=device) if scale.gate is None else scale.gate
        values = gates.float().contiguous()
        return cls(values, "pixel", scale.seed, low, high - low, scale.open_scale)

    def arguments(self) -> dict[str, Any]:
        """But for the tensor, those of the kernels."""
        return {
            "scale_stride": self.values.stride(0) if len(self.values) > 1 else 0,
            "seed": self.seed,
            "low": self.low,
            "width": self.width,
            "kept": self.open_scale,
            "LEVEL": self.level,
        }


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

    Scales of each pixel are made where they are used, by Philox from their seed, and never stored;
    so they are other numbers than those of :meth:`SeededScale.make`.

    Args:
        shortcut, residual: x and f, (N, C, H, W), contiguous or channels_last.
        scales: s and t; tensors of shape (N or 1, C or 1, 1, 1).
        norm, relu: see there.

    Returns:
        Tensor: of the dtype of ``residual``, in its memory format.
    """
    weight = bias = None
    if type(norm) is FrozenBatchNorm2d:
        weight, bias = (factor.reshape(-1).float() for factor in frozen_affine(norm))
    elif norm is not None:
        residual = norm(residual)
    forward, backward = (_KernelScale.of(scale, residual.device) for scale in scales)
    return _TritonJunction.apply(shortcut, residual, forward, backward, weight, bias, relu)


class _TritonJunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        shortcut: Tensor,
        residual: Tensor,
        scale: _KernelScale,
        backward_scale: _KernelScale,
        weight: Optional[Tensor],
        bias: Optional[Tensor],
        relu: bool,
    ) -> Tensor:
        residual, memory_format = _dense(residual)
        shortcut = shortcut.to(residual.dtype).contiguous(memory_format=memory_format)
        out = torch.empty_like(residual)
        if out.numel():
            with _device_of(out):
                triton_kernels.forward_kernel[_grid(out)](
                    shortcut,
                    residual,
                    scale.values,
                    scale.values if weight is None else weight,
                    scale.values if bias is None else bias,
                    out,
                    **_layout(out, memory_format),
                    **scale.arguments(),
                    AFFINE=weight is not None,
                    RELU=relu,
                    DROPPED=scale.level == "batch" and scale.low == 0.0,
                    BLOCK=triton_kernels.BLOCK,
                )
        ctx.scale = backward_scale._replace(values=backward_scale.values.new_empty(0))
        ctx.memory_format = memory_format
        ctx.save_for_backward(backward_scale.values, weight, out if relu else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        values, weight, out = ctx.saved_tensors
        scale = ctx.scale._replace(values=values)
        if torch.is_grad_enabled():  # The gradient itself is to be differentiated.
            _, factor = _gradients(torch.ones_like(grad), scale, weight, None, ctx.memory_format)
            grad = relu_gradient(grad, out)
            return grad, grad * factor, None, None, None, None, None
        grads = _gradients(grad, scale, weight, out, ctx.memory_format)
        return *grads, None, None, None, None, None


def _gradients(
    grad: Tensor,
    scale: _KernelScale,
    weight: Optional[Tensor],
    out: Optional[Tensor],
    memory_format: torch.memory_format,
) -> tuple[Tensor, Tensor]:
    """The gradients of x and of f in ``y = act(x + s (w f + c))``; ``out`` is y under a ReLU."""
    grad = grad.contiguous(memory_format=memory_format)
    grad_shortcut = grad if out is None else torch.empty_like(grad)
    grad_residual = torch.empty_like(grad)
    if grad.numel():
        with _device_of(grad):
            triton_kernels.backward_kernel[_grid(grad)](
                grad,
                grad if out is None else out,
                scale.values,
                scale.values if weight is None else weight,
                grad_shortcut,
                grad_residual,
                **_layout(grad, memory_format),
                **scale.arguments(),
                AFFINE=weight is not None,
                RELU=out is not None,
                BLOCK=triton_kernels.BLOCK,
            )
    return grad_shortcut, grad_residual


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


def _layout(tensor: Tensor, memory_format: torch.memory_format) -> dict[str, Any]:
    """Sizes and layout, as the kernels call them."""
    _, channels, height, width = tensor.shape
    return {
        "image_size": channels * height * width,
        "pixels": height * width,
        "channels": channels,
        "CHANNELS_LAST": memory_format == torch.channels_last,
    }
