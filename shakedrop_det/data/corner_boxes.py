"""Recognizing boxes of two corners in a COCO file, whose boxes are x, y, width, height."""

from __future__ import annotations

import logging
from typing import Any

_SHARE = 0.25
_MOST = 10_000
_TOLERANCE = 2.0
"""In pixels. Annotators draw a little beyond the image."""


def warn_of_corner_boxes(content: dict[str, Any], *, name: str) -> None:
    """Log a warning if more than a quarter of the boxes extend beyond their images, as about half
    do if they are x1, y1, x2, y2: such boxes pass all other checks, and nothing is learned.

    Args:
        content: Content of a COCO file without mistakes.
        name: Name of the dataset, for the message.
    """
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    found = content.get("annotations") or []
    sample = found[:: len(found) // _MOST + 1]  # Enough to tell a share, and quick for COCO itself.
    # The boxes of crowds, which training does not read, may be anything.
    annotations = [a for a in sample if not a.get("iscrowd")]
    beyond = 0
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        right, bottom = sizes[annotation["image_id"]]
        beyond += x + width > right + _TOLERANCE or y + height > bottom + _TOLERANCE
    if beyond > _SHARE * len(annotations):
        logging.getLogger(__name__).warning(
            "%d of the %d boxes looked at in dataset %r extend beyond their images. Are they "
            "x1, y1, x2, y2? COCO's are x, y, width, height: tools/visualize_data.py draws them",
            *(beyond, len(annotations), name),
        )
