"""Texts and pictures are there whole, or an error names them."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from shakedrop_det.utils.errors import message_for_user
from shakedrop_det.utils.written import save_figure, save_picture, write_text
from tests.tools.test_full_disk import files_up_to

PIXELS = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)


def figure() -> Figure:
    found = Figure(figsize=(3, 3))
    found.subplots().imshow(PIXELS)
    return found


WRITERS: dict[str, Callable[[Path], None]] = {
    "picture.png": lambda path: save_picture(Image.fromarray(PIXELS), path),
    "picture.JPG": lambda path: save_picture(Image.fromarray(PIXELS), path, quality=92),
    "figure.png": lambda path: save_figure(figure(), path),
    "figure.pdf": lambda path: save_figure(figure(), path),
    "text.md": lambda path: write_text(path, "a line\n" * 1000),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_told_with_the_name_of_the_file_and_leaves_nothing(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "folder" / name
    with pytest.raises(OSError) as error, files_up_to(1000):
        WRITERS[name](path)
    assert (message_for_user(error.value) or "").startswith(f"cannot write {str(path)!r}: File too")
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_can_be_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "folder" / name
    with files_up_to(resource.RLIM_INFINITY):
        WRITERS[name](path)
    assert os.listdir(path.parent) == [name]
    if path.suffix.lower() in (".png", ".jpg"):
        assert np.asarray(Image.open(path)).std() > 10
