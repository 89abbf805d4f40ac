"""Drawing objects into images."""

from __future__ import annotations

import colorsys
from typing import Any, Sequence

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.visualizer import GenericMask, Visualizer

_SMALL = 400  # pixels; labels could not be read in smaller pictures
_GOLDEN = 0.618034
_GREY = (128, 128, 128)


def distinct_colours(number: int) -> list[tuple[float, float, float]]:
    """So many RGB colours, from 0 to 1, each far from those before it, and the same every time."""
    hues = [(0.58 + _GOLDEN * index) % 1 for index in range(number)]
    return [colorsys.hsv_to_rgb(hue, 0.75, (1.0, 0.8)[i % 2]) for i, hue in enumerate(hues)]


def readable_scale(height: int, width: int) -> float:
    """How many times larger a small picture has to be drawn for its labels to be read."""
    return float(max(1, round(_SMALL / max(height, width))))


def with_names(metadata: Metadata, *, things: Sequence[str] = (), num_stuff: int) -> Metadata:
    """A copy that has names for all classes, for detectron2's ``Visualizer``, which stops at a
    class without.

    Args:
        metadata: left as it is.
        things: names of the classes of objects; its own by default.
        num_stuff: number of the classes of pixels. Those without a name get their number.
    """
    known = metadata.as_dict()
    names = list(known.get("stuff_classes") or ())
    known["stuff_classes"] = names + [str(i) for i in range(len(names), num_stuff)]
    known["thing_classes"] = list(things or known.get("thing_classes") or ())
    for kind in ("stuff", "thing"):
        if colours := list(known.get(f"{kind}_colors") or ()):
            missing = len(known[f"{kind}_classes"]) - len(colours)
            known[f"{kind}_colors"] = colours + missing * [_GREY]
    return Metadata(**known)


def draw_instances(
    image: np.ndarray,
    *,
    labels: Sequence[str],
    boxes: np.ndarray | None,
    masks: Sequence[Any] | None = None,
    keypoints: Any = None,
    metadata: Metadata | None = None,
) -> np.ndarray:
    """Draw objects into a picture with detectron2's ``Visualizer``, in distinct colours.

    Args:
        image: (H, W, 3), uint8, RGB.
        labels: of the N objects.
        boxes: (N, 4), in pixels, left, top, right, bottom; or None.
        masks: of each object what detectron2's ``GenericMask`` takes: (H, W) numbers 0 and 1, a
            list of polygons, or COCO's RLE; or None.
        keypoints: (N, K, 3) x, y and visibility, or None.
        metadata: for the names and connections of keypoints.

    Returns:
        np.ndarray: (H, W, 3), uint8, RGB, enlarged if it was small.
    """
    height, width = image.shape[:2]
    visualizer = Visualizer(image, metadata, scale=readable_scale(height, width))
    colours = distinct_colours(len(labels))
    filled = [GenericMask(mask, height, width).mask for mask in masks or ()]
    # Small ones last, and not as polygons, which would fill holes.
    for index in sorted(range(len(filled)), key=lambda i: -int(filled[i].sum())):
        visualizer.draw_binary_mask(
            filled[index].astype(np.uint8), color=colours[index], alpha=0.5, area_threshold=0
        )
    visualizer.overlay_instances(
        boxes=boxes, labels=list(labels), keypoints=keypoints, assigned_colors=colours
    )
    return visualizer.get_output().get_image()
