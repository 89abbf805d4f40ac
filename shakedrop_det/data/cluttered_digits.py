"""Small handwritten digits among fragments of others: a task on which networks overfit."""

from __future__ import annotations

import numpy as np

from .digit_rendering import all_digits
from .image_datasets import ImageArrays

SIZE = 10
"""Side of an image, in pixels. The digit in it is 8 pixels wide."""

SPLITS = {"train": 1, "val": 5, "test": 4}
"""Number of images per digit of a split, each with another position and other fragments."""

_NUM_DIGITS = {"val": 400, "test": 600}
_FRAGMENTS = 3
_FRAGMENT_INK = 0.6
_FRAGMENT_SIZE = 4
_NOISE = 0.15


def load_cluttered_digits(split: str) -> ImageArrays:
    """Draw a split: 797 images of 797 digits for training, 2000 of 400 for validation, 2400 of 600
    for testing.

    The digits are scikit-learn's ``load_digits``, split randomly and stratified by class; this
    split differs from that of the digit scenes. A digit is at a random position of a 10x10 image,
    over three fragments, 4 pixels wide, of digits of its split, with Gaussian noise. The images are
    the same on each call.

    Args:
        split: "train", "val" or "test".

    Returns:
        Images, (10, 10, 3) uint8 grey, with labels from 0 to 9.

    Raises:
        ImportError: If scikit-learn, which contains the digits, is not installed.
    """
    samples, labels = _digits(split)
    rng = np.random.default_rng((1, list(SPLITS).index(split)))
    order = np.tile(np.arange(len(samples)), SPLITS[split])
    images = np.stack([_draw(samples, index, rng) for index in order])
    return ImageArrays(images, labels[order].tolist())


def _draw(samples: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    canvas = np.zeros((SIZE, SIZE), dtype=np.float32)
    for other in rng.integers(len(samples), size=_FRAGMENTS):
        row, column = rng.integers(samples.shape[1] - _FRAGMENT_SIZE + 1, size=2)
        fragment = samples[other, row : row + _FRAGMENT_SIZE, column : column + _FRAGMENT_SIZE]
        _lay_over(canvas, _FRAGMENT_INK * fragment, rng)
    _lay_over(canvas, samples[index], rng)
    canvas += rng.normal(0, _NOISE, size=canvas.shape)
    grey = np.rint(255 * canvas.clip(0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _lay_over(canvas: np.ndarray, patch: np.ndarray, rng: np.random.Generator) -> None:
    """Paste ink at a random position, in place. Overlapping ink keeps the darker value."""
    row, column = (int(rng.integers(SIZE - side + 1)) for side in patch.shape)
    window = canvas[row : row + patch.shape[0], column : column + patch.shape[1]]
    np.maximum(window, patch, out=window)


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return samples, (N, 8, 8) from 0 (paper) to 1 (ink), and labels of a split."""
    samples, labels = all_digits()  # Raises a clear error if scikit-learn is missing.
    from sklearn.model_selection import train_test_split

    parts = {}
    rest = np.arange(len(labels))
    for name, size in _NUM_DIGITS.items():
        rest, parts[name] = train_test_split(
            rest, test_size=size, stratify=labels[rest], random_state=0
        )
    chosen = np.sort(parts.get(split, rest))
    return samples[chosen], labels[chosen]
