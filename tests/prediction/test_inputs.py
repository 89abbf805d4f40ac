"""What files names stand for."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest

from shakedrop_det.prediction import find_inputs
from shakedrop_det.prediction.inputs import Video
from shakedrop_det.utils.reading import UnreadableImageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", "film.MP4", "below/c.jpg", "below/deep/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_folder_gives_its_own_images_and_videos(folder: Path) -> None:
    found = find_inputs([str(folder)])
    assert found.images == (folder / "a.png", folder / "b.JPG")
    assert found.videos == (folder / "film.MP4",)


def test_patterns_and_files_in_their_order_once(folder: Path) -> None:
    names = [str(folder / "notes.txt"), f"{folder}/**/*.jpg", str(folder / "below" / "c.jpg")]
    found = find_inputs(names)
    expected = ("notes.txt", "below/c.jpg", "below/deep/d.jpg")
    assert found.images == tuple(folder / name for name in expected)
    assert not found.videos


@pytest.mark.parametrize("name", ["missing.jpg", "*.gif", "empty"])
def test_a_name_that_stands_for_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/.*{name[-4:]}"):
        find_inputs([str(tmp_path / name)])


def test_frames_of_a_video(video: Path, scenes: list[Path]) -> None:
    film = Video(video)
    assert (len(film), film.size, film.frames_per_second) == (5, (128, 96), 5.0)
    frames = list(film)
    assert [frame.shape for frame in frames] == [(96, 128, 3)] * 5
    assert abs(frames[0].astype(int) - cv2.imread(str(scenes[0]))[:96]).mean() < 10


def test_no_video(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("no film")
    with pytest.raises(UnreadableImageError, match=f"cannot read video {path}"):
        Video(path)


def test_only_files_count(folder: Path) -> None:
    """Neither a pipe, which would be waited for, nor links in a circle, nor hidden files."""
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "._a.png").touch()
    found = find_inputs([str(folder)])
    assert found.images == (folder / "a.png", folder / "b.JPG")
    with pytest.raises(
        FileNotFoundError, match="pipe.jpg' is neither a file nor a folder, but a pipe"
    ):
        find_inputs([str(folder / "pipe.jpg")])


def test_patterns_do_not_go_round_in_circles(folder: Path) -> None:
    for name in ("one", "two", "three"):
        (folder / "below" / name).symlink_to(folder, target_is_directory=True)
    found = find_inputs([str(folder / "**" / "*.jpg")])
    assert found.images == (folder / "below" / "c.jpg", folder / "below" / "deep" / "d.jpg")
    assert find_inputs([str(folder / "below" / "**")]).images == found.images
    with pytest.raises(FileNotFoundError, match="no file matches it"):
        find_inputs([str(folder / "**.jpg")])
