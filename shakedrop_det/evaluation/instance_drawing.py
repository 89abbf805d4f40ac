"""Draw instances on images."""

from __future__ import annotations

import colorsys
from typing import Any, Sequence

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Boxes
from detectron2.utils.visualizer import GenericMask, Visualizer
from matplotlib.patches import Rectangle

from .label_placement import place_labels

_SMALL = 400  # pixels; labels are unreadable in smaller pictures
_GOLDEN = 0.618034
_GREY = (128, 128, 128)
_THIN = 1.2  # points
_FONT = (7.0, 14.0)  # points, minimum and maximum
_PAD = 2.0  # points around a label
_LUMINANCE = (0.299, 0.587, 0.114)


def distinct_colours(number: int) -> list[tuple[float, float, float]]:
    """Return distinct RGB colours, from 0 to 1. Each colour only depends on its position."""
    hues = [(0.58 + _GOLDEN * index) % 1 for index in range(number)]
    return [colorsys.hsv_to_rgb(hue, 0.75, (1.0, 0.8)[i % 2]) for i, hue in enumerate(hues)]


def readable_scale(height: int, width: int) -> float:
    """Return the enlargement of an image, an integer, at which labels are readable."""
    return float(max(1, round(_SMALL / max(height, width))))


def with_names(metadata: Metadata, *, things: Sequence[str] = (), num_stuff: int) -> Metadata:
    """Return a copy of the metadata with names for all classes, since detectron2's ``Visualizer``
    fails on a class without a name.

    Args:
        metadata: metadata of a dataset; it is not changed.
        things: names of the object classes; by default those of the metadata.
        num_stuff: number of semantic classes. Classes without a name are named by their numbers.
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
    classes: Sequence[int],
    labels: Sequence[str],
    boxes: Any,
    masks: Sequence[Any] | None = None,
    keypoints: Any = None,
    metadata: Metadata | None = None,
    scale: float | None = None,
) -> np.ndarray:
    """Draw instances on an image: translucent masks, thin boxes, and labels next to them.

    Args:
        image: (H, W, 3), uint8, RGB.
        classes: class numbers of the N instances. A class has the same colour in all images.
        labels: labels of the instances, such as "dog 97%"; "" for none.
        boxes: (N, 4), in pixels, left, top, right, bottom; or detectron2's ``Boxes``.
        masks: masks that detectron2's ``GenericMask`` accepts: (H, W) arrays of 0 and 1, lists of
            polygons, or COCO's RLE; or None.
        keypoints: (N, K, 3) x, y and visibility, or None.
        metadata: source of the names and connections of keypoints.
        scale: enlargement of the image; by default, small images are enlarged.

    Returns:
        np.ndarray: (scale * H, scale * W, 3), uint8, RGB.
    """
    height, width = image.shape[:2]
    corners = np.asarray(boxes.tensor if isinstance(boxes, Boxes) else boxes, dtype=float)
    corners = corners.reshape(-1, 4)
    visualizer = Visualizer(image, metadata, scale=scale or readable_scale(height, width))
    palette = distinct_colours(max(classes, default=0) + 1)
    colours = [palette[number] for number in classes]
    filled = [GenericMask(mask, height, width).mask for mask in (() if masks is None else masks)]
    # Draw small masks last, and do not convert to polygons, which would fill holes.
    for index in sorted(range(len(filled)), key=lambda i: -int(filled[i].sum())):
        visualizer.draw_binary_mask(
            filled[index].astype(np.uint8), color=colours[index], alpha=0.45, area_threshold=0
        )
    for (left, top, right, bottom), colour in zip(corners, colours, strict=True):
        frame = Rectangle(
            (left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=_THIN
        )
        visualizer.output.ax.add_patch(frame)
    for points in () if keypoints is None else visualizer._convert_keypoints(keypoints):
        visualizer.draw_and_connect_keypoints(points)
    _write_labels(visualizer, labels, corners, colours)
    return visualizer.get_output().get_image()


def _write_labels(
    visualizer: Visualizer,
    labels: Sequence[str],
    boxes: np.ndarray,
    colours: Sequence[tuple[float, float, float]],
) -> None:
    canvas = visualizer.output
    font = float(np.clip(visualizer._default_font_size * canvas.scale, *_FONT))
    pad = _PAD * canvas.dpi / 72 / canvas.scale  # In pixels of the image, like the boxes.
    texts, sizes = [], []
    for label, colour in zip(labels, colours, strict=True):
        box = {"facecolor": colour, "alpha": 0.85, "pad": _PAD, "edgecolor": "none"}
        ink = "white" if np.dot(colour, _LUMINANCE) < 0.5 else "black"
        text = canvas.ax.text(
            *(0, 0, label), size=font, color=ink, bbox=box, verticalalignment="top", zorder=10
        )
        text.set_visible(bool(label))
        texts.append(text)
        extent = text.get_window_extent(canvas.canvas.get_renderer())
        sizes.append(
            (extent.width / canvas.scale + 2 * pad, extent.height / canvas.scale + 2 * pad)
        )
    places = place_labels(
        boxes, np.array(sizes).reshape(-1, 2), width=canvas.width, height=canvas.height
    )
    for text, place in zip(texts, places, strict=True):
        text.set_position(place + pad)
