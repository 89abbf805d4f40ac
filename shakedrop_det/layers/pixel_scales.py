"""Scales of each pixel, which are made when they are needed and made again rather than kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

FORWARD, BACKWARD = 0, 1
_PART = 2**16
"""Numbers in a part of a map: 256 KiB in float32."""


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
        return True if self.gate is False and self.ranges[FORWARD] == (0.0, 0.0) else None

    @property
    def forward(self) -> Tensor:
        """s, float32, of the feature map's shape or broadcastable to it."""
        return self._make(FORWARD)

    @property
    def backward(self) -> Tensor:
        """t; the same numbers each time."""
        return self._make(BACKWARD)

    def _make(self, direction: int) -> Tensor:
        low, high = self.ranges[direction]
        if low == high:
            coefficient = torch.full((1, 1, 1, 1), low, device=self.device)
        elif self.device.type == "cpu":
            coefficient = torch.empty(self.shape)
            stream = self.stream(direction)
            for part in in_parts(coefficient):
                stream.fill(part)
        else:
            generator = torch.Generator(self.device).manual_seed(self.seed + direction)
            coefficient = torch.rand(self.shape, device=self.device, generator=generator)
            coefficient.mul_(high - low).add_(low)
        if self.drawn_gate is None:
            return coefficient
        return torch.where(self.drawn_gate, self.kept, coefficient)

    def can_stream(self, direction: int) -> bool:
        """Whether a direction's scales can be made part by part: on a CPU, where the gate is
        closed."""
        low, high = self.ranges[direction]
        return self.device.type == "cpu" and self.gate is False and low < high

    def stream(self, direction: int) -> "UniformStream":
        """The scales of a direction, to be written into the parts that :func:`in_parts` gives."""
        return UniformStream(self.seed + direction, *self.ranges[direction])


def in_parts(*maps: Tensor) -> Iterator[Any]:
    """Feature maps, or what broadcasts to them, in parts that stay in a processor's cache.

    Args:
        maps: (N, C, H, W) or (1, C, 1, 1), the first of them (N, C, H, W); contiguous.

    Returns:
        An iterator over a part (channels, pixels) or (channels, 1) of each; of the part itself if
        there is only one map.
    """
    shape = maps[0].shape
    pixels = shape[2:].numel()
    rows = max(1, _PART // max(pixels, 1))
    flat = (
        m.view(-1, pixels) if m.shape == shape else m.expand(*shape[:2], 1, 1).reshape(-1, 1)
        for m in maps
    )
    parts = [m.split(rows) for m in flat]
    return iter(parts[0]) if len(parts) == 1 else zip(*parts, strict=True)


class UniformStream:
    """Uniform numbers that follow from a seed, as many at a time as are asked for.

    Each has 16 bits: the midpoints of 65536 equal parts of the range, so that the mean is exact.
    NumPy's SFC64 makes them four at a time, in half the time of torch's generator.

    Args:
        seed: of the stream.
        low, high: the range.
    """

    def __init__(self, seed: int, low: float, high: float) -> None:
        self._bits = np.random.SFC64(seed)
        self._step = (high - low) / 2**16
        self._middle = (low + high + self._step) / 2

    def fill(self, out: Tensor) -> Tensor:
        """Write the next numbers into a tensor, contiguous."""
        count = out.numel()
        words = self._bits.random_raw(-(-count // 4))
        out.copy_(torch.from_numpy(words.view(np.int16)[:count]).view(out.shape))
        return torch.add(out.new_tensor(self._middle), out, alpha=self._step, out=out)
