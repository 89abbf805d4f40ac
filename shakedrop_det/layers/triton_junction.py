"""The junction as one Triton kernel per direction: one pass over memory, float32 arithmetic.

Used for CUDA tensors outside of compiled graphs, where the compiler makes such kernels by itself.
The eager junctions beside it are its reference.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from . import triton_kernels
from .pixel_scales import BACKWARD, FORWARD, PixelScales
from .scales import Scales


class _KernelScale(NamedTuple):
    """One of the two scales, as the kernels take it.

    Attributes:
        values: (N or 1, C or 1, 1, 1), float32; at the pixel level the gates.
        seed, low, width, kept: at the pixel level of the numbers to be made, see
            :class:`PixelScales`; else without a meaning.
        per_pixel: whether this is the pixel level.
    """

    values: Tensor
    seed: int = 0
    low: float = 0.0
    width: float = 0.0
    kept: float = 1.0
    per_pixel: bool = False

    @classmethod
    def of(cls, scales: Scales | PixelScales, direction: int) -> "_KernelScale":
        """That of a direction, ``FORWARD`` or ``BACKWARD``."""
        if isinstance(scales, Scales):
            scale = scales.backward if direction == BACKWARD else scales.forward
            return cls(scale.float().contiguous())
        low, high = scales.ranges[direction]
        gates = scales.drawn_gate
        if gates is None:
            gates = torch.full((1, 1, 1, 1), float(bool(scales.gate)), device=scales.device)
        values = gates.float().contiguous()
        return cls(values, scales.seed + direction, low, high - low, scales.kept, per_pixel=True)

    def arguments(self) -> dict[str, Any]:
        """But for the tensor, those of the kernels."""
        level = "pixel" if self.per_pixel else "channel" if self.values.shape[1] > 1 else "image"
        return {
            "scale_stride": self.values.stride(0) if self.values.shape[0] > 1 else 0,
            "seed": self.seed,
            "low": self.low,
            "width": self.width,
            "kept": self.kept,
            "LEVEL": level,
        }


def triton_junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales | PixelScales,
    *,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    relu: bool,
) -> Tensor:
    """``act(x + s (w f + c))``, with t in place of s in the gradient of f.

    Scales of each pixel are made where they are used, by Philox from their seed, and never stored.

    Args:
        shortcut, residual: x and f, (N, C, H, W), contiguous or channels_last.
        scales: s and t, each of shape (N or 1, C or 1, 1, 1), or of each pixel.
        weight, bias: w and c of a frozen norm, C elements each; or None for 1 and 0.
        relu: whether a ReLU follows.

    Returns:
        Tensor: of the dtype of ``residual``, in its memory format; if the branch is known to be
        dropped, in that of ``shortcut``.
    """
    return _TritonJunction.apply(
        shortcut,
        residual,
        _KernelScale.of(scales, FORWARD),
        _KernelScale.of(scales, BACKWARD),
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
        scale: _KernelScale,
        backward_scale: _KernelScale,
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
            triton_kernels.forward_kernel[_grid(out)](
                shortcut,
                leading,
                scale.values,
                weight if affine else scale.values,
                bias if affine else scale.values,
                out,
                **_layout(out, memory_format),
                **scale.arguments(),
                AFFINE=affine,
                RELU=relu,
                DROPPED=dropped,
                BLOCK=triton_kernels.BLOCK,
            )
        ctx.relu, ctx.memory_format = relu, memory_format
        values = backward_scale.values
        ctx.scale = backward_scale._replace(values=values.new_empty(0))
        ctx.save_for_backward(values, weight, out if relu else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        values, weight, out = ctx.saved_tensors
        grad_shortcut, grad_residual = _TritonGradients.apply(
            grad, values, weight, out, ctx.scale, ctx.memory_format
        )
        if grad_shortcut is None:
            grad_shortcut = grad
        return grad_shortcut, grad_residual, None, None, None, None, None, None


class _TritonGradients(torch.autograd.Function):
    """The gradients of x, None if it is that of y, and of f, in ``y = act(x + s (w f + c))``."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        values: Tensor,
        weight: Optional[Tensor],
        out: Optional[Tensor],
        scale: _KernelScale,
        memory_format: torch.memory_format,
    ) -> tuple[Optional[Tensor], Tensor]:
        ctx.scale, ctx.memory_format = scale, memory_format
        ctx.save_for_backward(values, weight, out)
        grad = grad.contiguous(memory_format=memory_format)
        grad_shortcut = None if out is None else torch.empty_like(grad)
        grad_residual = torch.empty_like(grad)
        if grad.numel():
            triton_kernels.backward_kernel[_grid(grad)](
                grad,
                grad if out is None else out,
                values,
                values if weight is None else weight,
                grad if grad_shortcut is None else grad_shortcut,
                grad_residual,
                **_layout(grad, memory_format),
                **scale._replace(values=values).arguments(),
                AFFINE=weight is not None,
                RELU=out is not None,
                BLOCK=triton_kernels.BLOCK,
            )
        return grad_shortcut, grad_residual

    @staticmethod
    def backward(
        ctx: Any, of_shortcut: Optional[Tensor], of_residual: Tensor
    ) -> tuple[Optional[Tensor], ...]:
        # Both are linear in what they multiply.
        values, weight, out = ctx.saved_tensors
        others = values, weight, out, ctx.scale, ctx.memory_format
        _, grad = _TritonGradients.apply(of_residual, *others)
        if of_shortcut is not None:
            grad = grad + _TritonGradients.apply(of_shortcut, *others)[0]
        return grad, None, None, None, None, None


def _dense(tensor: Tensor) -> tuple[Tensor, torch.memory_format]:
    """The tensor in one of the two layouts that the kernels index, and which."""
    if tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return tensor, torch.channels_last
    return tensor.contiguous(), torch.contiguous_format


def _flat(tensor: Optional[Tensor]) -> Optional[Tensor]:
    return None if tensor is None else tensor.reshape(-1).float().contiguous()


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
