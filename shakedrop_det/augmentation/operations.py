"""The operations of policies, on batches of images.

They are those of AutoAugment (Cubuk et al., CVPR 2019) except SamplePairing, with the ranges of
torchvision's ``v2.AutoAugment``, which works on single images.
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Sequence

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

MAGNITUDES = 10
"""Number of magnitudes of each operation."""

Fill = Sequence[float]
"""Value of new pixels, per channel."""


class Operation(NamedTuple):
    """An image operation with an adjustable strength."""

    apply: Callable[[Tensor, float, Fill], Tensor]
    """Function of images, (N, 3, H, W) uint8 RGB, the strength, and the value of new pixels."""
    is_signed: bool
    """Whether the strength is in [-1, 1], with a random sign, or in [0, 1]."""


def apply_operation(
    images: Tensor, operation: int, magnitude: int, *, sign: int = 1, fill: Fill = (0, 0, 0)
) -> Tensor:
    """Apply an operation to images.

    Args:
        images: (N, 3, H, W) uint8, RGB.
        operation: index in :data:`OPERATIONS`.
        magnitude: from 0, the weakest, to :data:`MAGNITUDES` - 1, the strongest.
        sign: 1 or -1; ignored by operations without a direction.
        fill: value of new pixels, per channel, from 0 to 255.

    Returns:
        Tensor: new images of the same shape and dtype.
    """
    _, (apply, is_signed) = list(OPERATIONS.items())[operation]
    strength = magnitude / (MAGNITUDES - 1)
    return apply(images, sign * strength if is_signed else strength, fill)


def _affine(
    images: Tensor,
    fill: Fill,
    *,
    shift: tuple[int, int] = (0, 0),
    shear: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    return F.affine(
        images,
        angle=0.0,
        translate=list(shift),
        scale=1.0,
        shear=[math.degrees(math.atan(part)) for part in shear],
        interpolation=InterpolationMode.BILINEAR,
        fill=list(fill),
        # A shear leaves the first row or column in place, as in torchvision's AutoAugment.
        center=[0, 0] if any(shear) else None,
    )


def _shift_of(strength: float, size: int) -> int:
    return round(strength * 150 / 331 * size)


def _rotate(images: Tensor, strength: float, fill: Fill) -> Tensor:
    return F.rotate(images, 30 * strength, InterpolationMode.BILINEAR, fill=list(fill))


def _posterize(images: Tensor, strength: float, fill: Fill) -> Tensor:
    return F.posterize(images, 8 - round(4 * strength))


def _cutout(images: Tensor, strength: float, fill: Fill) -> Tensor:
    """Fill a square of up to a fifth of the width, around a random pixel of each image."""
    number, _, height, width = images.shape
    size = round(0.2 * strength * width)
    inside = []
    for length in (height, width):
        first = torch.randint(length, (number, 1)) - size // 2
        places = torch.arange(length)
        inside.append((places >= first) & (places < first + size))
    mask = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(images.device)
    color = torch.tensor(fill, device=images.device).round().to(images.dtype).view(-1, 1, 1)
    return torch.where(mask, color, images)


OPERATIONS: dict[str, Operation] = {
    "ShearX": Operation(lambda x, s, fill: _affine(x, fill, shear=(0.3 * s, 0.0)), True),
    "ShearY": Operation(lambda x, s, fill: _affine(x, fill, shear=(0.0, 0.3 * s)), True),
    "TranslateX": Operation(
        lambda x, s, fill: _affine(x, fill, shift=(_shift_of(s, x.shape[-1]), 0)), True
    ),
    "TranslateY": Operation(
        lambda x, s, fill: _affine(x, fill, shift=(0, _shift_of(s, x.shape[-2]))), True
    ),
    "Rotate": Operation(_rotate, True),
    "AutoContrast": Operation(lambda x, s, fill: F.autocontrast(x), False),
    "Invert": Operation(lambda x, s, fill: F.invert(x), False),
    "Equalize": Operation(lambda x, s, fill: F.equalize(x), False),
    "Solarize": Operation(lambda x, s, fill: F.solarize(x, 255 * (1 - s)), False),
    "Posterize": Operation(_posterize, False),
    "Contrast": Operation(lambda x, s, fill: F.adjust_contrast(x, 1 + 0.9 * s), True),
    "Color": Operation(lambda x, s, fill: F.adjust_saturation(x, 1 + 0.9 * s), True),
    "Brightness": Operation(lambda x, s, fill: F.adjust_brightness(x, 1 + 0.9 * s), True),
    "Sharpness": Operation(lambda x, s, fill: F.adjust_sharpness(x, 1 + 0.9 * s), True),
    "Cutout": Operation(_cutout, False),
}
"""Operations by name, in the order of their numbers in policies."""
