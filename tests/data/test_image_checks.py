"""What is wrong with image files, as far as their headers tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from shakedrop_det.data import check_dataset
from tests.own_data import NAME


@pytest.mark.parametrize(
    "mode, message", [("I;16", "image 1 has mode 'I;16', whose values"), ("F", "has mode 'F'")]
)
def test_deep_images_are_named(
    written: Callable[..., None], tmp_path: Path, mode: str, message: str
) -> None:
    written()
    for path in (tmp_path / "own" / "images").iterdir():
        Image.new(mode, (80, 64)).save(path, format="TIFF" if mode == "F" else "PNG")
    with pytest.raises(ValueError, match=message):
        check_dataset(NAME, num_classes=None)


def test_a_deep_image_among_hundreds_is_found(written: Callable[..., None], tmp_path: Path) -> None:
    written(num_images=250)
    Image.new("I;16", (80, 64)).save(tmp_path / "own" / "images" / "177.png")
    with pytest.raises(ValueError, match="has 1 mistake.*\n.*image 178 has mode 'I;16'"):
        check_dataset(NAME, num_classes=None)


def test_a_turned_photograph_has_the_size_that_one_sees(
    written: Callable[..., None], tmp_path: Path
) -> None:
    written()
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (tmp_path / "own" / "images").iterdir():
        Image.new("RGB", (64, 80)).save(path, exif=exif)
    check_dataset(NAME, num_classes=None)
    for path in (tmp_path / "own" / "images").iterdir():
        Image.new("RGB", (80, 64)).save(path, exif=exif)
    with pytest.raises(ValueError, match="has 64 x 80 pixels \\(after EXIF rotation\\)"):
        check_dataset(NAME, num_classes=None)
