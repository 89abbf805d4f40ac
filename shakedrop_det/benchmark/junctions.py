"""The junction by itself: from the last convolution's output to the block's, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det.layers import (
    Draw,
    ScaleSampler,
    ShakeDropSpec,
    junction,
    survival_probs,
    takes_scales,
)

from .rivals import public_junction
from .timing import Variant, Variants

STOCK, PUBLIC = "detectron2", "public formulation"
SHAPE = (4, 256, 56, 56)
"""Of res2's outputs in a ResNet-50, for four images of 224 pixels."""
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "FrozenBN": FrozenBatchNorm2d,
    "BN": nn.BatchNorm2d,
    "GN": lambda channels: nn.GroupNorm(32, channels),
}


def junction_variants(
    device: str,
    *,
    norm: str,
    erase_relu: bool = False,
    level: str = "image",
    survival_prob: float | None = None,
    shape: tuple[int, int, int, int] = SHAPE,
) -> dict[str, Variant]:
    """Ways to compute the same junction, on tensors that they share.

    Each returns the output and the gradients of shortcut, residual and the norm's parameters. As
    the output of a convolution is, the residual is a new tensor in each call, which may be
    written to. Scales are drawn before: a network draws once for all its blocks. The stock
    junction keeps its ReLU whatever ``erase_relu`` says: it is what is replaced.

    Args:
        device: where to run.
        norm: a key of ``NORMS``.
        erase_relu: whether ours goes without the final ReLU.
        level: of the coefficients, see :class:`ShakeDropSpec`; alpha is [-1, 1].
        survival_prob: of this block; None for two variants of ours, one whose gate is always
            closed, and one that survives with probability 1/2.
        shape: (N, C, H, W) of the feature maps.
    """
    shortcut, source = (torch.randn(shape, device=device, requires_grad=True) for _ in range(2))
    grad = torch.randn(shape, device=device)
    layer = NORMS[norm](shape[1]).to(device)
    inputs = [shortcut, source, *layer.parameters()]

    def variant(
        join: Callable[[Tensor, Draw], Tensor], draw: Callable[[], Draw | None] = lambda: None
    ) -> Variant:
        def run(prepared: tuple[Tensor, Draw]) -> tuple[Tensor, ...]:
            out = join(*prepared)
            return (out, *torch.autograd.grad(out, inputs, grad))

        return Variant(run, lambda: (source.clone(), draw()))

    def stock(residual: Tensor, _: Draw) -> Tensor:
        out = layer(residual)
        out += shortcut
        return F.relu_(out)

    def public(residual: Tensor, _: Draw) -> Tensor:
        return public_junction(shortcut, residual, layer, survival_prob=survival_prob or 0.0)

    def ours(residual: Tensor, draw: Draw) -> Tensor:
        if draw.gate(0) and not takes_scales(layer):
            # As a block does whose gate is open.
            out = layer(residual)
            out += shortcut
            return out if erase_relu else F.relu_(out)
        scales = draw.scales(0, residual)
        relu = not erase_relu
        return junction(shortcut, residual, scales, norm=layer, relu=relu, inplace=True)

    def drawn(probability: float) -> Variant:
        spec = ShakeDropSpec(alpha=(-1.0, 1.0), level=level, erase_relu=erase_relu)
        sampler = ScaleSampler(spec, [probability], channels=[shape[1]]).to(device)
        return variant(ours, lambda: sampler(shape[0]))

    chosen = {"ours": survival_prob} if survival_prob is not None else OURS
    return {
        STOCK: variant(stock),
        PUBLIC: variant(public),
        **{name: drawn(probability) for name, probability in chosen.items()},
    }


OURS = {"ours, gate closed": 0.0, "ours, gate open half the time": 0.5}


def sampler_variants(device: str) -> Variants:
    """One draw for 50 blocks (a ResNet-152) and 16 images."""

    def variant(gate_level: str) -> Variant:
        spec = ShakeDropSpec(gate_level=gate_level)
        probs = survival_probs(50, survival_prob=0.5)
        sampler: Any = ScaleSampler(spec, probs, channels=[256] * 50).to(device)
        return Variant(lambda: sampler(16))

    return {"gate per batch": variant("batch"), "gate per image": variant("image")}
