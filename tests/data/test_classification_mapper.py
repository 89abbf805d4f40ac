"""What the classification mapper makes of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from shakedrop_det import add_training_config
from shakedrop_det.data import ClassificationMapper
from shakedrop_det.utils.reading import UnreadableImageError


def config(**settings: Any) -> CfgNode:
    """A config with INPUT.CLASSIFICATION's keys, or INPUT's FORMAT and RANDOM_FLIP, set."""
    cfg = get_cfg()
    add_training_config(cfg)
    for key, value in settings.items():
        node = cfg.INPUT if key in ("FORMAT", "RANDOM_FLIP") else cfg.INPUT.CLASSIFICATION
        (cfg.MODEL if key == "PIXEL_MEAN" else node)[key] = value
    return cfg


def record(height: int, width: int, seed: int = 0) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"image": pixels, "image_id": 7, "label": 3}


@given(st.integers(20, 60), st.integers(20, 60), st.integers(8, 40), st.integers(0, 12))
def test_test_image_is_resized_and_cropped(height: int, width: int, size: int, more: int) -> None:
    cfg = config(FORMAT="RGB", TEST_RESIZE=size + more, TEST_SIZE=size)
    given_record = record(height, width)
    found = ClassificationMapper(cfg, False)(given_record)
    # Worked out with Pillow: the short side becomes TEST_RESIZE, the long one is rounded down.
    short = size + more
    new = (
        (int(short * width / height), short)
        if height <= width
        else (short, int(short * height / width))
    )
    image = Image.fromarray(given_record["image"]).resize(new, Image.Resampling.BILINEAR)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    expected = np.asarray(image.crop((left, top, left + size, top + size)))
    np.testing.assert_array_equal(found["image"].permute(1, 2, 0), expected)
    assert found["image"].dtype == torch.uint8
    assert (found["height"], found["width"], found["label"]) == (height, width, 3)


GREY = {"FORMAT": "L", "PIXEL_MEAN": [114.0], "TRAIN_SIZE": 24, "TEST_RESIZE": 24, "TEST_SIZE": 24}


@pytest.mark.parametrize("is_train", [False, True])
def test_grey_images_have_one_channel_with_pillows_values(tmp_path: Path, is_train: bool) -> None:
    pixels = record(24, 24)["image"]
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    Image.fromarray(expected).save(tmp_path / "grey.png")
    cfg = config(**GREY, CROP="none", RANDOM_FLIP="none")
    mapper = ClassificationMapper(cfg, is_train)
    for given_record in ({"image": pixels}, {"file_name": str(tmp_path / "grey.png")}):
        found = mapper({**given_record, "label": 3})["image"]
        np.testing.assert_array_equal(found, expected[None])


@pytest.mark.parametrize("policy", ["autoaugment", "randaugment", "trivialaugment"])
def test_grey_images_are_augmented_and_erased(policy: str) -> None:
    cfg = config(**GREY, AUTO_AUGMENT=policy, RANDOM_ERASING=1.0)
    mapper = ClassificationMapper(cfg, True)
    for seed in range(20):
        found = mapper(record(40, 50, seed))["image"]
        assert (found.shape, found.dtype) == ((1, 24, 24), torch.uint8)


@pytest.mark.parametrize("image_format, mean", [("L", [1.0, 2.0, 3.0]), ("RGB", [1.0])])
def test_a_format_of_other_channels_than_the_network_is_refused(image_format, mean) -> None:
    with pytest.raises(ValueError, match=f"INPUT.FORMAT '{image_format}' .*MODEL.PIXEL_MEAN has"):
        ClassificationMapper(config(FORMAT=image_format, PIXEL_MEAN=mean), True)


@pytest.mark.parametrize("image_format", ["RGBA", "six"])
def test_other_formats_are_refused_with_those_that_there_are(image_format: str) -> None:
    with pytest.raises(ValueError, match="INPUT.FORMAT must be one of RGB, BGR, L, got"):
        ClassificationMapper(config(FORMAT=image_format), True)


def test_an_image_of_more_than_8_bits_is_named_and_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.new("I;16", (40, 40)).save(path)
    with pytest.raises(UnreadableImageError, match=f"{path}: its mode is 'I;16'"):
        ClassificationMapper(config(), True)({"file_name": str(path), "label": 0})


def test_record_is_left_as_it_is() -> None:
    given_record = record(30, 40)
    before = given_record["image"].copy()
    ClassificationMapper(config(), True)(given_record)
    assert set(given_record) == {"image", "image_id", "label"}
    np.testing.assert_array_equal(given_record["image"], before)


@pytest.mark.parametrize("source", ["array", "file"])
def test_format_orders_the_channels(tmp_path: Path, source: str) -> None:
    given_record = record(32, 32)
    pixels = given_record["image"]
    if source == "file":
        Image.fromarray(pixels).save(tmp_path / "a.png")
        given_record = {"file_name": str(tmp_path / "a.png"), "label": 3}
    sizes = {"TEST_RESIZE": 32, "TEST_SIZE": 32}
    rgb = ClassificationMapper(config(FORMAT="RGB", **sizes), False)(given_record)["image"]
    bgr = ClassificationMapper(config(FORMAT="BGR", **sizes), False)(given_record)["image"]
    np.testing.assert_array_equal(rgb.permute(1, 2, 0), pixels)
    np.testing.assert_array_equal(bgr.permute(1, 2, 0), pixels[:, :, ::-1])


def test_resized_crop_is_torchvisions() -> None:
    cfg = config(FORMAT="RGB", TRAIN_SIZE=24, CROP_SCALE=[0.2, 0.7], RANDOM_FLIP="none")
    given_record = record(50, 40)
    torch.manual_seed(0)
    found = ClassificationMapper(cfg, True)(given_record)["image"]
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(24, scale=(0.2, 0.7))
    expected = v2.functional.pil_to_tensor(crop(Image.fromarray(given_record["image"])))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("padding", [0, 3])
def test_padded_crop_is_a_window_of_the_padded_image(padding: int) -> None:
    cfg = config(
        FORMAT="RGB", TRAIN_SIZE=12, CROP="padded", CROP_PADDING=padding, RANDOM_FLIP="none"
    )
    given_record = record(12, 12)
    padded = np.pad(given_record["image"], ((padding, padding), (padding, padding), (0, 0)))
    windows = {
        padded[y : y + 12, x : x + 12].tobytes(): (y, x)
        for y in range(2 * padding + 1)
        for x in range(2 * padding + 1)
    }
    mapper = ClassificationMapper(cfg, True)
    found = [mapper(given_record)["image"].permute(1, 2, 0).contiguous() for _ in range(300)]
    assert {windows[image.numpy().tobytes()] for image in found} == set(windows.values())


def test_none_crops_the_center() -> None:
    cfg = config(FORMAT="RGB", TRAIN_SIZE=12, CROP="none", RANDOM_FLIP="none")
    given_record = record(12, 20)
    found = ClassificationMapper(cfg, True)(given_record)["image"]
    np.testing.assert_array_equal(found.permute(1, 2, 0), given_record["image"][:, 4:16])


@pytest.mark.parametrize(("flip", "axis"), [("horizontal", 1), ("vertical", 0), ("none", None)])
def test_flips_half_of_the_images_in_training_only(flip: str, axis: int | None) -> None:
    sizes = {"TRAIN_SIZE": 12, "TEST_SIZE": 12, "TEST_RESIZE": 12}
    cfg = config(FORMAT="RGB", CROP="none", RANDOM_FLIP=flip, **sizes)
    pixels = record(12, 12)["image"]
    torch.manual_seed(0)
    for is_train in (True, False):
        mapper = ClassificationMapper(cfg, is_train)
        found = [mapper(record(12, 12))["image"].permute(1, 2, 0).numpy() for _ in range(100)]
        flipped = sum(not np.array_equal(image, pixels) for image in found)
        if is_train and axis is not None:
            assert 30 < flipped < 70
            flip_of = np.flip(pixels, axis)
            assert sum(np.array_equal(image, flip_of) for image in found) == flipped
        else:
            assert flipped == 0


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("CLASSIFICATION.TRAIN_SIZE", 0, "at least 1"),
        ("CLASSIFICATION.TEST_SIZE", -5, "at least 1"),
        ("CLASSIFICATION.TEST_RESIZE", 0, "at least 1"),
        ("CLASSIFICATION.TEST_SIZE", 300, "at most TEST_RESIZE, 256"),
        ("CLASSIFICATION.CROP", "center", "one of resized, padded, none"),
        ("CLASSIFICATION.CROP_SCALE", [0.5], "0 < low <= high <= 1"),
        ("CLASSIFICATION.CROP_SCALE", [0.9, 0.1], "0 < low <= high <= 1"),
        ("CLASSIFICATION.CROP_SCALE", [0.0, 1.0], "0 < low <= high <= 1"),
        ("CLASSIFICATION.CROP_SCALE", [0.5, 1.5], "0 < low <= high <= 1"),
        ("CLASSIFICATION.CROP_PADDING", -1, "at least 0"),
        ("RANDOM_FLIP", "both", "one of horizontal, vertical, none"),
        ("FORMAT", "P", "one of RGB, BGR, L"),
    ],
)
def test_bad_values_are_named(key: str, value: Any, allowed: str) -> None:
    cfg = config(**{key.rpartition(".")[2]: value})
    with pytest.raises(ValueError) as caught:
        ClassificationMapper(cfg, True)
    assert str(caught.value).startswith(f"INPUT.{key} must be ")
    assert allowed in str(caught.value) and repr(value) in str(caught.value)


def test_config_without_our_keys() -> None:
    with pytest.raises(ValueError, match="call shakedrop_det.add_training_config"):
        ClassificationMapper(get_cfg(), True)


def test_detection_data_is_refused() -> None:
    with pytest.raises(ValueError, match="no 'label', only file_name, annotations: set DATASETS"):
        ClassificationMapper(config(), True)({"file_name": "a.png", "annotations": []})


@pytest.mark.parametrize("damage", ["missing", "no image", "truncated"])
def test_unreadable_image_is_named(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "a.png"
    if damage == "no image":
        file.write_text("hello")
    elif damage == "truncated":
        Image.fromarray(record(64, 64)["image"]).save(file)
        file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(OSError, match=f"cannot read image {file}.*replace the file"):
        ClassificationMapper(config(), True)({"file_name": str(file), "label": 0})
