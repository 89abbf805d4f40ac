"""Digit scenes: a small instance segmentation dataset that is generated in seconds.

Real handwritten digits (scikit-learn's ``load_digits``) of random size, angle and colour overlap on
textured backgrounds. COCO's format allows using detectron2's own loader and evaluator.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from iopath.common.file_io import file_lock
from PIL import Image
from pycocotools import mask as mask_util
from tqdm import tqdm

from shakedrop_det.utils.written import save_picture, write_text

from .digit_rendering import (
    DIGIT_CLASSES,
    MAX_ANGLE,
    MIN_HEIGHT,
    digit_split,
    draw_background,
    draw_glyph,
    paint,
    pick_colour,
    to_pixels,
)

# Increase this when the drawing changes the images: older datasets are then rebuilt.
_VERSION = 2
_MARKER = "digit_scenes.json"
_ENTRIES = {"train", "val", "annotations", _MARKER}

_SIZE = 128
_MAX_DIGITS = 6
_MAX_HEIGHT = 64.0
# A digit may hide part of an earlier one, but these must remain visible.
_MIN_VISIBLE = 0.5
_MIN_AREA = 40


def build_digit_scenes(
    root: str | os.PathLike[str], *, num_train: int = 2000, num_val: int = 200, seed: int = 0
) -> None:
    """Write the dataset to a folder, unless it is already there.

    The folder gets ``train/*.png``, ``val/*.png``, 128x128 RGB, and
    ``annotations/instances_{train,val}.json`` in COCO's format: categories "0" to "9" with ids 1 to
    10, two to six instances in nearly every image, masks as compressed RLE of the visible part.
    Scene i of a split depends only on the seed and i, and equal arguments give equal bytes (with
    equal versions of numpy and Pillow). The scenes are built next to the folder and moved there
    when complete; processes may build them at the same time.

    Args:
        root: Folder of the dataset.
        num_train: Number of training scenes, with digits of ``digit_split(train=True)``.
        num_val: Number of held-out scenes, with digits of ``digit_split(train=False)``.
        seed: Nonnegative integer.

    Raises:
        ValueError: If an argument is out of range.
        FileExistsError: If the folder contains anything but digit scenes.
    """
    for name, value, low in (
        ("num_train", num_train, 1),
        ("num_val", num_val, 1),
        ("seed", seed, 0),
    ):
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")
    wanted = {"version": _VERSION, "num_train": num_train, "num_val": num_val, "seed": seed}
    _build(Path(root), wanted)


def prepare_digit_scenes(root: str | os.PathLike[str]) -> None:
    """Build the dataset with default arguments, unless the folder has a complete one of any size.

    One of several processes builds it while the others wait, without a barrier, so it may be called
    by only some ranks of a distributed job.
    """
    root = Path(root)
    if _read_marker(root) is not None and _is_complete(root):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(root)):
        if _read_marker(root) is None or not _is_complete(root):
            build_digit_scenes(root)


def _build(root: Path, wanted: dict[str, int]) -> None:
    if _read_marker(root) == wanted and _is_complete(root):
        return
    _refuse_foreign(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as work:
        new = Path(work, "new")
        (new / "annotations").mkdir(parents=True)
        for index, split in enumerate(("train", "val")):
            _write_split(new, split, entropy=(wanted["seed"], index), num=wanted[f"num_{split}"])
        _write_json(new / _MARKER, wanted)
        _put_in_place(new, root, wanted, old=Path(work, "old"))


def _put_in_place(new: Path, root: Path, wanted: dict[str, int], *, old: Path) -> None:
    try:
        if root.is_dir() and any(root.iterdir()):
            _refuse_foreign(root)
            root.rename(old)
        new.rename(root)
    except OSError:
        # Another process may have been faster. Its scenes are the same.
        if not (_read_marker(root) == wanted and _is_complete(root)):
            raise


def _refuse_foreign(root: Path) -> None:
    """Raise an error unless the folder is missing, empty, or contains only digit scenes."""
    if not root.exists():
        return
    if not root.is_dir():
        raise FileExistsError(f"{root} is a file, but digit scenes need a folder: move it away")
    found = {entry.name for entry in root.iterdir()}
    if found and (_MARKER not in found or found - _ENTRIES):
        raise FileExistsError(
            f"{root} contains files other than digit scenes "
            f"({', '.join(sorted(found - _ENTRIES or found)[:3])}): move them away or choose "
            "another folder"
        )


def _read_marker(root: Path) -> dict[str, int] | None:
    """Return the arguments of the dataset in the folder; None if this version built none there."""
    try:
        marker = json.loads((root / _MARKER).read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return marker if isinstance(marker, dict) and marker.get("version") == _VERSION else None


def _is_complete(root: Path) -> bool:
    """Return whether all files of a dataset still exist."""
    marker = _read_marker(root) or {}
    return all(
        (root / "annotations" / f"instances_{split}.json").is_file()
        and sum(1 for _ in (root / split).glob("*.png")) == marker.get(f"num_{split}")
        for split in ("train", "val")
    )


def _write_split(root: Path, split: str, *, entropy: tuple[int, int], num: int) -> None:
    samples, labels = digit_split(train=split == "train")
    (root / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    scenes = tqdm(range(1, num + 1), desc=f"drawing {num} scenes ({split})", disable=None)
    for image_id in scenes:
        rng = np.random.default_rng((*entropy, image_id))
        pixels, instances = draw_scene(samples, labels, rng)
        file_name = f"{image_id:06d}.png"
        save_picture(Image.fromarray(pixels), root / split / file_name, compress_level=1)
        images.append({"id": image_id, "file_name": file_name, "height": _SIZE, "width": _SIZE})
        for label, mask in instances:
            annotation = _annotation(mask, label)
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    categories = [{"id": i, "name": name} for i, name in enumerate(DIGIT_CLASSES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    _write_json(root / "annotations" / f"instances_{split}.json", content)


def draw_scene(
    samples: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Draw one scene.

    Args:
        samples, labels: Digits from :func:`digit_split`.
        rng: Random generator.

    Returns:
        The image, (128, 128, 3) uint8 RGB, and for each digit its label and visible mask,
        (128, 128) bool. Masks do not overlap.
    """
    canvas = draw_background(_SIZE, rng)
    colours = [canvas.mean(axis=(0, 1))]
    masks: list[np.ndarray] = []
    areas: list[int] = []
    chosen: list[int] = []
    for index in rng.integers(len(samples), size=rng.integers(2, _MAX_DIGITS + 1)):
        # Log-uniform sizes: small digits are more common, as in photographs.
        height = MIN_HEIGHT * (_MAX_HEIGHT / MIN_HEIGHT) ** rng.uniform()
        opacity = draw_glyph(
            samples[index], height=height, angle=rng.uniform(-MAX_ANGLE, MAX_ANGLE)
        )
        colour = pick_colour(rng, colours)
        for _ in range(20):
            top, left = (int(rng.integers(_SIZE - side + 1)) for side in opacity.shape)
            mask = np.zeros((_SIZE, _SIZE), dtype=bool)
            mask[top : top + opacity.shape[0], left : left + opacity.shape[1]] = opacity >= 0.5
            rest = [earlier & ~mask for earlier in masks]
            if _enough_left(rest, areas):
                paint(canvas, opacity, top=top, left=left, colour=colour)
                masks = [*rest, mask]
                areas.append(int(mask.sum()))
                colours.append(colour)
                chosen.append(int(labels[index]))
                break
    return to_pixels(canvas), list(zip(chosen, masks, strict=True))


def _enough_left(masks: list[np.ndarray], areas: list[int]) -> bool:
    """Return whether enough of each digit is visible to recognize it."""
    return all(
        mask.sum() >= max(_MIN_VISIBLE * area, _MIN_AREA)
        for mask, area in zip(masks, areas, strict=True)
    )


def _annotation(mask: np.ndarray, label: int) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "category_id": label + 1,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
        # toBbox of an RLE is the tight box in COCO's (x, y, width, height).
        "bbox": mask_util.toBbox(rle).tolist(),
        "area": int(mask_util.area(rle)),
        "iscrowd": 0,
    }


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, sort_keys=True, separators=(",", ":")))
