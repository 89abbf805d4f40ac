"""Checking that the Triton kernels work on this machine before they are used."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from typing import Any, Optional

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from ..junction import reference_junction
from ..scales import Scale, Scales, SeededScale, runs_python
from . import triton_kernels
from .triton_junction import triton_junction

_TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
_SHAPE = (2, 8, 5, 7)
_trusted: set[Any] = set()
_lock = threading.Lock()
_broken = False


def can_use_triton(
    residual: Tensor, scales: Scales, *, norm: Optional[nn.Module], relu: bool
) -> bool:
    """Whether the kernels can compute this junction, and do so rightly on this machine.

    The first time that a kind of junction is asked for, its kernels run on a small tensor and are
    compared with the reference. If that fails in any way, there is one warning, and the answer is
    no for the rest of the process.

    Args:
        residual, scales, norm, relu: of the junction.
    """
    if _broken or not residual.is_cuda or not triton_kernels.is_available():
        return False
    if residual.dtype not in _TOLERANCE or residual.dim() != 4 or not runs_python(residual.device):
        return False
    layout = residual.is_contiguous()
    frozen = type(norm) is FrozenBatchNorm2d
    kind = (residual.device, residual.dtype, layout, frozen, relu, *map(_level, scales))
    return kind in _trusted or _try(kind, scales)


def _level(scale: Any) -> Any:
    if isinstance(scale, Tensor):
        return scale.shape[1] > 1
    return "pixel" if isinstance(scale, SeededScale) else scale == 0.0


def _try(kind: Any, scales: Scales) -> bool:
    global _broken
    with _lock:
        if kind in _trusted or _broken:
            return kind in _trusted
        device, dtype, contiguous, frozen, relu, *_ = kind
        try:
            error = self_test(
                scales, device=device, dtype=dtype, contiguous=contiguous, frozen=frozen, relu=relu
            )
        except Exception as failure:  # No compiler, no cache to write to, an unknown GPU, ...
            error = f"{type(failure).__name__}: {failure}".strip().splitlines()[0]
        if error is None:
            _trusted.add(kind)
            return True
        _broken = True
        logging.getLogger(__name__).warning(
            "The Triton kernels of ShakeDrop cannot be used here (%s). Training goes on with "
            "PyTorch's own operators: the results are the same, a step takes a little longer.",
            error,
        )
        return False


@torch.enable_grad()
def self_test(
    scales: Scales,
    *,
    device: torch.device,
    dtype: torch.dtype,
    contiguous: bool = True,
    frozen: bool = False,
    relu: bool = True,
) -> Optional[str]:
    """Compare kernels and reference on a small tensor, in both directions.

    Args:
        scales: of the kind to try; their values are replaced.
        device, dtype: of the tensors.
        contiguous: whether the layout is contiguous, else channels_last.
        frozen: whether the branch ends in FrozenBatchNorm2d.
        relu: whether a ReLU follows.

    Returns:
        str: what differs; None if nothing does.
    """
    generator = torch.Generator().manual_seed(0)
    memory_format = torch.contiguous_format if contiguous else torch.channels_last

    def random_map(offset: float = 0.0) -> Tensor:
        made = torch.rand(_SHAPE, generator=generator) - 0.5
        made = (made + offset * made.sign()).to(device, dtype)
        return made.contiguous(memory_format=memory_format).requires_grad_()

    # A sum near 0 could be rounded to either side of the ReLU.
    shortcut, residual, grad = random_map(offset=16.0), random_map(), random_map()
    norm = _random_norm(generator).to(device) if frozen else None
    tried = Scales(*(_small(scale, generator, device) for scale in scales))

    def results(junction: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        out = junction(shortcut, residual, tried, norm=norm, relu=relu)
        return (out, *torch.autograd.grad(out, [shortcut, residual], grad))

    found, expected = results(triton_junction), results(reference_junction)
    names = ("output", "gradient of the shortcut", "gradient of the residual")
    for name, a, b in zip(names, found, expected, strict=True):
        error = ((a.float() - b.float()).abs() / (1 + b.float().abs())).max().item()
        if not error <= _TOLERANCE[dtype]:  # also for NaN
            return f"the {name} of a kernel differs from PyTorch's by {error:.3g}"
    return None


def _random_norm(generator: torch.Generator) -> FrozenBatchNorm2d:
    norm = FrozenBatchNorm2d(_SHAPE[1])
    for buffer in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return norm


def _small(scale: Scale, generator: torch.Generator, device: torch.device) -> Scale:
    """A scale of the same kind, of the size of the test."""
    if isinstance(scale, Tensor):
        shape = (_SHAPE[0], _SHAPE[1] if scale.shape[1] > 1 else 1, 1, 1)
        return (2 * torch.rand(shape, generator=generator) - 1).to(device)
    if isinstance(scale, SeededScale):
        return dataclasses.replace(scale, shape=torch.Size(_SHAPE), device=device, gate=None)
    return scale
