"""Augmentation beyond crop and flip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from shakedrop_det import add_training_config
from shakedrop_det.data import ClassificationMapper

BILINEAR = InterpolationMode.BILINEAR


def config(**settings: Any) -> CfgNode:
    """Images of 16 x 16 without crop and flip, and some keys of INPUT.CLASSIFICATION."""
    cfg = get_cfg()
    add_training_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.MODEL.PIXEL_MEAN = [10.2, 20.8, 30.0]
    sizes = {"TRAIN_SIZE": 16, "TEST_RESIZE": 16, "TEST_SIZE": 16, "CROP": "none"}
    for key, value in {**sizes, **settings}.items():
        cfg.INPUT.CLASSIFICATION[key] = value
    return cfg


def record() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"image": rng.integers(100, 256, (16, 16, 3), dtype=np.uint8), "label": 0}


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("autoaugment", v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, BILINEAR)),
        ("autoaugment_cifar10", v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, BILINEAR)),
        ("randaugment", v2.RandAugment(2, 9, interpolation=BILINEAR)),
        ("trivialaugment", v2.TrivialAugmentWide(interpolation=BILINEAR)),
    ],
)
def test_it_is_torchvisions_and_in_training_only(name: str, transform: Any) -> None:
    cfg = config(AUTO_AUGMENT=name)
    train, test = ClassificationMapper(cfg, True), ClassificationMapper(cfg, False)
    pixels = record()["image"]
    unlike = 0
    for seed in range(30):
        torch.manual_seed(seed)
        found = train(record())["image"]
        torch.manual_seed(seed)
        expected = v2.functional.pil_to_tensor(transform(Image.fromarray(pixels)))
        assert torch.equal(found, expected)
        unlike += not np.array_equal(found.permute(1, 2, 0), pixels)
        np.testing.assert_array_equal(test(record())["image"].permute(1, 2, 0), pixels)
    assert unlike > 15


def test_erased_pixels_have_the_mean_and_are_in_training_only() -> None:
    cfg = config(RANDOM_ERASING=0.3)
    train, test = ClassificationMapper(cfg, True), ClassificationMapper(cfg, False)
    torch.manual_seed(0)
    erased = 0
    for _ in range(200):
        image, original = train(record())["image"], test(record())["image"]
        changed = (image != original).any(dim=0)
        erased += bool(changed.any())
        assert (image[:, changed] == torch.tensor([[10], [21], [30]], dtype=torch.uint8)).all()
        assert (original > 31).all()
        if changed.any():
            rows, columns = changed.nonzero().unbind(1)
            box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert box == changed.sum(), "it is no rectangle"
    assert 35 < erased < 85  # four standard deviations about 60


@pytest.mark.parametrize("size", [1, 6, 7, 40])
def test_cutout_erases_a_square_around_any_pixel_in_training_only(size: int) -> None:
    cfg = config(CUTOUT=size)
    train, test = ClassificationMapper(cfg, True), ClassificationMapper(cfg, False)
    original = test(record())["image"]
    assert (original > 31).all()
    inside = torch.arange(16)
    expected = set()
    for y in range(16):
        for x in range(16):
            rows = (inside >= y - size // 2) & (inside < y - size // 2 + size)
            columns = (inside >= x - size // 2) & (inside < x - size // 2 + size)
            expected.add((rows[:, None] & columns[None]).numpy().tobytes())
    torch.manual_seed(0)
    found = set()
    for _ in range(3000):
        image = train(record())["image"]
        erased = (image != original).any(dim=0)
        assert (image[:, erased] == torch.tensor([[10], [21], [30]], dtype=torch.uint8)).all()
        found.add(erased.numpy().tobytes())
    assert found == expected


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("AUTO_AUGMENT", "augmix", "one of '', 'autoaugment', 'autoaugment_cifar10', 'randaug"),
        ("RANDOM_ERASING", 1.5, "in [0, 1]"),
        ("RANDOM_ERASING", -0.5, "in [0, 1]"),
        ("CUTOUT", -1, "at least 0 (0 disables it)"),
    ],
)
def test_bad_values_are_named(key: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError) as caught:
        ClassificationMapper(config(**{key: value}), True)
    assert str(caught.value).startswith(f"INPUT.CLASSIFICATION.{key} must be {allowed}")
    assert repr(value) in str(caught.value)
