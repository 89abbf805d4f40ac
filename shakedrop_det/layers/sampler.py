"""One draw of the scales of all blocks per step."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from .junction import Scales
from .scale_store import Draw, ScaleStore
from .spec import ShakeDropSpec


class _Constants(NamedTuple):
    """What turns uniform numbers into scales; each of shape (1, 1 or L, 1, 1, 1, 1) or
    (2, 1 or L, 1, 1, 1, 1), with forward and backward along the first axis."""

    low: Tensor
    width: Tensor
    kept: Tensor

    def scales(self, gate: Tensor, uniform: Tensor) -> Tensor:
        """``b + a - b a`` for a Boolean b, both terms divided by E[s] in the inverted form."""
        return torch.where(gate, self.kept, torch.addcmul(self.low, self.width, uniform))

    def of_block(self, block: int) -> "_Constants":
        return _Constants(*(c[:, block] if c.shape[1] > 1 else c[:, 0] for c in self))


class _FixedDraw:
    """Scales whose shape does not depend on that of the feature maps."""

    def __init__(self, scales: List[Scales]) -> None:
        self._scales = scales

    def scales(self, block: int, residual: Tensor) -> Scales:
        return self._scales[block]


class _PixelDraw:
    """Gates that are drawn; the coefficients follow where the feature map's shape is known.

    They come from torch's default generator, whose state activation checkpointing restores.
    """

    def __init__(self, gate: Tensor, constants: _Constants) -> None:
        self._gate = gate
        self._constants = constants

    def scales(self, block: int, residual: Tensor) -> Scales:
        uniform = torch.rand((2, *residual.shape), device=residual.device)
        scales = self._constants.of_block(block).scales(self._gate[block], uniform)
        return Scales(*scales.unbind(0))


class ScaleSampler(nn.Module):
    """Draws the forward and backward scales of several blocks at once.

    With ``b ~ Bernoulli(p_l)``, ``a ~ U[alpha]`` and ``B ~ U[beta]``, B independent of a, the
    forward scale is ``s = b + a - b a`` and the backward scale ``t = b + B - b B``
    (eqs. 6 and 7 of the paper). Both are divided by E[s] in the inverted form.

    Each call returns new tensors: two forward passes before one backward pass each keep their
    own. Draws come from torch's default generator of the device, in float32 whatever the
    network's dtype: uniform numbers in bfloat16 are visibly biased. The module holds no
    parameter and no persistent buffer.
    """

    _low: Tensor
    _width: Tensor
    _kept: Tensor
    _probs: Tensor

    def __init__(
        self, spec: ShakeDropSpec, survival_probs: Sequence[float], *, channels: Sequence[int]
    ) -> None:
        """
        Args:
            spec: the ranges and levels to draw from.
            survival_probs: p_l of each block that this sampler serves.
            channels: number of output channels of each of those blocks.

        Raises:
            ValueError: if the two sequences differ in length, or are empty.
        """
        super().__init__()
        if not survival_probs or len(survival_probs) != len(channels):
            raise ValueError(
                "survival_probs and channels must have one entry per block, got "
                f"{len(survival_probs)} and {len(channels)}"
            )
        self.spec = spec
        self.survival_probs = tuple(survival_probs)
        self.channels = tuple(channels)
        self.store = ScaleStore()
        self._set_constants(torch.device("cpu"))

    def _set_constants(self, device: torch.device) -> None:
        spec = self.spec
        divisors = [spec.expected_scale(p) for p in self.survival_probs] if spec.inverted else [1.0]
        divisor = torch.tensor(divisors, dtype=torch.float64).view(1, -1, 1, 1, 1, 1)
        ranges = torch.tensor([spec.alpha, spec.beta], dtype=torch.float64)
        low, high = (bound.view(2, 1, 1, 1, 1, 1) / divisor for bound in ranges.unbind(1))
        probs = torch.tensor(self.survival_probs, dtype=torch.float64).view(-1, 1, 1, 1, 1)
        constants = {"_probs": probs, "_low": low, "_width": high - low, "_kept": 1.0 / divisor}
        for name, value in constants.items():
            self.register_buffer(name, value.to(device, torch.float32), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> "ScaleSampler":
        # Module.half() and .double() move the constants and leave their precision alone.
        super()._apply(fn, recurse)
        self._set_constants(self._probs.device)
        return self

    def forward(self, batch_size: int) -> Draw:
        """
        Args:
            batch_size: N of the feature maps that the scales will multiply.

        Returns:
            Draw: for each block a forward and a backward scale of shape
            (N or 1, C or 1, 1, 1), at the pixel level (N, C, H, W); in float32, on this
            module's device.
        """
        gate = self._gate(batch_size)
        constants = _Constants(self._low, self._width, self._kept)
        if self.spec.level == "pixel":
            return _PixelDraw(gate, constants)
        if self.spec.level == "channel":
            return _FixedDraw(self._per_channel(gate, constants, batch_size))
        images = batch_size if self.spec.level == "image" else 1
        uniform = torch.rand((2, len(self.channels), images, 1, 1, 1), device=gate.device)
        forward, backward = constants.scales(gate, uniform).unbind(0)
        return _FixedDraw([Scales(*pair) for pair in zip(forward.unbind(0), backward.unbind(0))])

    def _gate(self, batch_size: int) -> Tensor:
        """b, boolean, of shape (L, N or 1, 1, 1, 1)."""
        images = batch_size if self.spec.gate_level == "image" else 1
        # rand is in [0, 1): p = 0 never survives and p = 1 always does.
        uniform = torch.rand((len(self.channels), images, 1, 1, 1), device=self._probs.device)
        return uniform < self._probs

    def _per_channel(self, gate: Tensor, constants: _Constants, batch_size: int) -> List[Scales]:
        uniform = torch.rand((2, batch_size, sum(self.channels), 1, 1), device=gate.device)
        return [
            Scales(*constants.of_block(block).scales(gate[block], part).unbind(0))
            for block, part in enumerate(uniform.split(self.channels, dim=2))
        ]

    def extra_repr(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self.spec).items())
        return f"{fields}, blocks={len(self.channels)}"
