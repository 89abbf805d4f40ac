"""Each operation against Pillow's, for which AutoAugment was written, or against its definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from shakedrop_det.augmentation import MAGNITUDES, OPERATIONS, apply_operation

NAMES = list(OPERATIONS)
FILL = (10.0, 20.0, 30.0)
Change = Callable[[Image.Image, float], Image.Image]
BY_PILLOW: dict[str, Change] = {
    "AutoContrast": lambda image, s: ImageOps.autocontrast(image),
    "Invert": lambda image, s: ImageOps.invert(image),
    "Equalize": lambda image, s: ImageOps.equalize(image),
    "Solarize": lambda image, s: ImageOps.solarize(image, 255 * (1 - s)),
    "Posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * s)),
    "Contrast": lambda image, s: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
    "Color": lambda image, s: ImageEnhance.Color(image).enhance(1 + 0.9 * s),
    "Brightness": lambda image, s: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
    "Sharpness": lambda image, s: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
}


def images() -> Tensor:
    """Three of smooth colours, (3, 3, 30, 20)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 4, 3, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (30, 20), mode="bilinear", align_corners=True)
    return (40 + 180 * fine).round().to(torch.uint8)


def changed(name: str, magnitude: int, sign: int = 1) -> Tensor:
    return apply_operation(images(), NAMES.index(name), magnitude, sign=sign, fill=FILL)


def test_they_are_fifteen_with_ten_magnitudes() -> None:
    assert len(NAMES) == 15 and MAGNITUDES == 10
    directions = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
    directions |= {"Contrast", "Color", "Brightness", "Sharpness"}
    assert {name for name, operation in OPERATIONS.items() if operation.is_signed} == directions


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("magnitude", [0, 4, 9])
@pytest.mark.parametrize("name", BY_PILLOW)
def test_colours_are_changed_as_by_pillow(name: str, magnitude: int, sign: int) -> None:
    strength = magnitude / 9 * (sign if OPERATIONS[name].is_signed else 1)
    for image, got in zip(images(), changed(name, magnitude, sign), strict=True):
        expected = BY_PILLOW[name](v2.functional.to_pil_image(image), strength)
        difference = got.int() - v2.functional.pil_to_tensor(expected).int()
        assert difference.abs().max() <= (1 if name != "Equalize" else 8), name


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_changed_as_its_images_are(name: str) -> None:
    torch.manual_seed(0)
    together = changed(name, 6)
    assert together.dtype == torch.uint8 and not torch.equal(together, images())
    if name != "Cutout":  # which is at random
        alone = [apply_operation(x[None], NAMES.index(name), 6, fill=FILL) for x in images()]
        assert torch.equal(together, torch.cat(alone))


UNCHANGED = [n for n in NAMES if n not in ("AutoContrast", "Invert", "Equalize", "Solarize")]


@pytest.mark.parametrize("name", UNCHANGED)
def test_the_weakest_changes_nothing(name: str) -> None:
    assert torch.equal(changed(name, 0), images())


@pytest.mark.parametrize("sign", [1, -1])
def test_translation_moves_pixels_by_a_part_of_the_size(sign: int) -> None:
    """Of 150 / 331 at most."""
    columns, rows = sign * round(150 / 331 * 20), sign * round(150 / 331 * 30)
    for name, axis, shift in (("TranslateX", 3, columns), ("TranslateY", 2, rows)):
        rolled = images().roll(shift, dims=axis)
        new = torch.arange(rolled.shape[axis])
        new = new < shift if sign > 0 else new >= len(new) + shift
        fill = torch.tensor(FILL).to(torch.uint8).view(1, 3, 1, 1).expand_as(rolled)
        expected = rolled.index_copy(
            axis, new.nonzero()[:, 0], fill.narrow(axis, 0, int(new.sum()))
        )
        assert torch.equal(changed(name, 9, sign), expected)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["ShearX", "ShearY", "Rotate"])
def test_points_move_as_the_matrix_of_the_operation_says(name: str, sign: int) -> None:
    """A bright disc in a dark image; shears leave the first row or column where it is."""
    rows, columns = torch.meshgrid(torch.arange(61.0), torch.arange(61.0), indexing="ij")
    pivot = 30.0 if name == "Rotate" else 0.0
    x, y = 44.0 - pivot, 20.0 - pivot  # from the pivot, to the right and down
    disc = 250 * (-((columns - 44) ** 2 + (rows - 20) ** 2) / 8).exp()
    image = disc.round().to(torch.uint8).expand(1, 3, 61, 61)
    got = apply_operation(image, NAMES.index(name), 9, sign=sign)[0, 0].double()
    center = np.array([(got * g).sum() / got.sum() - pivot for g in (columns, rows)])
    angle = -sign * np.deg2rad(30)  # to the left, where the y axis points down
    matrix = {
        "ShearX": [[1, 0.3 * sign], [0, 1]],
        "ShearY": [[1, 0], [0.3 * sign, 1]],
        "Rotate": [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]],
    }[name]
    moved = np.array(matrix) @ [x, y]
    opposite = np.linalg.inv(matrix) @ [x, y]
    assert np.abs(center - moved).max() < 0.3 or np.abs(center - opposite).max() < 0.3
    assert np.abs(center - [x, y]).max() > 2


def test_the_two_directions_are_opposite() -> None:
    for name in ("ShearX", "ShearY", "Rotate"):
        assert not torch.equal(changed(name, 9, 1), changed(name, 9, -1))
        # The mirror image of one is the other of the mirror image.
        axis = 2 if name == "ShearY" else 3
        mirrored = apply_operation(images().flip(axis), NAMES.index(name), 9, sign=-1, fill=FILL)
        difference = changed(name, 9, 1) - mirrored.flip(axis).int()
        assert difference.abs().max() <= 1


def test_cutout_erases_a_fifth_of_the_width_around_any_pixel() -> None:
    many = torch.full((4000, 3, 12, 10), 200, dtype=torch.uint8)
    torch.manual_seed(0)
    got = apply_operation(many, NAMES.index("Cutout"), 9, fill=FILL)
    erased = (got != 200).all(dim=1)
    assert (got.movedim(1, 3)[erased] == torch.tensor(FILL)).all()
    areas = erased.flatten(1).sum(1)
    assert areas.max() == 4 and areas.min() == 1  # at a corner
    assert len({one.numpy().tobytes() for one in erased}) == 12 * 10


@pytest.mark.parametrize("name", ["ShearX", "ShearY"])
def test_a_shear_is_that_of_torchvisions_autoaugment(name: str) -> None:
    policy = v2.AutoAugment(interpolation=v2.InterpolationMode.BILINEAR)
    expected = policy._apply_image_or_video_transform(
        images(), name, 0.3, policy.interpolation, {Tensor: list(FILL)}
    )
    assert torch.equal(changed(name, 9, 1), expected.int())
