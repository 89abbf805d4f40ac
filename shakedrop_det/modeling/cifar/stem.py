"""Stem and final activation of networks for images of 32x32 pixels."""

from __future__ import annotations

from detectron2.layers import CNNBlockBase, get_norm
from torch import Tensor
from torch.nn import functional as F

from .convolution import conv_norm


class CifarStem(CNNBlockBase):
    """A 3x3 convolution that keeps the resolution (He et al., CVPR 2016, section 4.2).

    Its state_dict keys are those of detectron2's ``BasicStem``.
    """

    def __init__(
        self, in_channels: int = 3, out_channels: int = 16, *, norm: str = "BN", relu: bool = True
    ) -> None:
        """
        Args:
            in_channels: channels of the image.
            out_channels: channels of the output.
            norm: see detectron2's ``get_norm``.
            relu: whether a ReLU follows. It does not in networks whose blocks begin with a norm or
                a ReLU.
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
    """The norm and ReLU at the end of a network whose blocks have no ReLU after the addition.

    It is the last module of the last stage.
    """

    IS_RESIDUAL = False
    """Tells :func:`shakedrop_det.shake` that there is nothing to perturb."""

    def __init__(self, channels: int, *, norm: str = "") -> None:
        """
        Args:
            channels: channels of the last residual block.
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
