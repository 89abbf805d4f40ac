"""The scales of all blocks in one forward pass, and how uniform numbers become scales."""

from __future__ import annotations

from typing import NamedTuple, Optional, Protocol, Sequence

import torch
from torch import Tensor

from .pixel_scales import PixelScales
from .scales import Scales
from .spec import ShakeDropSpec


class Gates(NamedTuple):
    """The gates b of all blocks.

    Attributes:
        known: for each block True or False if Python drew it, for the whole batch; else None.
        drawn: else the gates as a tensor, boolean, of shape (L, N or 1, 1, 1, 1).
        drop: whether a is always 0, so that a closed gate drops the branch.
    """

    known: Sequence[Optional[bool]]
    drawn: Optional[Tensor] = None
    drop: bool = False

    def dropped(self, block: int) -> Optional[bool]:
        """Whether the forward scale of a block is 0, where that is known."""
        return True if self.drop and self.known[block] is False else None


class Constants(NamedTuple):
    """What turns gates and uniform numbers into scales.

    Each has the shape (1 or 2, 1 or L, 1, 1, 1, 1): forward and backward along the first axis,
    blocks along the second.

    Attributes:
        low, width: of the ranges of a and B, divided by E[s] in the inverted form.
        kept: both scales of a block whose gate is open: 1, or 1 / E[s] in the inverted form.
    """

    low: Tensor
    width: Tensor
    kept: Tensor

    def of_block(self, block: int) -> "Constants":
        """Those of one block, without the second axis."""
        return Constants(*(c[:, block] if c.shape[1] > 1 else c[:, 0] for c in self))


class Draw(Protocol):
    """The scales of all blocks in one forward pass. Blocks count from 0."""

    def gate(self, block: int) -> Optional[bool]:
        """b, if it is the same for the whole batch and known without asking a device."""

    def scales(self, block: int, residual: Tensor) -> Scales | PixelScales:
        """The scales of a block for a residual of this shape."""


class FixedDraw:
    """Scales whose shape does not depend on that of the feature maps.

    Args:
        scales: of each block.
        batch_size: the number of images that they are for; None if all images share them.
    """

    def __init__(self, scales: list[Scales], batch_size: Optional[int]) -> None:
        self._scales = scales
        self._batch_size = batch_size

    def gate(self, block: int) -> Optional[bool]:
        return self._scales[block].gate

    def scales(self, block: int, residual: Tensor) -> Scales:
        _check_batch_size(self._batch_size, block, residual)
        return self._scales[block]


class PixelDraw:
    """Gates that are drawn, and a seed; the coefficients follow where the map's shape is known.

    Without a seed they come from torch's default generator, whose state activation checkpointing
    restores.

    Args:
        gates, constants: of all blocks.
        batch_size: the number of images that the gates are for; None if all images share them.
        spec: the ranges of the coefficients.
        divisors: what the scales of each block are divided by.
        seed: of this draw; None where a generator of one's own cannot be used.
    """

    def __init__(
        self,
        gates: Gates,
        constants: Constants,
        batch_size: Optional[int],
        *,
        spec: ShakeDropSpec,
        divisors: Sequence[float],
        seed: Optional[int],
    ) -> None:
        self._gates = gates
        self._constants = constants
        self._batch_size = batch_size
        self._spec = spec
        self._divisors = divisors
        self._seed = seed

    def gate(self, block: int) -> Optional[bool]:
        return self._gates.known[block]

    def scales(self, block: int, residual: Tensor) -> Scales | PixelScales:
        _check_batch_size(self._batch_size, block, residual)
        gate, drawn, divisor = self.gate(block), self._gates.drawn, self._divisors[block]
        if gate or self._seed is None:
            shape = (2, *residual.shape)
            return block_scales(self._gates, self._constants, block, shape, residual.device)
        alpha, beta = (
            (low / divisor, high / divisor) for low, high in (self._spec.alpha, self._spec.beta)
        )
        return PixelScales(
            seed=self._seed + 2 * block,
            ranges=(alpha, beta),
            kept=1 / divisor,
            shape=residual.shape,
            device=residual.device,
            gate=gate,
            drawn_gate=None if drawn is None else drawn[block],
        )


def _check_batch_size(batch_size: Optional[int], block: int, residual: Tensor) -> None:
    """One image's scale would otherwise serve a batch of any size."""
    if batch_size is not None and residual.shape[0] != batch_size:
        raise RuntimeError(
            f"The scales of block {block + 1} were drawn for {batch_size} images, but its feature "
            f"map holds {residual.shape[0]}. Apply `shake` to the part of the network whose input "
            "has as many, or draw per batch (level and gate_level)."
        )


def block_scales(
    gates: Gates,
    constants: Constants,
    block: int,
    shape: tuple[int, ...],
    device: torch.device,
) -> Scales:
    """``b + a - b a`` and ``b + B - b B`` of one block.

    Args:
        gates, constants: of all blocks.
        block: its number, from 0.
        shape: of the numbers to draw, (2, N or 1, C or 1, H or 1, W or 1).
        device: where to draw them.
    """
    low, width, kept = constants.of_block(block)
    gate = gates.known[block]
    if gate:
        return Scales(kept[0], kept[0], gate=True, dropped=False)
    coefficients = torch.addcmul(low, width, torch.rand(shape, device=device))
    if gates.drawn is not None:
        coefficients = torch.where(gates.drawn[block], kept, coefficients)
    forward, backward = coefficients.unbind(0)
    return Scales(forward, backward, gate, gates.dropped(block))


def all_scales(gates: Gates, constants: Constants, uniform: Tensor) -> list[Scales]:
    """The same for all blocks at once.

    Args:
        gates, constants: of all blocks.
        uniform: numbers in [0, 1), of shape (2, L, N or 1, 1, 1, 1).
    """
    coefficients = torch.addcmul(constants.low, constants.width, uniform)
    if gates.drawn is not None:
        coefficients = torch.where(gates.drawn, constants.kept, coefficients)
    forward, backward = (part.unbind(0) for part in coefficients.unbind(0))
    if not any(gates.known):
        return [
            Scales(f, t, gate, gates.dropped(i))
            for i, (f, t, gate) in enumerate(zip(forward, backward, gates.known, strict=True))
        ]
    # One view for each block costs more than the draw: where all are alike, one will do.
    kept = constants.kept[0].unbind(0)
    kept = kept * len(gates.known) if len(kept) == 1 else kept
    closed = False, gates.drop or None
    return [
        Scales(k, k, True, False) if gate else Scales(f, t, *closed)
        for k, f, t, gate in zip(kept, forward, backward, gates.known, strict=True)
    ]
