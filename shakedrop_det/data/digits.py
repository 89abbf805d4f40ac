"""Single digits, drawn as in digit scenes, for the classification stage."""

from __future__ import annotations

from typing import Any

import numpy as np

from .digit_rendering import (
    MAX_ANGLE,
    MIN_HEIGHT,
    digit_split,
    draw_background,
    draw_glyph,
    paint,
    pick_colour,
    to_pixels,
)

_SIZE = 64
# The largest height at which every rotated digit fits.
_MAX_HEIGHT = 56.0
_TRAIN_VARIANTS = 3


def load_single_digits(train: bool) -> list[dict[str, Any]]:
    """Draw one image per held-out digit, or three different ones per training digit.

    The images are the same on each call.

    Args:
        train: Side of :func:`digit_split` to draw.

    Returns:
        One dict per image: ``image``, (64, 64, 3) uint8 RGB; ``height``, ``width``; ``image_id``,
        from 0; ``label``, from 0 to 9.
    """
    samples, labels = digit_split(train)
    rng = np.random.default_rng((0, int(train)))
    order = np.tile(np.arange(len(samples)), _TRAIN_VARIANTS if train else 1)
    return [
        {
            "image": draw_single_digit(samples[index], rng),
            "height": _SIZE,
            "width": _SIZE,
            "image_id": image_id,
            "label": int(labels[index]),
        }
        for image_id, index in enumerate(order)
    ]


def draw_single_digit(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw an image of one digit.

    Args:
        sample: Sample from :func:`digit_split`, (8, 8) from 0 to 1.
        rng: Random generator.

    Returns:
        The image, (64, 64, 3) uint8 RGB.
    """
    canvas = draw_background(_SIZE, rng)
    height = MIN_HEIGHT * (_MAX_HEIGHT / MIN_HEIGHT) ** rng.uniform()
    opacity = draw_glyph(sample, height=height, angle=rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    top, left = (int(rng.integers(_SIZE - side + 1)) for side in opacity.shape)
    colour = pick_colour(rng, [canvas.mean(axis=(0, 1))])
    paint(canvas, opacity, top=top, left=left, colour=colour)
    return to_pixels(canvas)
