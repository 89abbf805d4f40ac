"""Initialization of residual networks that are trained from scratch."""

from __future__ import annotations

from detectron2.layers import CNNBlockBase
from torch import nn

from .residual_branch import ResidualBranch


def zero_init_residual(module: nn.Module) -> nn.Module:
    """Let each residual block begin as the identity, in place.

    The weight of the last norm of each branch becomes 0. See "Accurate, Large Minibatch SGD:
    Training ImageNet in 1 Hour", section 5.1.

    Args:
        module: holds residual blocks, with or without ShakeDrop, of detectron2 or of this package.

    Returns:
        nn.Module: ``module``.

    Raises:
        ValueError: if a branch ends in no norm with a weight to train.
    """
    for name, branch in module.named_modules():
        is_block = isinstance(branch, CNNBlockBase) and hasattr(branch, "shortcut")
        if not (is_block or isinstance(branch, ResidualBranch)) or not hasattr(branch, "conv2"):
            continue
        last_conv = getattr(branch, "conv3", branch.conv2)
        norm = getattr(last_conv, "norm", None)
        weight = getattr(norm, "weight", None)
        if not isinstance(weight, nn.Parameter):
            raise ValueError(
                f"MODEL.RESNETS.ZERO_INIT_RESIDUAL needs a trainable norm at the end of each "
                f"residual branch, but {name} has {type(norm).__name__}: set "
                "MODEL.RESNETS.NORM to BN, MODEL.BACKBONE.FREEZE_AT to 0 and, in a Wide ResNet, "
                "MODEL.RESNETS.LAST_BRANCH_NORM to True, or ZERO_INIT_RESIDUAL to False"
            )
        nn.init.zeros_(weight)
    return module
