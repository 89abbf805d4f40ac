"""Find positions for the labels of objects in an image."""

from __future__ import annotations

import numpy as np

_OUTSIDE, _LABEL, _NEIGHBOUR, _OWN = 100.0, 10.0, 3.0, 1.0
"""Cost per area outside the image, and over labels, other objects and the object itself."""


def place_labels(
    boxes: np.ndarray, sizes: np.ndarray, *, width: float, height: float
) -> np.ndarray:
    """Place each label next to its object, at the position that covers least of the others.

    Candidates are eight positions along the outside of the box, and its two upper corners inside.

    Args:
        boxes: (N, 4), left, top, right, bottom.
        sizes: (N, 2), width and height of each label.
        width, height: size of the image.

    Returns:
        np.ndarray: (N, 2), left and top of each label.
    """
    placed = np.zeros((0, 4))
    positions = np.zeros((len(boxes), 2))
    frame = np.array([0.0, 0.0, width, height])
    for index in _smallest_first(boxes):
        options = _options(boxes[index], sizes[index])
        others = np.delete(boxes, index, axis=0)
        area = sizes[index].prod()
        cost = (
            _OUTSIDE * (area - _overlaps(options, frame[None]).sum(axis=1))
            + _LABEL * _overlaps(options, placed).sum(axis=1)
            + _NEIGHBOUR * _overlaps(options, others).sum(axis=1)
            + _OWN * _overlaps(options, boxes[index : index + 1]).sum(axis=1)
        )
        chosen = options[int(np.argmin(cost.round(6)))]  # The first of equally good ones.
        positions[index] = chosen[:2]
        placed = np.vstack([placed, chosen])
    return positions


def _smallest_first(boxes: np.ndarray) -> np.ndarray:
    """Sort by area: small objects are easily covered, and have the fewest label positions."""
    return np.argsort((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable")


def _options(box: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return candidate label boxes around a box, (10, 4), the most usual one first."""
    left, top, right, bottom = box
    w, h = size
    corners = np.array(
        [
            (left, top - h),
            (right - w, top - h),
            (left, bottom),
            (right - w, bottom),
            (right, top),
            (left - w, top),
            (right, bottom - h),
            (left - w, bottom - h),
            (left, top),
            (right - w, top),
        ]
    )
    return np.hstack([corners, corners + size])


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the overlap areas of boxes (N, 4) with boxes (M, 4), as (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2)
