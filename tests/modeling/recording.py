"""What the blocks of a network draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from shakedrop_det.layers import Scales, SeededScale
from shakedrop_det.modeling import ShakenBlock


@contextmanager
def recorded_scales() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The forward and the backward scale of each residual branch that runs, or is left out, within
    this context, in float64; those of a branch that is left out are 0."""
    found: list[tuple[Tensor, Tensor]] = []
    draw_gate, draw_scales = ShakenBlock._draw_gate, ShakenBlock._draw_scales

    def gate(block: ShakenBlock, x: Tensor) -> Any:
        found.append((torch.zeros(()).double(), torch.zeros(()).double()))
        return draw_gate(block, x)

    def scales(block: ShakenBlock, residual: Tensor, gate: Any) -> Scales:
        drawn = draw_scales(block, residual, gate)
        found[-1] = tuple(map(as_tensor, drawn))  # type: ignore[assignment]
        return drawn

    with (
        mock.patch.object(ShakenBlock, "_draw_gate", gate),
        mock.patch.object(ShakenBlock, "_draw_scales", scales),
    ):
        yield found


def as_tensor(scale: float | Tensor | SeededScale) -> Tensor:
    if isinstance(scale, SeededScale):
        return scale.make().double()
    return torch.as_tensor(scale, dtype=torch.float64)
