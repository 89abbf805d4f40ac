"""The random scales of one block in one step: of its residual, and of the residual's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from .spec import ShakeDropSpec

Range = tuple[float, float]


@dataclass(frozen=True)
class SeededScale:
    """A per-pixel scale that is generated from a seed whenever it is needed.

    Saving it for the backward pass would take as much memory as a feature map.

    Attributes:
        seed: seed of the generator that draws the coefficients.
        range: low and high end of the uniform coefficient.
        shape: shape of the feature map, (N, C, H, W).
        device: device of the feature map.
        gate: b of each image, boolean, (N, 1, 1, 1); None if the gate of the batch is closed.
        open_scale: the scale where the gate is open.
    """

    seed: int
    range: Range
    shape: torch.Size
    device: torch.device
    gate: Optional[Tensor] = None
    open_scale: float = 1.0

    def make(self) -> Tensor:
        """The scale, float32, (N, C, H, W); each call returns the same numbers."""
        generator = torch.Generator(self.device).manual_seed(self.seed)
        scale = torch.empty(self.shape, dtype=torch.float32, device=self.device)
        scale.uniform_(*self.range, generator=generator)
        return scale if self.gate is None else torch.where(self.gate, self.open_scale, scale)


Scale = float | Tensor | SeededScale
"""A float if the whole batch shares the scale and Python knows it. Otherwise a float32 tensor that
broadcasts to (N, C, H, W), or a :class:`SeededScale` for each pixel."""


class Scales(NamedTuple):
    """The two scales of a block in one step.

    Attributes:
        forward: s, which multiplies the residual.
        backward: t, which multiplies the gradient that flows into the residual branch.
    """

    forward: Scale
    backward: Scale

    @property
    def number(self) -> Optional[float]:
        """The number that both are; None if they differ, or if Python does not know them."""
        forward, backward = self
        same = isinstance(forward, float) and isinstance(backward, float) and forward == backward
        return forward if same else None  # type: ignore[return-value]

    @property
    def are_one(self) -> bool:
        """Whether the block is certainly not perturbed."""
        return self.number == 1.0


def draw_gate(
    survival_prob: float, *, gate_level: str, shape: Sequence[int], device: torch.device
) -> bool | Tensor:
    """Draw ``b ~ Bernoulli(p_l)`` (eq. 4 of the paper): True if the block is not perturbed.

    The gate of a batch is drawn on the CPU, so that Python can read it without a device sync.

    Args:
        survival_prob: p_l of the block.
        gate_level: "batch" or "image".
        shape: shape of the feature map, (N, ...).
        device: device of the feature map.

    Returns:
        bool; or a boolean tensor of shape (N or 1, 1, ...) on ``device`` for the level "image", and
        in compiled or captured graphs, where Python does not run in each step.
    """
    # rand is in [0, 1): p = 0 never survives and p = 1 always does.
    if gate_level == "batch" and runs_python(device):
        return torch.rand((), dtype=torch.float32, device="cpu").item() < survival_prob
    sizes = (1 if gate_level == "batch" else shape[0], *[1] * (len(shape) - 1))
    return torch.rand(sizes, dtype=torch.float32, device=device) < survival_prob


def draw_scales(
    spec: ShakeDropSpec,
    survival_prob: float,
    gate: bool | Tensor,
    shape: torch.Size,
    device: torch.device,
) -> Scales:
    """Draw the coefficients a and B, and combine them with the gate.

    ``s = b + a - b a`` and ``t = b + B - b B`` (eqs. 6 and 7 of the paper), with ``a ~ U[alpha]``
    and ``B ~ U[beta]`` drawn independently. If the spec is inverted, both are divided by E[s].
    Numbers are drawn from torch's default generator of the device, always in float32, since uniform
    numbers in bfloat16 are visibly biased.

    Args:
        spec: ranges, level, and whether the scales are inverted.
        survival_prob: p_l of the block.
        gate: b, see :func:`draw_gate`.
        shape: shape of the residual, (N, C, ...).
        device: device of the residual.

    Returns:
        Scales: s and t. Each is a float where Python knows its value for the whole batch, as with
        an open gate or a range of one value; else a float32 tensor on ``device`` of shape
        (1, 1, 1, ...), (N, 1, 1, ...) or (N, C, 1, ...) for the levels "batch", "image" and
        "channel", or a :class:`SeededScale`, which draws (N, C, ...) anew where it is needed, for
        "pixel".
    """
    divisor = spec.expected_scale(survival_prob) if spec.inverted else 1.0
    if gate is True:
        return Scales(1.0 / divisor, 1.0 / divisor)
    forward, backward = (
        _draw_scale((low / divisor, high / divisor), 1.0 / divisor, spec.level, gate, shape, device)
        for low, high in (spec.alpha, spec.beta)
    )
    return Scales(forward, backward)


def _draw_scale(
    range: Range,
    open_scale: float,
    level: str,
    gate: bool | Tensor,
    shape: torch.Size,
    device: torch.device,
) -> Scale:
    """Draw one of the two scales, unless the gate is open for the whole batch."""
    low, high = range
    if low == high:
        closed: float | Tensor = low
    elif level == "pixel" and device.type in ("cpu", "cuda") and runs_python(device):
        seed = int(torch.randint(2**31, (), device="cpu"))
        gates = None if isinstance(gate, bool) else gate
        return SeededScale(seed, range, shape, device, gates, open_scale)
    else:
        kept_axes = {"batch": 0, "image": 1, "channel": 2, "pixel": len(shape)}[level]
        sizes = [size if axis < kept_axes else 1 for axis, size in enumerate(shape)]
        uniform = torch.rand(sizes, dtype=torch.float32, device=device)
        closed = uniform.mul_(high - low).add_(low)
    if isinstance(gate, bool):
        return closed
    if not isinstance(closed, Tensor):
        closed = torch.full((), closed, dtype=torch.float32, device=device)
    return torch.where(gate, open_scale, closed)


def runs_python(device: torch.device) -> bool:
    """Whether Python runs in each step. It does not where a graph is compiled or captured for many
    steps, or where a transform of torch.func runs it once for many samples."""
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return device.type != "cuda" or not torch.cuda.is_current_stream_capturing()


def can_read(tensor: Tensor) -> bool:
    """Whether Python may read values: not on a GPU, where it would have to wait; not in a compiled
    graph, which it would break; and not under a transform of torch.func."""
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and type(tensor) is Tensor
    )
