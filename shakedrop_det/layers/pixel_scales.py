"""Scales of each pixel, which are made when they are needed and made again rather than kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

_FORWARD, _BACKWARD = 0, 1


@dataclass(frozen=True)
class PixelScales:
    """The forward and the backward scale of one block, a feature map's worth of numbers each.

    Attributes:
        seed: of the two generators, one for each scale, that the numbers come from.
        ranges: (low, high) of the forward and of the backward coefficient.
        kept: both scales where the gate is open.
        shape: of the feature map, (N, C, H, W).
        device: where the scales are needed.
        gate: b, where it is the same for the whole batch and known without asking a device.
        drawn_gate: else b as a tensor, boolean, (N or 1, 1, 1, 1).
    """

    seed: int
    ranges: tuple[tuple[float, float], tuple[float, float]]
    kept: float
    shape: torch.Size
    device: torch.device
    gate: Optional[bool] = None
    drawn_gate: Optional[Tensor] = None

    @property
    def dropped(self) -> Optional[bool]:
        """Whether the forward scale is 0 throughout (True), if that is known."""
        return True if self.gate is False and self.ranges[_FORWARD] == (0.0, 0.0) else None

    @property
    def forward(self) -> Tensor:
        """s, float32, of the feature map's shape or broadcastable to it."""
        return self._make(_FORWARD)

    @property
    def backward(self) -> Tensor:
        """t; the same numbers each time."""
        return self._make(_BACKWARD)

    def _make(self, direction: int) -> Tensor:
        low, high = self.ranges[direction]
        if low == high:
            coefficient = torch.full((1, 1, 1, 1), low, device=self.device)
        else:
            coefficient = uniform(self.shape, self.seed + direction, self.device)
            coefficient.mul_(high - low).add_(low)
        if self.drawn_gate is None:
            return coefficient
        return torch.where(self.drawn_gate, self.kept, coefficient)


def uniform(shape: torch.Size, seed: int, device: torch.device) -> Tensor:
    """Uniform numbers in (0, 1), float32, that follow from the seed.

    On a CPU, whose generator makes them one by one, they have 16 bits: the midpoints of 65536 equal
    parts, of mean 1/2 exactly, for a third of the time.
    """
    generator = torch.Generator(device).manual_seed(seed)
    if device.type != "cpu":
        return torch.rand(shape, device=device, generator=generator)
    count = math.prod(shape)
    bits = torch.empty(-(-count // 4), dtype=torch.int64)
    bits.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    numbers = bits.view(torch.int16)[:count].view(shape).float()
    return numbers.mul_(2.0**-16).add_(0.5 + 2.0**-17)
