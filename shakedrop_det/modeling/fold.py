"""``fold``: turn a trained network into a plain one, which needs nothing of this package."""

from __future__ import annotations

import torch
from torch import nn

from .blocks import ShakenBlock


@torch.no_grad()
def fold(module: nn.Module) -> nn.Module:
    """Remove ShakeDrop from a trained network, in place, keeping what it computes at test time.

    The expected scale e of each block (eq. 8 of the paper) goes into the last norm of its residual
    branch, or into the last convolution where there is none. Blocks that keep their final
    ReLU become detectron2's own, so that the state_dict is that of a stock network with the same
    keys; those without become blocks that differ from detectron2's in that ReLU alone. Blocks of
    PyramidNets, Wide ResNets and two branches, which have no such ReLU, become this package's plain
    ones.

    The result is for inference: its training would start from scaled norms, without noise.

    Args:
        module: holds blocks put under ShakeDrop by :func:`shakedrop_det.shake`; changed in place.

    Returns:
        nn.Module: ``module``.

    Raises:
        ValueError: if there is no block under ShakeDrop, or one that cannot take its scale; then
            nothing is changed.
    """
    blocks = [child for child in module.modules() if isinstance(child, ShakenBlock)]
    if not blocks:
        raise ValueError(f"{type(module).__name__} holds no block under ShakeDrop to fold")
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
    """What ends a branch, and takes its scale: the norm of its last convolution, if it has one."""
    norm = getattr(conv, "norm", None)
    target = conv if norm is None else norm
    if getattr(target, "weight", None) is None:
        raise ValueError(
            f"The last norm of a residual branch, {type(target).__name__}, has no weight that "
            "could take the test scale: use a norm with affine parameters"
        )
    return target
