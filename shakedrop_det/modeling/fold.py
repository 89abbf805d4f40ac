"""``fold``: turn a trained network into a plain one that does not need this package."""

from __future__ import annotations

import torch
from torch import nn

from .blocks import ShakenBlock


@torch.no_grad()
def fold(module: nn.Module) -> nn.Module:
    """Remove ShakeDrop from a trained network, in place, without changing its test-time output.

    The expected scale e of each block (eq. 8 of the paper) is multiplied into the last norm of its
    residual branch, or into the last convolution if there is no norm. Blocks that keep their final
    ReLU become detectron2's own, so the state dict is that of a stock network with the same keys.
    Blocks without it become blocks that differ from detectron2's only in that ReLU. Blocks of this
    package's networks for CIFAR, which have no such ReLU, become its plain ones.

    The result is for inference: further training would start from scaled norms, without noise.

    Args:
        module: a model that :func:`shakedrop_det.shake` was applied to; changed in place.

    Returns:
        nn.Module: ``module``.

    Raises:
        ValueError: if there is no block with ShakeDrop, or if one cannot take its scale. Nothing
            is changed in that case.
    """
    blocks = [child for child in module.modules() if isinstance(child, ShakenBlock)]
    if not blocks:
        raise ValueError(f"{type(module).__name__} holds no block with ShakeDrop to fold")
    scales = [(_scaled_module(conv), scale) for b in blocks for conv, scale in b.test_scales()]
    for block in blocks:
        block.plain_type()  # Before anything is changed.
    for target, scale in scales:
        for tensor in (target.weight, target.bias):
            if isinstance(tensor, torch.Tensor):
                tensor.mul_(scale)
    for block in blocks:
        block.unshake()
    return module


def _scaled_module(conv: nn.Module) -> nn.Module:
    """The module to multiply the scale into: the last convolution's norm, or the convolution."""
    norm = getattr(conv, "norm", None)
    target = conv if norm is None else norm
    if getattr(target, "weight", None) is None:
        raise ValueError(
            f"The last norm of a residual branch, {type(target).__name__}, has no weight that "
            "could take the test scale: use a norm with affine parameters"
        )
    return target
