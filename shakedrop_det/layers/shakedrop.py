"""ShakeDrop as a plain layer for the output of a residual branch of any network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

import torch
from torch import Tensor, nn

from .eager_function import apply
from .junction import as_tensor, scaled
from .scales import Scale, draw_gate, draw_scales, runs_python
from .spec import ShakeDropSpec

_DEFAULT = ShakeDropSpec()


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
    spec = _spec(survival_prob, alpha, beta, level, gate_level, inverted)
    return _shaken(residual, spec, training=training)


def _spec(
    survival_prob: float,
    alpha: Sequence[float],
    beta: Sequence[float],
    level: str,
    gate_level: str,
    inverted: bool,
) -> ShakeDropSpec:
    return ShakeDropSpec(
        alpha=alpha,  # type: ignore[arg-type]
        beta=beta,  # type: ignore[arg-type]
        survival_prob=survival_prob,
        decay="constant",
        level=level,
        gate_level=gate_level,
        inverted=inverted,
    )


def _shaken(residual: Tensor, spec: ShakeDropSpec, *, training: bool) -> Tensor:
    survival_prob = spec.survival_prob
    if not training:
        test_scale = spec.test_scale(survival_prob)
        return residual if test_scale == 1.0 else residual * test_scale
    if survival_prob == 1.0:
        return residual
    shape, device = residual.shape, residual.device
    gate = draw_gate(survival_prob, gate_level=spec.gate_level, shape=shape, device=device)
    scales = draw_scales(spec, survival_prob, gate, shape, device)
    if scales.are_one:
        return residual
    return apply(_Rescale, residual, *scales, eager=runs_python(device))


class ShakeDrop(nn.Module):
    """:func:`shakedrop` as a module, in the manner of ``torchvision.ops.StochasticDepth``."""

    noise: bool
    """Whether training draws scales; see :func:`shakedrop_det.without_noise`."""

    def __init__(
        self,
        survival_prob: float = 0.9,
        *,
        alpha: Sequence[float] = (0.0, 0.0),
        beta: Sequence[float] = (0.0, 1.0),
        level: str = "image",
        gate_level: str = "batch",
        inverted: bool = True,
    ) -> None:
        """
        Args:
            survival_prob: p_l of this layer.
            alpha, beta, level, gate_level, inverted: see :func:`shakedrop`.

        Raises:
            ValueError: for a value that is not allowed.
        """
        super().__init__()
        self.spec = _spec(survival_prob, alpha, beta, level, gate_level, inverted)
        self.noise = True

    @property
    def survival_prob(self) -> float:
        """p_l, the probability that the residual is left alone."""
        return self.spec.survival_prob

    @survival_prob.setter
    def survival_prob(self, value: float) -> None:
        self.spec = dataclasses.replace(self.spec, survival_prob=value)

    @property
    def test_scale(self) -> float:
        """The factor on the residual at test time."""
        return self.spec.test_scale(self.survival_prob)

    def forward(self, residual: Tensor) -> Tensor:
        """
        Args:
            residual: F(x), of shape (N, C, ...).

        Returns:
            Tensor: of the same shape and dtype.
        """
        return _shaken(residual, self.spec, training=self.training and self.noise)

    def __prepare_scriptable__(self) -> NoReturn:
        raise TypeError(
            "torch.jit.script cannot compile the random part of ShakeDrop: script "
            "shakedrop_det.fold(copy.deepcopy(model)), which computes the same at test time. "
            "torch.jit.trace needs no such step."
        )

    def extra_repr(self) -> str:
        names = ("survival_prob", "alpha", "beta", "level", "gate_level", "inverted")
        changed = (name for name in names if getattr(self.spec, name) != getattr(_DEFAULT, name))
        shown = dict.fromkeys(("survival_prob", *changed))
        return ", ".join(f"{name}={getattr(self.spec, name)!r}" for name in shown)


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
