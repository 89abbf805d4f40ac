"""Begin and end of networks for images of 32 x 32 pixels."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, get_norm
from detectron2.modeling.backbone import ResNet
from torch import Tensor
from torch.nn import functional as F

from .convolution import conv_norm

STEMS = ("imagenet", "cifar")
"""The values of ``MODEL.RESNETS.STEM``."""


class CifarStem(CNNBlockBase):
    """A 3x3 convolution that keeps the resolution (He et al., CVPR 2016, section 4.2).

    Its state_dict keys are those of detectron2's ``BasicStem``.
    """

    def __init__(
        self, in_channels: int = 3, out_channels: int = 16, *, norm: str = "BN", relu: bool = True
    ) -> None:
        """
        Args:
            in_channels: of the image.
            out_channels: of the first residual block's input.
            norm: see detectron2's ``get_norm``.
            relu: whether a ReLU follows. Networks whose blocks begin with a norm or a ReLU have
                none here.
        """
        super().__init__(in_channels, out_channels, 1)
        self.relu = relu
        self.conv1 = conv_norm(in_channels, out_channels, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, in_channels, H, W).

        Returns:
            Tensor: (N, out_channels, H, W).
        """
        x = self.conv1(x)
        return F.relu_(x) if self.relu else x


class FinalActivation(CNNBlockBase):
    """What ends a network whose blocks have no ReLU after the addition: a norm, a ReLU.

    It is the last member of the last stage.
    """

    def __init__(self, channels: int, *, norm: str = "") -> None:
        """
        Args:
            channels: of the last residual block's output.
            norm: see detectron2's ``get_norm``; none by default.
        """
        super().__init__(channels, channels, 1)
        self.norm = get_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, channels, H, W).

        Returns:
            Tensor: of the same shape.
        """
        return F.relu(x if self.norm is None else self.norm(x))


def with_configured_stem(resnet: ResNet, cfg: CfgNode) -> ResNet:
    """A ResNet of detectron2 with the stem of ``MODEL.RESNETS.STEM``.

    Args:
        resnet: as of ``build_resnet_backbone``.
        cfg: the config that it was built from.

    Returns:
        ResNet: ``resnet``, or for "cifar" one of its stages and another stem, with strides a
        quarter of the usual.

    Raises:
        ValueError: for another name.
    """
    name = cfg.MODEL.RESNETS.get("STEM", "imagenet")
    if name not in STEMS:
        raise ValueError(f"MODEL.RESNETS.STEM must be one of {', '.join(STEMS)}, got {name!r}")
    if name == "imagenet":
        return resnet
    norm = cfg.MODEL.RESNETS.NORM
    stem = CifarStem(resnet.stem.in_channels, resnet.stem.out_channels, norm=norm)
    return ResNet(
        stem,
        [list(stage) for stage in resnet.stages],
        out_features=cfg.MODEL.RESNETS.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


def check_imagenet_stem(cfg: CfgNode) -> None:
    """Refuse the CIFAR stem for a builder whose network relies on the strides of the usual one, as
    a feature pyramid does, whose levels are named after them.

    Raises:
        ValueError: naming the key to set.
    """
    name = cfg.MODEL.RESNETS.get("STEM", "imagenet")
    if name != "imagenet":
        raise ValueError(
            f"MODEL.RESNETS.STEM {name!r} goes with MODEL.BACKBONE.NAME "
            f"'build_shakedrop_resnet_backbone' and not with {cfg.MODEL.BACKBONE.NAME!r}: "
            "that one needs the strides of the 'imagenet' stem"
        )
