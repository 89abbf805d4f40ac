"""``fold``: turn a trained network into a plain one, which needs nothing of this package."""

from __future__ import annotations

import torch
from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, DeformBottleneckBlock
from torch import nn

from shakedrop_det.modeling.blocks import (
    ShakenBasicBlock,
    ShakenBlock,
    ShakenBottleneckBlock,
    ShakenDeformBottleneckBlock,
    ShakenPyramidBasicBlock,
    ShakenPyramidBottleneckBlock,
)
from shakedrop_det.modeling.cifar.pyramid_blocks import PyramidBasicBlock, PyramidBottleneckBlock
from shakedrop_det.modeling.cifar.shaken_two_branch import ShakenTwoBranchBlock
from shakedrop_det.modeling.cifar.two_branch_blocks import TwoBranchBlock
from shakedrop_det.modeling.linear_blocks import (
    LinearBasicBlock,
    LinearBottleneckBlock,
    LinearDeformBottleneckBlock,
)
from shakedrop_det.modeling.replace import replace_modules, shallow_copy
from shakedrop_det.modeling.shake import SAMPLER_NAME, BlockSampler

STOCK_BLOCKS: dict[type[ShakenBlock], type[CNNBlockBase]] = {
    ShakenBasicBlock: BasicBlock,
    ShakenBottleneckBlock: BottleneckBlock,
    ShakenDeformBottleneckBlock: DeformBottleneckBlock,
    ShakenPyramidBasicBlock: PyramidBasicBlock,
    ShakenPyramidBottleneckBlock: PyramidBottleneckBlock,
    ShakenTwoBranchBlock: TwoBranchBlock,
}
LINEAR_BLOCKS: dict[type[ShakenBlock], type[CNNBlockBase]] = {
    ShakenBasicBlock: LinearBasicBlock,
    ShakenBottleneckBlock: LinearBottleneckBlock,
    ShakenDeformBottleneckBlock: LinearDeformBottleneckBlock,
}


@torch.no_grad()
def fold(module: nn.Module) -> nn.Module:
    """Remove ShakeDrop from a trained network, in place, keeping what it computes at test time.

    The expected scale e of each block (eq. 8 of the paper) goes into the last norm of its residual
    branch, or into the last convolution where there is none. Blocks that keep their final
    ReLU become detectron2's own, so that the state_dict is that of a stock network with the same
    keys; those without become blocks that differ from detectron2's in that ReLU alone. Blocks of
    PyramidNet and of two branches, which have no such ReLU, become this package's plain ones.

    The result is for inference: its training would start from scaled norms, without noise.

    Args:
        module: holds blocks made by :func:`shakedrop_det.shake`; changed in place.

    Returns:
        nn.Module: ``module``, or its replacement if it is itself a block.

    Raises:
        ValueError: if there is no block under ShakeDrop.
    """
    blocks = [child for child in module.modules() if isinstance(child, ShakenBlock)]
    if not blocks:
        raise ValueError(f"{type(module).__name__} holds no block under ShakeDrop to fold")
    for block in blocks:
        for conv, scale in block.test_scales():
            _scale_residual(conv, scale)
    result = replace_modules(module, {id(block): _plain(block) for block in blocks})
    for owner in list(result.modules()):
        BlockSampler.detach(owner)
    return result


def _plain(block: ShakenBlock) -> CNNBlockBase:
    keeps_relu = not block.spec.erase_relu or not block.ENDS_IN_RELU
    plain_type = (STOCK_BLOCKS if keeps_relu else LINEAR_BLOCKS)[type(block)]
    plain = shallow_copy(block, plain_type)
    for name in ShakenBlock.OWN_ATTRIBUTES:
        plain.__dict__.pop(name, None)
    plain._modules.pop(SAMPLER_NAME, None)
    return plain


def _scale_residual(conv: nn.Module, scale: float) -> None:
    """Multiply what the last convolution of a branch and its norm compute by a number."""
    norm = getattr(conv, "norm", None)
    target = conv if norm is None else norm
    weight = getattr(target, "weight", None)
    if weight is None:
        raise ValueError(
            f"The last norm of a residual branch, {type(target).__name__}, has no weight that "
            "could take the test scale: use a norm with affine parameters"
        )
    weight.mul_(scale)
    bias = getattr(target, "bias", None)
    if bias is not None:
        bias.mul_(scale)
