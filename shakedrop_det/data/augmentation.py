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
"""Values of ``INPUT.CLASSIFICATION.AUTO_AUGMENT``, with the settings of torchvision's reference
training: its defaults, except for the interpolation."""


def erase_at_random(probability: float, *, fill: Sequence[float]) -> nn.Module:
    """Return a transform that erases a random rectangle ("Random Erasing", Zhong et al.).

    Args:
        probability: Probability of erasing, in [0, 1].
        fill: Value of the erased pixels per channel, from 0 to 255. The dataset's mean corresponds
            to torchvision's reference training, which erases normalized images to 0.

    Returns:
        A transform of (C, H, W) tensors.
    """
    return v2.RandomErasing(probability, value=[round(value) for value in fill])


class Cutout(nn.Module):
    """Erase a square around a random pixel, clipped at the border of the image.

    Source: "Improved Regularization of Convolutional Neural Networks with Cutout" (DeVries and
    Taylor, 2017).
    """

    def __init__(self, size: int, *, fill: Sequence[float]) -> None:
        """
        Args:
            size: Side of the square, in pixels.
            fill: Value of the erased pixels per channel, from 0 to 255.
        """
        super().__init__()
        self.size = size
        self.fill = fill

    def forward(self, image: Tensor) -> Tensor:
        """
        Args:
            image: Image tensor, (C, H, W).

        Returns:
            A new tensor of the same shape.
        """
        height, width = image.shape[-2:]
        y, x = int(torch.randint(height, ())), int(torch.randint(width, ()))
        top, left = y - self.size // 2, x - self.size // 2
        bottom, right = top + self.size, left + self.size
        top, left = max(top, 0), max(left, 0)
        fill = torch.tensor(self.fill).round().to(image.dtype).view(-1, 1, 1)
        # erase() clips at the right and bottom borders itself.
        return v2.functional.erase(image, top, left, bottom - top, right - left, fill)

    def extra_repr(self) -> str:
        return f"size={self.size}"
