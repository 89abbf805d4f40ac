"""The paper's equations, written down once more and in float64, to compare with."""

from __future__ import annotations

import torch
from torch import Tensor


def junction_by_equations(x: Tensor, f: Tensor, s: Tensor, t: Tensor, *, relu: bool) -> Tensor:
    """Eqs. 6 and 7: the value x + s f, whose gradient with respect to f is t."""
    value = x + s.double() * f
    gradient_only = (t.double() - s.double()) * (f - f.detach())  # is 0
    out = value + gradient_only
    return out.relu() if relu else out


def random_map(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """A feature map that takes a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
