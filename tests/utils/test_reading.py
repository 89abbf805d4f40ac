"""Errors about images that name the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image, PngImagePlugin

from shakedrop_det.utils.reading import UnreadableImageError, naming_file


def damage(path: Path, kind: str) -> None:
    image = Image.new("RGB", (8, 8))
    if kind == "truncated":
        image.save(path, format="PNG")
        path.write_bytes(path.read_bytes()[:45])
    elif kind == "long text":
        text = PngImagePlugin.PngInfo()
        text.add_text("comment", "a" * 2_000_000, zip=True)
        image.save(path, format="PNG", pnginfo=text)
    elif kind == "ppm":
        path.write_bytes(b"P6 8 8 x5\n" + bytes(192))
    elif kind == "no image":
        path.write_text("no image")


@pytest.mark.parametrize("kind", ["truncated", "long text", "ppm", "no image", "missing"])
def test_the_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.png"
    damage(path, kind)
    message = f"cannot read image {path} "
    with pytest.raises(UnreadableImageError, match=message), naming_file(str(path)):
        read_image(str(path), format="RGB")


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ValueError, match="^no label$"), naming_file("image.png"):
        raise ValueError("no label")
