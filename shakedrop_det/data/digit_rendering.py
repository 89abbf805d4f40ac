"""Drawing handwritten digits, for digit scenes and single digits."""

from __future__ import annotations

from functools import lru_cache
from typing import Sequence

import numpy as np
from PIL import Image

DIGIT_CLASSES = [str(digit) for digit in range(10)]
# For all datasets, in pixels, and in degrees to either side.
MIN_HEIGHT = 28.0
MAX_ANGLE = 25.0

# Values above _INK, relative to the maximum of a sample, are ink. Strokes fade over _EDGE on either
# side of it, which is about a pixel at the sizes that are drawn.
_INK = 0.5
_EDGE = 0.08
# Squared distance of two RGB colours (0 to 255) that are easy to tell apart.
_CONTRAST = 90.0**2
# Luminance (ITU-R BT.601). Digits are brighter than any background: with contrasts of random sign,
# a network of this size would need far more steps than a demo can take.
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_MIN_DIGIT_LUMINANCE = 150.0
_MAX_BACKGROUND = 120.0


def digit_split(train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return one side of a fixed 80/20 split of scikit-learn's digits, stratified by class.

    Digit scenes and single digits share this split, so a classifier of single digits has not seen
    the digits of held-out scenes. The 1797 samples of ``load_digits``, written by 43 people, do not
    name their writers, so both sides contain digits of the same people.

    Args:
        train: Whether to return the larger side.

    Returns:
        ``(samples, labels)``: (N, 8, 8) float32 from 0 (paper) to 1 (ink), and (N,) int64.

    Raises:
        ImportError: If scikit-learn, which contains the digits, is not installed.
    """
    samples, labels, is_train = _digits()
    chosen = is_train if train else ~is_train
    return samples[chosen], labels[chosen]


@lru_cache(maxsize=1)
def all_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's samples, (1797, 8, 8) from 0 (paper) to 1 (ink), and labels, (1797,).

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digit datasets need the digits of scikit-learn, which is not installed: "
            "pip install scikit-learn"
        ) from error
    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target.astype(np.int64)


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    samples, labels = all_digits()
    from sklearn.model_selection import train_test_split

    train, _ = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
    )
    is_train = np.zeros(len(labels), dtype=bool)
    is_train[train] = True
    return samples, labels, is_train


def draw_glyph(sample: np.ndarray, *, height: float, angle: float) -> np.ndarray:
    """Enlarge and rotate a sample, with smooth edges.

    Args:
        sample: Sample from :func:`digit_split`, (8, 8) from 0 to 1.
        height: Height of the sample before rotation, in pixels.
        angle: Angle in degrees, counter-clockwise.

    Returns:
        Opacity, (h, w) float32 from 0 to 1, cropped to the digit. The digit's mask is where it is
        at least 0.5.
    """
    # A margin of paper: strokes that touch the border would otherwise be cut off straight.
    padded = Image.fromarray(np.pad(sample, 1))
    side = max(round(height * padded.height / sample.shape[0]), 1)
    image = padded.resize((side, side), Image.Resampling.BICUBIC)
    image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    opacity = ((np.asarray(image) - _INK) / (2 * _EDGE) + 0.5).clip(0, 1)
    rows, cols = np.nonzero(opacity >= 0.5)
    return opacity[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]


def draw_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a dark gradient with clouds and stripes, (size, size, 3) float32 RGB from 0 to 255."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    direction, stripe_direction = rng.uniform(0, 2 * np.pi, size=2)
    first = rng.uniform(0, _MAX_BACKGROUND, size=3)
    second = (first + rng.uniform(-60, 60, size=3)).clip(0, _MAX_BACKGROUND)
    ramp = (x - 0.5) * np.cos(direction) + (y - 0.5) * np.sin(direction) + 0.5
    image = first + (second - first) * ramp[..., None]
    for cells in (4, 16):
        clouds = Image.fromarray(rng.normal(0, 10, size=(cells, cells)).astype(np.float32))
        image += np.asarray(clouds.resize((size, size), Image.Resampling.BICUBIC))[..., None]
    waves = rng.uniform(3, 14) * size / 128
    phase = x * np.cos(stripe_direction) + y * np.sin(stripe_direction)
    stripes = np.sin(2 * np.pi * waves * phase + rng.uniform(0, 2 * np.pi))
    image += stripes[..., None] * rng.uniform(-14, 14, size=3)
    return image.astype(np.float32)


def pick_colour(rng: np.random.Generator, others: Sequence[np.ndarray]) -> np.ndarray:
    """Return a random bright colour that contrasts with others.

    Args:
        rng: Random generator.
        others: RGB colours from 0 to 255.

    Returns:
        RGB colour, (3,) from 0 to 255: the first of several random colours that contrasts with all
        others, or else the one that contrasts most.
    """
    candidates = rng.uniform(0, 255, size=(200, 3))
    candidates = candidates[candidates @ _LUMINANCE >= _MIN_DIGIT_LUMINANCE]
    distances = ((candidates[:, None] - np.asarray(others)[None]) ** 2).sum(axis=2).min(axis=1)
    good = np.flatnonzero(distances >= _CONTRAST)
    return candidates[good[0] if len(good) else distances.argmax()]


def paint(canvas: np.ndarray, opacity: np.ndarray, *, top: int, left: int, colour) -> None:
    """Paint a glyph on a canvas, (H, W, 3) float32, in place."""
    height, width = opacity.shape
    window = canvas[top : top + height, left : left + width]
    window += opacity[..., None] * (colour - window)


def to_pixels(canvas: np.ndarray) -> np.ndarray:
    """Round a canvas to uint8."""
    return np.rint(canvas.clip(0, 255)).astype(np.uint8)
