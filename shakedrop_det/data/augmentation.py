"""Augmentation of training images beyond crop and flip, by torchvision's names."""

from __future__ import annotations

from typing import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

_BILINEAR = InterpolationMode.BILINEAR

AUTO_AUGMENTS: dict[str, Callable[[], nn.Module] | None] = {
    "": None,
    "autoaugment": lambda: v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, interpolation=_BILINEAR),
    "autoaugment_cifar10": lambda: v2.AutoAugment(
        v2.AutoAugmentPolicy.CIFAR10, interpolation=_BILINEAR
    ),
    "randaugment": lambda: v2.RandAugment(interpolation=_BILINEAR),
    "trivialaugment": lambda: v2.TrivialAugmentWide(interpolation=_BILINEAR),
}
"""The values of ``INPUT.CLASSIFICATION.AUTO_AUGMENT``, with the settings of torchvision's reference
training: its defaults, but for the interpolation."""


def erase_at_random(probability: float, *, fill: Sequence[float]) -> nn.Module:
    """Erase a random rectangle ("Random Erasing Data Augmentation", Zhong et al.).

    Args:
        probability: that it happens, in [0, 1].
        fill: the erased pixels' value, per channel, from 0 to 255; with the mean of the data set it
            is that of torchvision's reference training, which erases normalized images to 0.

    Returns:
        nn.Module: a transform of (C, H, W) tensors.
    """
    return v2.RandomErasing(probability, value=[round(value) for value in fill])


class Cutout(nn.Module):
    """Erase a square around a random pixel, which the border of the image may cut off.

    Of "Improved Regularization of Convolutional Neural Networks with Cutout" (DeVries and Taylor,
    2017).
    """

    def __init__(self, size: int, *, fill: Sequence[float]) -> None:
        """
        Args:
            size: side of the square, in pixels.
            fill: the erased pixels' value, per channel, from 0 to 255.
        """
        super().__init__()
        self.size = size
        self.fill = fill

    def forward(self, image: Tensor) -> Tensor:
        """
        Args:
            image: (C, H, W).

        Returns:
            Tensor: a new one, of the same shape.
        """
        height, width = image.shape[-2:]
        y, x = int(torch.randint(height, ())), int(torch.randint(width, ()))
        top, left = y - self.size // 2, x - self.size // 2
        bottom, right = top + self.size, left + self.size
        top, left = max(top, 0), max(left, 0)
        fill = torch.tensor(self.fill).round().to(image.dtype).view(-1, 1, 1)
        # erase() ends at the border by itself.
        return v2.functional.erase(image, top, left, bottom - top, right - left, fill)

    def extra_repr(self) -> str:
        return f"size={self.size}"
