"""tools/benchmark_input.py as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

TOOL = Path(__file__).parents[2] / "tools" / "benchmark_input.py"


@pytest.mark.parametrize(
    "name, message",
    [
        ("images", "has only 1 images: lower --batch-size 4 to at most this number"),
        ("nothing", "but there is no such folder"),
    ],
)
def test_images_that_cannot_be_timed(
    leave: Callable[..., tuple[int, str]], tmp_path: Path, name: str, message: str
) -> None:
    folder = tmp_path / "images" / "class"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "image.png")
    options = ["--batch-size", "4", "--rounds", "1", "--batches", "1", "--workers", "0"]
    code, text = leave(TOOL, str(tmp_path / name), *options)
    assert (code, message in text) == (2, True), text
