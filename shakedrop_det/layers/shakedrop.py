"""ShakeDrop as a plain layer for the output of a residual branch of any network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor, nn

from .eager_function import apply
from .junction import as_tensor, scaled
from .scales import Scale, draw_gate, draw_scales, runs_python
from .spec import ShakeDropSpec


def shakedrop(
    residual: Tensor,
    survival_prob: float,
    *,
    alpha: Sequence[float] = (0.0, 0.0),
    beta: Sequence[float] = (0.0, 1.0),
    level: str = "image",
    gate_level: str = "batch",
    inverted: bool = True,
    training: bool = True,
) -> Tensor:
    """Scale a residual, and the gradient into it by another number (eqs. 6 to 8 of the paper).

    To be used as ``x + shakedrop(f(x), p)``, like ``torchvision.ops.stochastic_depth``.

    Args:
        residual: F(x), of shape (N, C, ...).
        survival_prob: p_l, the probability that the residual is left alone.
        alpha, beta, level, gate_level, inverted: see :class:`ShakeDropSpec`. The level "channel"
            takes the second axis for that of channels.
        training: whether to draw; else the residual is multiplied by the test scale.

    Returns:
        Tensor: s F(x) in training, e F(x) else; ``residual`` itself where nothing is to be scaled.

    Raises:
        ValueError: for a value that is not allowed.
    """
    spec = ShakeDropSpec(
        alpha=alpha,  # type: ignore[arg-type]
        beta=beta,  # type: ignore[arg-type]
        survival_prob=survival_prob,
        decay="constant",
        level=level,
        gate_level=gate_level,
        inverted=inverted,
    )
    if not training:
        test_scale = spec.test_scale(survival_prob)
        return residual if test_scale == 1.0 else residual * test_scale
    if survival_prob == 1.0:
        return residual
    shape, device = residual.shape, residual.device
    gate = draw_gate(survival_prob, gate_level=gate_level, shape=shape, device=device)
    scales = draw_scales(spec, survival_prob, gate, shape, device)
    if scales.are_one:
        return residual
    return apply(_Rescale, residual, *scales, eager=runs_python(device))


class ShakeDrop(nn.Module):
    """:func:`shakedrop` as a module, in the manner of ``torchvision.ops.StochasticDepth``."""

    def __init__(self, survival_prob: float = 0.9, **settings: Any) -> None:
        """
        Args:
            survival_prob: p_l of this layer.
            settings: ``alpha``, ``beta``, ``level``, ``gate_level``, ``inverted``: see
                :func:`shakedrop`.
        """
        super().__init__()
        self.survival_prob = survival_prob
        self.settings = settings
        shakedrop(torch.empty(0), survival_prob, **settings)  # says what is wrong with them

    def forward(self, residual: Tensor) -> Tensor:
        """
        Args:
            residual: F(x), of shape (N, C, ...).

        Returns:
            Tensor: of the same shape and dtype.
        """
        return shakedrop(residual, self.survival_prob, **self.settings, training=self.training)

    def extra_repr(self) -> str:
        fields = {"survival_prob": self.survival_prob, **self.settings}
        return ", ".join(f"{name}={value!r}" for name, value in fields.items())


class _Rescale(torch.autograd.Function):
    """``s f``, whose gradient is ``t`` times the incoming one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(residual: Tensor, scale: Scale, backward_scale: Scale) -> Tensor:
        if isinstance(scale, float):
            return scaled(residual, scale)
        scale = as_tensor(scale, residual.dtype)
        return residual.masked_fill(scale == 0, 0) * scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *_, scale = inputs
        is_tensor = isinstance(scale, Tensor)
        ctx.scale = None if is_tensor else scale
        ctx.save_for_backward(scale if is_tensor else None)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        (scale,) = ctx.saved_tensors
        return scaled(grad, ctx.scale if scale is None else scale), None, None
