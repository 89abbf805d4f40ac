"""Shaken residual blocks, backbones, heads and the image classifier.

Networks for small images are in :mod:`.cifar`.
"""

from .backbone import (
    build_shakedrop_resnet_backbone,
    build_shakedrop_resnet_deeplab_backbone,
    build_shakedrop_resnet_fpn_backbone,
    build_shakedrop_retinanet_resnet_fpn_backbone,
)
from .blocks import (
    SHAKEN_BLOCKS,
    ShakenBasicBlock,
    ShakenBlock,
    ShakenBottleneckBlock,
    ShakenDeformBottleneckBlock,
    register_shaken_block,
)
from .classification import ImageClassifier
from .drop_path import replace_drop_path
from .fold import fold
from .lazy import resnext_stages, shaken_resnet, shaken_stage
from .res5_head import ShakeDropRes5ROIHeads
from .shake import shake, without_noise

__all__ = [
    "SHAKEN_BLOCKS",
    "ImageClassifier",
    "ShakeDropRes5ROIHeads",
    "ShakenBasicBlock",
    "ShakenBlock",
    "ShakenBottleneckBlock",
    "ShakenDeformBottleneckBlock",
    "build_shakedrop_resnet_backbone",
    "build_shakedrop_resnet_deeplab_backbone",
    "build_shakedrop_resnet_fpn_backbone",
    "build_shakedrop_retinanet_resnet_fpn_backbone",
    "fold",
    "register_shaken_block",
    "replace_drop_path",
    "resnext_stages",
    "shake",
    "shaken_resnet",
    "shaken_stage",
    "without_noise",
]
