"""The residual blocks that :func:`shake` knows."""

from __future__ import annotations

from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, DeformBottleneckBlock

from shakedrop_det.modeling.cifar.pyramid_blocks import PyramidBasicBlock, PyramidBottleneckBlock
from shakedrop_det.modeling.cifar.shaken_two_branch import ShakenTwoBranchBlock
from shakedrop_det.modeling.cifar.two_branch_blocks import TwoBranchBlock

from .blocks import (
    ShakenBasicBlock,
    ShakenBlock,
    ShakenBottleneckBlock,
    ShakenDeformBottleneckBlock,
    ShakenPyramidBasicBlock,
    ShakenPyramidBottleneckBlock,
)

SHAKEN_BLOCKS: dict[type[CNNBlockBase], type[ShakenBlock]] = {
    BasicBlock: ShakenBasicBlock,
    BottleneckBlock: ShakenBottleneckBlock,
    DeformBottleneckBlock: ShakenDeformBottleneckBlock,
    PyramidBasicBlock: ShakenPyramidBasicBlock,
    PyramidBottleneckBlock: ShakenPyramidBottleneckBlock,
    TwoBranchBlock: ShakenTwoBranchBlock,
}
"""The shaken counterpart of each residual block of detectron2 and of this package."""
