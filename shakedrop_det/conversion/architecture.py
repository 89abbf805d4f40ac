"""Finding the ResNet that weights belong to, in detectron2 and torchvision."""

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
# By whether the blocks are bottlenecks, of three convolutions, and how many each stage has.
_DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}


@dataclass(frozen=True)
class ResNetArchitecture:
    """What distinguishes ResNets, ResNeXts and wide ResNets, as under ``MODEL.RESNETS``."""

    depth: int
    num_groups: int
    width_per_group: int
    stem_out_channels: int
    res2_out_channels: int
    num_classes: int | None
    """Of the classifier; None where there is none."""

    @property
    def config(self) -> dict[str, int]:
        """The keys to set in a detectron2 config, with their values."""
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
        """Of each stage."""
        return self._blocks[1]

    @property
    def _blocks(self) -> tuple[bool, tuple[int, ...]]:
        return next(blocks for blocks, depth in _DEPTHS.items() if depth == self.depth)


def infer_architecture(state: StateDict) -> ResNetArchitecture:
    """Read the architecture off the names and shapes of the weights.

    Args:
        state: with detectron2's names, see :func:`torchvision_to_detectron2`.

    Raises:
        ValueError: if it is none that detectron2 builds, or a weight is missing that tells.
    """
    blocks = tuple(_num_blocks(state, stage) for stage in STAGES)
    is_bottleneck = "res2.0.conv3.weight" in state
    depth = _DEPTHS.get((is_bottleneck, blocks))
    if depth is None:
        known = ", ".join(f"{d} {list(n)}" for (_, n), d in _DEPTHS.items())
        raise ValueError(
            f"No ResNet of detectron2 has {list(blocks)} blocks of {2 + is_bottleneck} "
            f"convolutions in its stages; depths and blocks that it has: {known}"
        )
    last = f"res2.0.conv{2 + is_bottleneck}.weight"
    missing = [k for k in ("stem.conv1.weight", "res2.0.conv2.weight", last) if k not in state]
    if missing:
        raise ValueError(
            f"The weights lack {missing[0]}, in detectron2's names, which each ResNet has: the "
            "file is not whole, or of another network"
        )
    channels = state["stem.conv1.weight"].shape[1]
    if channels != 3:
        raise ValueError(
            f"The weights are of a network for images of {channels} channels, and those of other "
            "libraries are for 3: use them as MODEL.WEIGHTS as they are"
        )
    if not is_bottleneck and state[last].shape[0] != 64:
        raise ValueError(
            f"detectron2 has no ResNet of depth {depth} with {state[last].shape[0]} channels after "
            "res2 (MODEL.RESNETS.RES2_OUT_CHANNELS), only with 64"
        )
    # detectron2 gives no width to blocks of two convolutions.
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
    """The ResNet as stock detectron2 builds it from a config, in test mode, all stages put out.

    Args:
        architecture: of the network; it gets no classifier.
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
    architecture: ResNetArchitecture, *, bn_eps: float = 1e-5
) -> torchvision.models.ResNet:
    """The same network of torchvision, in test mode; without a classifier its ``fc`` is empty.

    Args:
        architecture: of the network.
        bn_eps: what its norms add to the variance.

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
    return network.eval()


def build_timm(architecture: ResNetArchitecture) -> nn.Module:
    """The same network of timm, in test mode; without a classifier its ``fc`` is empty.

    Args:
        architecture: of the network.

    Raises:
        ValueError: if timm has no ResNet of these widths, or is not installed.
    """
    _check_widths(architecture, "timm")
    try:
        from timm.models import resnet
    except ImportError as error:
        raise ValueError("A network of timm needs the package timm: pip install timm") from error
    # Annotated in timm as an instance of either, where it wants the class.
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
            f"after res2, only {expected[0]} and {expected[1]}: weights of other widths stay in "
            "detectron2"
        )
