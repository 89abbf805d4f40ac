"""The junction as one Triton kernel per direction: one pass over memory, float32 arithmetic.

Used for CUDA tensors outside of compiled graphs, where the compiler makes such kernels by itself.
The eager junctions beside it are its reference. Set ``TRITON_INTERPRET=1`` before the import to
run the kernels on a CPU, element by element.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from .scales import Scales

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
    def _place(
        image_size, pixels, channels: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr
    ):
        """Offsets into a map, whether they are inside the image, the image, and the channels.

        One program stays within an image: its scale is one number, and no index but the first of
        an image needs 64 bits or a division by what is only known when it runs.
        """
        image = tl.program_id(1)
        inner = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        channel = inner % channels if CHANNELS_LAST else inner // pixels
        return image.to(tl.int64) * image_size + inner, inner < image_size, image, channel

    @triton.jit
    def _load_scale(scale, image, channel, inside, image_stride, PER_CHANNEL: tl.constexpr):
        if PER_CHANNEL:
            return tl.load(scale + image * image_stride + channel, mask=inside)
        return tl.load(scale + image * image_stride)

    @triton.jit
    def _forward_kernel(
        shortcut,
        residual,
        scale,
        weight,
        bias,
        out,
        image_size,
        pixels,
        scale_stride,
        channels: tl.constexpr,
        CHANNELS_LAST: tl.constexpr,
        PER_CHANNEL: tl.constexpr,
        AFFINE: tl.constexpr,
        RELU: tl.constexpr,
        DROPPED: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        offsets, inside, image, channel = _place(image_size, pixels, channels, CHANNELS_LAST, BLOCK)
        y = tl.load(shortcut + offsets, mask=inside).to(tl.float32)
        if not DROPPED:
            f = tl.load(residual + offsets, mask=inside).to(tl.float32)
            s = _load_scale(scale, image, channel, inside, scale_stride, PER_CHANNEL)
            if AFFINE:
                f = f * tl.load(weight + channel, mask=inside) + tl.load(
                    bias + channel, mask=inside
                )
            # Not x + s * f alone: 0 times Inf must not turn a dropped branch into NaN.
            y = tl.where(s == 0, y, y + s * f)
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
        image_size,
        pixels,
        scale_stride,
        channels: tl.constexpr,
        CHANNELS_LAST: tl.constexpr,
        PER_CHANNEL: tl.constexpr,
        AFFINE: tl.constexpr,
        RELU: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        offsets, inside, image, channel = _place(image_size, pixels, channels, CHANNELS_LAST, BLOCK)
        g = tl.load(grad + offsets, mask=inside).to(tl.float32)
        if RELU:
            y = tl.load(out + offsets, mask=inside).to(tl.float32)
            g = tl.where(y <= 0, 0.0, g)
            tl.store(grad_shortcut + offsets, g.to(grad_shortcut.dtype.element_ty), mask=inside)
        g = g * _load_scale(scale, image, channel, inside, scale_stride, PER_CHANNEL)
        if AFFINE:
            g = g * tl.load(weight + channel, mask=inside)
        tl.store(grad_residual + offsets, g.to(grad_residual.dtype.element_ty), mask=inside)


def triton_junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales,
    *,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    relu: bool,
) -> Tensor:
    """``act(x + s (w f + c))``, with t in place of s in the gradient of f.

    Args:
        shortcut, residual: x and f, (N, C, H, W), contiguous or channels_last.
        scales: s and t, each of shape (N or 1, C or 1, 1, 1).
        weight, bias: w and c of a frozen norm, C elements each; or None for 1 and 0.
        relu: whether a ReLU follows.

    Returns:
        Tensor: of the dtype of ``residual``, in its memory format; if the branch is known to be
        dropped, in that of ``shortcut``.
    """
    return _TritonJunction.apply(
        shortcut,
        residual,
        scales.forward.float().contiguous(),
        scales.backward.float().contiguous(),
        _flat(weight),
        _flat(bias),
        relu,
        bool(scales.dropped),
    )


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
        dropped: bool,
    ) -> Tensor:
        shortcut = shortcut.to(residual.dtype)
        # What is dropped may be a view of a single zero.
        leading, memory_format = _dense(shortcut if dropped else residual)
        shortcut = shortcut.contiguous(memory_format=memory_format)
        out = torch.empty_like(leading)
        if out.numel():
            affine = weight is not None and not dropped
            _forward_kernel[_grid(out)](
                shortcut,
                leading,
                scale,
                weight if affine else scale,
                bias if affine else scale,
                out,
                **_layout(out, memory_format, scale),
                AFFINE=affine,
                RELU=relu,
                DROPPED=dropped,
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
                backward_scale,
                backward_scale if weight is None else weight,
                grad_shortcut,
                grad_residual,
                **_layout(grad, ctx.memory_format, backward_scale),
                AFFINE=weight is not None,
                RELU=ctx.relu,
                BLOCK=_BLOCK,
            )
        return grad_shortcut, grad_residual, None, None, None, None, None, None


def _dense(tensor: Tensor) -> tuple[Tensor, torch.memory_format]:
    """The tensor in one of the two layouts that the kernels index, and which."""
    if tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return tensor, torch.channels_last
    return tensor.contiguous(), torch.contiguous_format


def _flat(tensor: Optional[Tensor]) -> Optional[Tensor]:
    return None if tensor is None else tensor.reshape(-1).float().contiguous()


def _grid(tensor: Tensor) -> tuple[int, int]:
    return triton.cdiv(tensor[0].numel(), _BLOCK), tensor.shape[0]


def _layout(tensor: Tensor, memory_format: torch.memory_format, scale: Tensor) -> dict[str, Any]:
    """Sizes and strides, as the kernels call them."""
    _, channels, height, width = tensor.shape
    return {
        "image_size": channels * height * width,
        "pixels": height * width,
        "scale_stride": scale.stride(0) if scale.shape[0] > 1 else 0,
        "channels": channels,
        "CHANNELS_LAST": memory_format == torch.channels_last,
        "PER_CHANNEL": scale.shape[1] > 1,
    }
