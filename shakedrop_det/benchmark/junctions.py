"""The junction by itself: from the last convolution's output to the block's output, and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det.layers import (
    Scales,
    ShakeDropSpec,
    draw_gate,
    draw_scales,
    junction,
    reference_junction,
)

from .rivals import public_junction
from .timing import Variant

STOCK, PUBLIC = "detectron2", "public formulation"
SHAPE = (4, 256, 56, 56)
"""Shape of res2's outputs in a ResNet-50, for four images of 224 pixels."""
SHAPE_ON_GPU = (2, 256, 200, 336)
"""The same for two images of 800 x 1344 pixels."""
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
    shape: tuple[int, int, int, int] | None = None,
) -> dict[str, Variant]:
    """Build variants of the same junction, on tensors that they share.

    Each returns the output and the gradients of the shortcut, the residual and the norm's
    parameters. The residual is a new tensor in each call, like the output of a convolution, and may
    be overwritten. Our variants draw their scales in each call. The stock junction always keeps its
    ReLU, since it is what ours replaces.

    Args:
        device: device to run on.
        norm: a key of ``NORMS``.
        erase_relu: whether our junction has no final ReLU.
        level: level of the coefficients, see :class:`ShakeDropSpec`; alpha is [-1, 1].
        survival_prob: survival probability of the block; None for two variants of ours, one whose
            gate is always closed, and one with probability 1/2.
        shape: shape (N, C, H, W) of the feature maps; None for that of res2 on the device.
    """
    on_gpu = torch.device(device).type == "cuda"
    shape = shape or (SHAPE_ON_GPU if on_gpu else SHAPE)
    shortcut, source = (torch.randn(shape, device=device, requires_grad=True) for _ in range(2))
    grad = torch.randn(shape, device=device)
    layer = NORMS[norm](shape[1]).to(device)
    inputs = [shortcut, source, *layer.parameters()]

    def variant(join: Callable[[Tensor], Tensor]) -> Variant:
        def run(residual: Tensor) -> tuple[Tensor, ...]:
            out = join(residual)
            return (out, *torch.autograd.grad(out, inputs, grad))

        return Variant(run, source.clone)

    def stock(residual: Tensor) -> Tensor:
        out = layer(residual)
        out += shortcut
        return F.relu_(out)

    def public(residual: Tensor) -> Tensor:
        return public_junction(shortcut, residual, layer, survival_prob=survival_prob or 0.0)

    spec = ShakeDropSpec(alpha=(-1.0, 1.0), level=level, erase_relu=erase_relu, inverted=False)

    def drawn(probability: float, join: Callable[..., Tensor] = junction) -> Variant:
        def ours(residual: Tensor) -> Tensor:
            scales = _draw(spec, probability, residual)
            return join(shortcut, residual, scales, norm=layer, relu=not erase_relu)

        return variant(ours)

    chosen = {"ours": survival_prob} if survival_prob is not None else OURS
    found = {
        STOCK: variant(stock),
        PUBLIC: variant(public),
        **{name: drawn(probability) for name, probability in chosen.items()},
    }
    if on_gpu:
        torch._dynamo.reset()  # or the ninth case of one function would run eagerly
        compiled = torch.compile(reference_junction, fullgraph=True)
        found["ours, gate closed, torch.compile"] = drawn(0.0, compiled)
    return found


OURS = {"ours, gate closed": 0.0, "ours, gate open half the time": 0.5}


def _draw(spec: ShakeDropSpec, survival_prob: float, residual: Tensor) -> Scales:
    shape, device = residual.shape, residual.device
    gate = draw_gate(survival_prob, gate_level=spec.gate_level, shape=shape, device=device)
    return draw_scales(spec, survival_prob, gate, shape, device)
