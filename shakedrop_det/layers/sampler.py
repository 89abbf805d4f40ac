"""One draw of the scales of all blocks per step."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import torch
from torch import Tensor, nn

from .draw import Constants, Draw, FixedDraw, Gates, PixelDraw, all_scales, block_scales
from .scale_store import ScaleStore
from .scales import Scales, is_eager
from .spec import ShakeDropSpec


class ScaleSampler(nn.Module):
    """Draws the forward and backward scales of several blocks at once.

    With ``b ~ Bernoulli(p_l)``, ``a ~ U[alpha]`` and ``B ~ U[beta]``, B independent of a, the
    forward scale is ``s = b + a - b a`` and the backward scale ``t = b + B - b B``
    (eqs. 6 and 7 of the paper). Both are divided by E[s] in the inverted form.

    Each call returns new tensors: two forward passes before one backward pass each keep their
    own. Draws come from torch's default generators, in float32 whatever the network's dtype:
    uniform numbers in bfloat16 are visibly biased. The module holds no parameter and no
    persistent buffer.
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
        self._set_constants(torch.empty(0).device)  # where torch makes tensors by default

    def _set_constants(self, device: torch.device) -> None:
        spec = self.spec
        self._divisors = [
            spec.expected_scale(p) if spec.inverted else 1.0 for p in self.survival_probs
        ]
        divisors = self._divisors if spec.inverted else [1.0]
        divisor = torch.tensor(divisors, dtype=torch.float64, device="cpu").view(1, -1, 1, 1, 1, 1)
        ranges = torch.tensor([spec.alpha, spec.beta], dtype=torch.float64, device="cpu")
        low, high = (bound.view(2, 1, 1, 1, 1, 1) / divisor for bound in ranges.unbind(1))
        # Six axes, as the others: Module.to(memory_format=...) takes four or five for images.
        probs = torch.tensor(self.survival_probs, dtype=torch.float64, device="cpu").view(
            1, -1, 1, 1, 1, 1
        )
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
        gates = self._gates(batch_size)
        constants = Constants(self._low, self._width, self._kept)
        per_image = None if self.spec.gate_level == "batch" else batch_size
        if self.spec.level == "pixel":
            return PixelDraw(
                gates,
                constants,
                per_image,
                spec=self.spec,
                divisors=self._divisors,
                seed=self._seed(),
            )
        if self.spec.level == "channel":
            return FixedDraw(self._per_channel(gates, constants, batch_size), batch_size)
        images = batch_size if self.spec.level == "image" else 1
        shape = (2, len(self.channels), images, 1, 1, 1)
        uniform = torch.rand(shape, device=self._probs.device)
        return FixedDraw(
            all_scales(gates, constants, uniform),
            batch_size if self.spec.level == "image" else per_image,
        )

    def _gates(self, batch_size: int) -> Gates:
        """One gate for the whole batch is drawn where Python sees it, on the CPU, so that no block
        need ask a device whether its branch is dropped."""
        num_blocks = len(self.channels)
        per_batch = self.spec.gate_level == "batch"
        drop = self.spec.alpha == (0.0, 0.0)
        # rand is in [0, 1): p = 0 never survives and p = 1 always does.
        if per_batch and is_eager(self._probs.device):
            uniform = torch.rand(num_blocks, device="cpu").tolist()
            known = [u < p for u, p in zip(uniform, self.survival_probs, strict=True)]
            return Gates(known, drop=drop)
        images = 1 if per_batch else batch_size
        uniform_numbers = torch.rand((num_blocks, images, 1, 1, 1), device=self._probs.device)
        drawn = uniform_numbers < self._probs[0]
        return Gates([None] * num_blocks, drawn, drop)

    def _seed(self) -> Optional[int]:
        device = self._probs.device
        if device.type not in ("cpu", "cuda") or not is_eager(device):
            return None
        return int(torch.randint(2**31, (), device="cpu"))

    def _per_channel(self, gates: Gates, constants: Constants, batch_size: int) -> list[Scales]:
        device = self._probs.device
        return [
            block_scales(gates, constants, block, (2, batch_size, channels, 1, 1), device)
            for block, channels in enumerate(self.channels)
        ]

    def extra_repr(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self.spec).items())
        return f"{fields}, blocks={len(self.channels)}"
