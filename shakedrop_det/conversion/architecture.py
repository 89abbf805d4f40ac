"""Infer the architecture of ResNet weights, and build it in detectron2, torchvision and timm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone
from detectron2.modeling.backbone import ResNet
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from shakedrop_det.checkpoint.state_dict import StateDict

STAGES = ("res2", "res3", "res4", "res5")
# Depth by block type (whether bottlenecks of three convolutions) and number of blocks per stage.
_DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}


@dataclass(frozen=True)
class ResNetArchitecture:
    """Parameters of a ResNet, ResNeXt or wide ResNet, named as under ``MODEL.RESNETS``."""

    depth: int
    num_groups: int
    width_per_group: int
    stem_out_channels: int
    res2_out_channels: int
    num_classes: int | None
    """Number of classes; None if the network has no classifier."""

    @property
    def config(self) -> dict[str, int]:
        """Config keys of detectron2 with their values for this architecture."""
        return {
            "MODEL.RESNETS.DEPTH": self.depth,
            "MODEL.RESNETS.NUM_GROUPS": self.num_groups,
            "MODEL.RESNETS.WIDTH_PER_GROUP": self.width_per_group,
            "MODEL.RESNETS.STEM_OUT_CHANNELS": self.stem_out_channels,
            "MODEL.RESNETS.RES2_OUT_CHANNELS": self.res2_out_channels,
        }

    @property
    def is_bottleneck(self) -> bool:
        """Whether blocks have three convolutions rather than two."""
        return self._blocks[0]

    @property
    def num_blocks(self) -> tuple[int, ...]:
        """Number of blocks in each stage."""
        return self._blocks[1]

    @property
    def _blocks(self) -> tuple[bool, tuple[int, ...]]:
        return next(blocks for blocks, depth in _DEPTHS.items() if depth == self.depth)


def infer_architecture(state: StateDict) -> ResNetArchitecture:
    """Infer the architecture from the names and shapes of the weights.

    Args:
        state: weights with detectron2's names, see :func:`torchvision_to_detectron2`.

    Raises:
        ValueError: if detectron2 cannot build the architecture, or a weight needed here is missing.
    """
    blocks = tuple(_num_blocks(state, stage) for stage in STAGES)
    is_bottleneck = "res2.0.conv3.weight" in state
    depth = _DEPTHS.get((is_bottleneck, blocks))
    if depth is None:
        known = ", ".join(f"{d} {list(n)}" for (_, n), d in _DEPTHS.items())
        raise ValueError(
            f"No ResNet of detectron2 has {list(blocks)} blocks of {2 + is_bottleneck} "
            f"convolutions in its stages; its depths and their blocks are: {known}"
        )
    last = f"res2.0.conv{2 + is_bottleneck}.weight"
    missing = [k for k in ("stem.conv1.weight", "res2.0.conv2.weight", last) if k not in state]
    if missing:
        raise ValueError(
            f"The weights lack {missing[0]} (detectron2's name), which every ResNet has: the file "
            "is incomplete, or of another network"
        )
    channels = state["stem.conv1.weight"].shape[1]
    if channels != 3:
        raise ValueError(
            f"The weights are for images with {channels} channels, but those of other libraries "
            "are for 3: use the file as MODEL.WEIGHTS without converting it"
        )
    if not is_bottleneck and state[last].shape[0] != 64:
        raise ValueError(
            f"detectron2 has no ResNet of depth {depth} with {state[last].shape[0]} channels after "
            "res2 (MODEL.RESNETS.RES2_OUT_CHANNELS), only with 64"
        )
    # detectron2's blocks of two convolutions ignore the width.
    groups, width = 1, 64
    if is_bottleneck:
        bottleneck, per_group = state["res2.0.conv2.weight"].shape[:2]
        groups = bottleneck // per_group
        width = bottleneck // groups
    linear = state.get("linear.weight")
    return ResNetArchitecture(
        depth=depth,
        num_groups=groups,
        width_per_group=width,
        stem_out_channels=state["stem.conv1.weight"].shape[0],
        res2_out_channels=state[last].shape[0],
        num_classes=None if linear is None else linear.shape[0],
    )


def _num_blocks(state: StateDict, stage: str) -> int:
    found = (re.match(rf"{stage}\.(\d+)\.", key) for key in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def build_detectron2(architecture: ResNetArchitecture, *, stride_in_1x1: bool) -> ResNet:
    """Build the ResNet with stock detectron2, in eval mode, with all stages as outputs.

    Args:
        architecture: architecture to build; the classifier is left out.
        stride_in_1x1: ``MODEL.RESNETS.STRIDE_IN_1X1``.
    """
    cfg = get_cfg()
    for key, value in architecture.config.items():
        cfg.merge_from_list([key, value])
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = stride_in_1x1
    cfg.MODEL.RESNETS.OUT_FEATURES = ["stem", *STAGES]
    network = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    assert isinstance(network, ResNet)
    return network.eval()


def build_torchvision(
    architecture: ResNetArchitecture, *, bn_eps: float = 1e-5, stride_in_1x1: bool = False
) -> torchvision.models.ResNet:
    """Build the network with torchvision, in eval mode. Its ``fc`` is an identity if unused.

    Args:
        architecture: architecture to build.
        bn_eps: epsilon of the BatchNorm layers.
        stride_in_1x1: whether bottlenecks have their stride in the first convolution, as in the
            original ResNet, where torchvision has it in the second.

    Raises:
        ValueError: if torchvision has no ResNet of these widths.
    """
    _check_widths(architecture, "torchvision")
    network = torchvision.models.ResNet(
        Bottleneck if architecture.is_bottleneck else BasicBlock,
        list(architecture.num_blocks),
        num_classes=architecture.num_classes or 1,
        groups=architecture.num_groups,
        width_per_group=architecture.width_per_group,
        norm_layer=partial(nn.BatchNorm2d, eps=bn_eps),
    )
    if architecture.num_classes is None:
        network.fc = nn.Identity()
    for module in network.modules():
        if stride_in_1x1 and isinstance(module, Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    return network.eval()


def build_timm(architecture: ResNetArchitecture) -> nn.Module:
    """Build the network with timm, in eval mode. Its ``fc`` is an identity if unused.

    Args:
        architecture: architecture to build.

    Raises:
        ValueError: if timm has no ResNet of these widths, or is not installed.
    """
    _check_widths(architecture, "timm")
    try:
        from timm.models import resnet
    except ImportError as error:
        raise ValueError("A network of timm needs the package timm: pip install timm") from error
    # timm annotates the argument as an instance, but expects a class.
    block: Any = resnet.Bottleneck if architecture.is_bottleneck else resnet.BasicBlock
    network = resnet.ResNet(
        block,
        architecture.num_blocks,
        num_classes=architecture.num_classes or 0,
        cardinality=architecture.num_groups,
        base_width=architecture.width_per_group,
    )
    return network.eval()


def _check_widths(architecture: ResNetArchitecture, library: str) -> None:
    expected = (64, 256 if architecture.is_bottleneck else 64)
    found = (architecture.stem_out_channels, architecture.res2_out_channels)
    if found != expected:
        raise ValueError(
            f"{library} has no ResNet with {found[0]} channels after the stem and {found[1]} "
            f"after res2, only {expected[0]} and {expected[1]}: weights of other widths cannot be "
            "converted from detectron2"
        )
