"""Shaken residual blocks, backbones, heads and the image classifier."""

from shakedrop_det.modeling.cifar.backbones import (
    build_shake_shake_backbone,
    build_shakedrop_cifar_resnet_backbone,
    build_shakedrop_pyramidnet_backbone,
)
from shakedrop_det.modeling.cifar.pyramid_blocks import PyramidBasicBlock, PyramidBottleneckBlock
from shakedrop_det.modeling.cifar.shaken_two_branch import ShakenTwoBranchBlock
from shakedrop_det.modeling.cifar.two_branch_blocks import TwoBranchBlock

from .backbone import (
    build_shakedrop_resnet_backbone,
    build_shakedrop_resnet_deeplab_backbone,
    build_shakedrop_resnet_fpn_backbone,
    build_shakedrop_retinanet_resnet_fpn_backbone,
)
from .blocks import (
    ShakenBasicBlock,
    ShakenBlock,
    ShakenBottleneckBlock,
    ShakenDeformBottleneckBlock,
    ShakenPyramidBasicBlock,
    ShakenPyramidBottleneckBlock,
)
from .classifier import ImageClassifier
from .fold import fold
from .known_blocks import SHAKEN_BLOCKS
from .lazy import resnext_stages, shaken_resnet, shaken_stage
from .res5_head import ShakeDropRes5ROIHeads
from .shake import BlockSampler, shake, without_noise

__all__ = [
    "SHAKEN_BLOCKS",
    "BlockSampler",
    "ImageClassifier",
    "PyramidBasicBlock",
    "PyramidBottleneckBlock",
    "ShakeDropRes5ROIHeads",
    "ShakenBasicBlock",
    "ShakenBlock",
    "ShakenBottleneckBlock",
    "ShakenDeformBottleneckBlock",
    "ShakenPyramidBasicBlock",
    "ShakenPyramidBottleneckBlock",
    "ShakenTwoBranchBlock",
    "TwoBranchBlock",
    "build_shake_shake_backbone",
    "build_shakedrop_cifar_resnet_backbone",
    "build_shakedrop_pyramidnet_backbone",
    "build_shakedrop_resnet_backbone",
    "build_shakedrop_resnet_deeplab_backbone",
    "build_shakedrop_resnet_fpn_backbone",
    "build_shakedrop_retinanet_resnet_fpn_backbone",
    "fold",
    "resnext_stages",
    "shake",
    "shaken_resnet",
    "shaken_stage",
    "without_noise",
]
