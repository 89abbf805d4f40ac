"""The junction as one Triton kernel per direction: one pass over memory, float32 arithmetic.

Used for CUDA tensors outside of compiled graphs, where the compiler makes such kernels by itself.
The eager junctions beside it are its reference. Set ``TRITON_INTERPRET=1`` before the import to
run the kernels on a CPU, element by element.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU build of torch comes without
    triton = None

_BLOCK = 1024


def is_available() -> bool:
    """Whether Triton is installed."""
    return triton is not None


if triton is not None:

    @triton.jit
    def _indices(total, channel_stride, image_stride, channels: tl.constexpr, BLOCK: tl.constexpr):
        """Offsets into a map, whether they are inside it, and their image and channel."""
        offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        image = offsets // image_stride
        channel = (offsets // channel_stride) % channels
        return offsets, offsets < total, image, channel

    @triton.jit
    def _forward_kernel(
        shortcut,
        residual,
        scale,
        weight,
        bias,
        out,
        total,
        channel_stride,
        image_stride,
        scale_image_stride,
        scale_channel_stride,
        channels: tl.constexpr,
        AFFINE: tl.constexpr,
        RELU: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        offsets, inside, image, channel = _indices(
            total, channel_stride, image_stride, channels, BLOCK
        )
        x = tl.load(shortcut + offsets, mask=inside).to(tl.float32)
        f = tl.load(residual + offsets, mask=inside).to(tl.float32)
        at = image * scale_image_stride + channel * scale_channel_stride
        s = tl.load(scale + at, mask=inside)
        if AFFINE:
            f = f * tl.load(weight + channel, mask=inside) + tl.load(bias + channel, mask=inside)
        # Not x + s * f alone: 0 times Inf must not turn a dropped branch into NaN.
        y = tl.where(s == 0, x, x + s * f)
        if RELU:
            y = tl.where(y <= 0, 0.0, y)  # keeps NaN, as torch.relu does
        tl.store(out + offsets, y.to(out.dtype.element_ty), mask=inside)

    @triton.jit
    def _backward_kernel(
        grad,
        out,
        scale,
        weight,
        grad_shortcut,
        grad_residual,
        total,
        channel_stride,
        image_stride,
        scale_image_stride,
        scale_channel_stride,
        channels: tl.constexpr,
        AFFINE: tl.constexpr,
        RELU: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        offsets, inside, image, channel = _indices(
            total, channel_stride, image_stride, channels, BLOCK
        )
        g = tl.load(grad + offsets, mask=inside).to(tl.float32)
        if RELU:
            y = tl.load(out + offsets, mask=inside).to(tl.float32)
            g = tl.where(y <= 0, 0.0, g)
            tl.store(grad_shortcut + offsets, g.to(grad_shortcut.dtype.element_ty), mask=inside)
        at = image * scale_image_stride + channel * scale_channel_stride
        g = g * tl.load(scale + at, mask=inside)
        if AFFINE:
            g = g * tl.load(weight + channel, mask=inside)
        tl.store(grad_residual + offsets, g.to(grad_residual.dtype.element_ty), mask=inside)


def triton_junction(
    shortcut: Tensor,
    residual: Tensor,
    scale: Tensor,
    backward_scale: Tensor,
    *,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    relu: bool,
) -> Tensor:
    """``act(x + s (w f + c))``, with t in place of s in the gradient of f.

    Args:
        shortcut, residual: x and f, (N, C, H, W), contiguous or channels_last.
        scale, backward_scale: s and t, each of shape (N or 1, C or 1, 1, 1).
        weight, bias: w and c of a frozen norm, C elements each; or None for 1 and 0.
        relu: whether a ReLU follows.

    Returns:
        Tensor: of the dtype and memory format of ``residual``.
    """
    return _TritonJunction.apply(shortcut, residual, scale, backward_scale, weight, bias, relu)


class _TritonJunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        shortcut: Tensor,
        residual: Tensor,
        scale: Tensor,
        backward_scale: Tensor,
        weight: Optional[Tensor],
        bias: Optional[Tensor],
        relu: bool,
    ) -> Tensor:
        residual, memory_format = _dense(residual)
        shortcut = shortcut.to(residual.dtype).contiguous(memory_format=memory_format)
        weight, bias = _flat(weight), _flat(bias)
        out = torch.empty_like(residual)
        if out.numel():
            _forward_kernel[_grid(out)](
                shortcut,
                residual,
                scale.float(),
                scale if weight is None else weight,
                scale if bias is None else bias,
                out,
                *_layout(out, memory_format, scale),
                AFFINE=weight is not None,
                RELU=relu,
                BLOCK=_BLOCK,
            )
        ctx.relu, ctx.memory_format = relu, memory_format
        ctx.save_for_backward(backward_scale, weight, out if relu else None)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        backward_scale, weight, out = ctx.saved_tensors
        grad = grad.contiguous(memory_format=ctx.memory_format)
        grad_shortcut = torch.empty_like(grad) if ctx.relu else grad
        grad_residual = torch.empty_like(grad)
        if grad.numel():
            _backward_kernel[_grid(grad)](
                grad,
                grad if out is None else out,
                backward_scale.float(),
                backward_scale if weight is None else weight,
                grad_shortcut,
                grad_residual,
                *_layout(grad, ctx.memory_format, backward_scale),
                AFFINE=weight is not None,
                RELU=ctx.relu,
                BLOCK=_BLOCK,
            )
        return grad_shortcut, grad_residual, None, None, None, None, None


def _dense(tensor: Tensor) -> tuple[Tensor, torch.memory_format]:
    """The tensor in one of the two layouts that the kernels index, and which."""
    if tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return tensor, torch.channels_last
    return tensor.contiguous(), torch.contiguous_format


def _flat(tensor: Optional[Tensor]) -> Optional[Tensor]:
    return None if tensor is None else tensor.reshape(-1).float().contiguous()


def _grid(tensor: Tensor) -> tuple[int]:
    return (triton.cdiv(tensor.numel(), _BLOCK),)


def _layout(tensor: Tensor, memory_format: torch.memory_format, scale: Tensor) -> tuple[int, ...]:
    """Sizes and strides, in the order of the kernels' arguments."""
    images, channels, height, width = tensor.shape
    channel_stride = 1 if memory_format == torch.channels_last else height * width
    scale_image_stride = scale.stride(0) if scale.shape[0] > 1 else 0
    scale_channel_stride = scale.stride(1) if scale.shape[1] > 1 else 0
    image_stride = channels * height * width
    return (
        tensor.numel(),
        channel_stride,
        image_stride,
        scale_image_stride,
        scale_channel_stride,
        channels,
    )
