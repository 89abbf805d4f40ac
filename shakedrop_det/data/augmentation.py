"""Augmentation of training images beyond crop and flip, by torchvision's names."""

from __future__ import annotations

from typing import Callable, Sequence

from torch import nn
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
