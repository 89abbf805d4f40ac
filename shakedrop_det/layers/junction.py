"""The junction of a residual block: where the residual meets the shortcut, under two scales."""

from __future__ import annotations

from typing import Optional

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from .batch_norm_junction import batch_norm_junction
from .frozen_junction import frozen_affine, frozen_junction
from .group_norm_junction import group_norm_junction
from .pixel_junction import pixel_junction
from .pixel_scales import PixelScales
from .scaled_add import ScaledAdd
from .scales import Scales, can_read, is_eager
from .triton_junction import triton_junction
from .triton_kernels import is_available as triton_available

KNOWN_NORMS = (type(None), FrozenBatchNorm2d, nn.BatchNorm2d, nn.GroupNorm)
"""Norms that may be computed in another way than by calling them, and whose output is a tensor that
nobody holds, not even their own backward pass."""


def junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales | PixelScales,
    *,
    norm: Optional[nn.Module] = None,
    relu: bool = True,
    inplace: bool = False,
) -> Tensor:
    """Join a residual to its shortcut with independent forward and backward scales.

    Computes ``y = x + s F`` with ``dL/dF = t dL/dy`` (eqs. 6 and 7 of the paper), then the final
    ReLU if the block keeps it. A norm that is handed in is fused with that where its kind and the
    scales allow; the result is that of the norm followed by the junction, up to rounding.

    Args:
        shortcut: x, of shape (N, C, H, W).
        residual: F(x), of the shape of ``shortcut``; before ``norm``, if that is given.
        scales: the forward and backward scale; each broadcasts to (N, C, H, W).
        norm: the last normalization of the residual branch, if it was not yet applied.
        relu: whether a ReLU follows the addition (False for "EraseReLU").
        inplace: whether y may take the place of the (normalized) residual, as in detectron2's
            blocks. Saves memory, and the time to get it.

    Returns:
        Tensor: y, of shape (N, C, H, W) and of the dtype of the (normalized) residual, as
        detectron2's in-place addition gives under mixed precision.
    """
    # Other norms may need their output for their gradient, or give a view of something else.
    inplace = inplace and type(norm) in KNOWN_NORMS and is_eager(residual.device)
    seeded = isinstance(scales, PixelScales)
    per_pixel = seeded or (scales.forward.dim() == 4 and scales.forward.shape[2:].numel() > 1)
    has_kernel = residual.is_cuda and triton_available() and is_eager(residual.device)
    if has_kernel and (seeded or not per_pixel):
        residual, weight, bias = _before_frozen_norm(residual, norm)
        return triton_junction(shortcut, residual, scales, weight=weight, bias=bias, relu=relu)
    if isinstance(scales, PixelScales):
        residual, weight, bias = _before_frozen_norm(residual, norm)
        return pixel_junction(
            shortcut, residual, scales, weight=weight, bias=bias, relu=relu, inplace=inplace
        )
    if type(norm) is FrozenBatchNorm2d and not per_pixel:
        return frozen_junction(shortcut, residual, scales, norm, relu=relu, inplace=inplace)
    # Of one value per channel BatchNorm2d makes an error, and of none nothing: leave that to it.
    many = residual.numel() > residual.shape[1]
    if takes_scales(norm) and not per_pixel and many and can_read(residual):
        assert isinstance(norm, nn.BatchNorm2d)
        return batch_norm_junction(shortcut, residual, scales, norm, relu=relu, inplace=inplace)
    if not per_pixel and _is_plain_group_norm(norm, residual):
        assert isinstance(norm, nn.GroupNorm)
        return group_norm_junction(shortcut, residual, scales, norm, relu=relu)
    if norm is not None:
        residual = norm(residual)
    # Scales that stayed in float32 would silently lift the whole network out of half precision.
    dtype = residual.dtype
    scale, backward_scale, *_ = scales.to(dtype)
    return ScaledAdd.apply(
        shortcut.to(dtype), residual, scale, backward_scale, relu, scales.is_dropped(), inplace
    )


def takes_scales(norm: Optional[nn.Module]) -> bool:
    """Whether :func:`junction` has a way to compute this norm and what follows at once, which is
    not slower than each by itself even where both scales are 1."""
    if type(norm) is FrozenBatchNorm2d:
        return True
    return type(norm) is nn.BatchNorm2d and norm.training and norm.affine


def _is_plain_group_norm(norm: Optional[nn.Module], residual: Tensor) -> bool:
    """Whether GroupNorm keeps the residual's dtype, which it does not under autocast, and images
    follow each other in memory, by strides that mean nothing else as well.

    The latter leaves out maps of a single pixel, of which GroupNorm may make an error.
    """
    return (
        type(norm) is nn.GroupNorm
        and norm.affine
        and residual.numel() > 0
        and residual.is_contiguous()
        and not residual.is_contiguous(memory_format=torch.channels_last)
        and can_read(residual)
        and not torch.is_autocast_enabled(residual.device.type)
    )


def _before_frozen_norm(
    residual: Tensor, norm: Optional[nn.Module]
) -> tuple[Tensor, Optional[Tensor], Optional[Tensor]]:
    """The normalized residual; or, if the norm is frozen, the residual and the affine map."""
    if type(norm) is FrozenBatchNorm2d:
        return residual, *frozen_affine(norm)
    return residual if norm is None else norm(residual), None, None


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
