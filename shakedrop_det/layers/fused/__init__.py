"""Faster ways to compute a junction than the reference, which each of them equals up to rounding.

Each file but this can be deleted together with its lines here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Optional

from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from ..junction import reference_junction
from ..scales import Scales
from . import frozen_batch_norm
from .triton_junction import triton_junction
from .trust import can_use_triton

FUSED_NORMS = {FrozenBatchNorm2d: frozen_batch_norm}
"""Norms that are computed together with the junction, and the module that does it."""

_enabled = True


def junction(
    shortcut: Tensor,
    residual: Tensor,
    scales: Scales,
    *,
    norm: Optional[nn.Module] = None,
    relu: bool = True,
) -> Tensor:
    """:func:`~shakedrop_det.layers.reference_junction` in the fastest way that applies.

    Args:
        shortcut, residual, scales, norm, relu: see there. The residual may be overwritten.

    Returns:
        Tensor: that of the reference, up to rounding.
    """
    if _enabled and can_use_triton(residual, scales, norm=norm, relu=relu):
        return triton_junction(shortcut, residual, scales, norm=norm, relu=relu)
    fused = FUSED_NORMS.get(type(norm))
    if _enabled and fused is not None and fused.supports(scales):
        return fused.junction(shortcut, residual, scales, norm=norm, relu=relu)
    return reference_junction(shortcut, residual, scales, norm=norm, relu=relu)


@contextlib.contextmanager
def reference_only() -> Iterator[None]:
    """Compute each junction by the reference, to compare with."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before
