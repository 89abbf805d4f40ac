"""Find the images and videos that a user names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator

import cv2
import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from shakedrop_det.data.stray_files import is_stray
from shakedrop_det.utils.reading import UnreadableImageError

VIDEO_EXTENSIONS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""File name extensions that are read as videos."""


@dataclass(frozen=True)
class Inputs:
    """Files to run a model on, in order."""

    images: tuple[Path, ...]
    videos: tuple[Path, ...]


def find_inputs(names: Iterable[str]) -> Inputs:
    """List images and videos.

    Args:
        names: files, folders or patterns such as ``"photos/**/*.jpg"``. A folder stands for the
            images and videos directly in it. Files that are named twice are listed once.

    Raises:
        FileNotFoundError: if a file does not exist, or nothing is in a folder or matches a pattern.
    """
    found: dict[Path, None] = {}
    for name in names:
        found.update(dict.fromkeys(_files(name)))
    videos = tuple(path for path in found if _is_video(path))
    return Inputs(tuple(path for path in found if not _is_video(path)), videos)


def _files(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        there = [p for p in sorted(path.iterdir()) if not is_stray(p.name) and p.is_file()]
        files = [p for p in there if p.suffix.lower() in IMG_EXTENSIONS]
        files += [p for p in there if _is_video(p)]
        if not files:
            raise FileNotFoundError(f"folder {name!r} holds no images and no videos")
        return files
    if path.is_file():
        return [path]
    if path.exists():
        raise FileNotFoundError(f"{name!r} is neither a file nor a folder, but a pipe or a device")
    files = _matches(name)
    if not files:
        raise FileNotFoundError(f"{name!r} is neither a file nor a folder, and no file matches it")
    return files


def _matches(pattern: str) -> list[Path]:
    """Return the files that match a pattern. Unlike in ``glob``, "**" does not follow symbolic
    links, which can form cycles."""
    root = Path(Path(pattern).anchor)
    relative = str(Path(pattern).relative_to(root))
    if relative.endswith("**"):
        relative += "/*"
    try:
        found = sorted(root.glob(relative))
    except (ValueError, NotImplementedError):  # "**.jpg", for example, is not a valid pattern.
        return []
    hidden_too = any(part.startswith(".") for part in Path(relative).parts)
    return [
        path
        for path in found
        if path.is_file() and (hidden_too or not any(map(is_stray, path.relative_to(root).parts)))
    ]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_EXTENSIONS


class Video:
    """The frames of a video file."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: path of the video file.

        Raises:
            UnreadableImageError: if the file cannot be read as a video.
        """
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened() or self.size[0] < 1:
            raise UnreadableImageError(
                f"cannot read video {path}: it is not a video, or is damaged"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames, in pixels."""
        properties = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (int(self._capture.get(p)) for p in properties)
        return width, height

    @property
    def frames_per_second(self) -> float:
        """Frame rate that the file states, or 25 if it states none."""
        return self._capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __len__(self) -> int:
        """The number of frames that the file states, which may be wrong, or 0."""
        return max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield each frame, (H, W, 3) uint8 BGR."""
        while True:
            is_there, frame = self._capture.read()
            if not is_there:
                break
            yield frame
        self._capture.release()
