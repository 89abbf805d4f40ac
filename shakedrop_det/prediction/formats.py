"""Converting images to the format of a model, such as "L" with one channel."""

from __future__ import annotations

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image

_OF_DETECTRON2 = {"BGR": 3, "YUV-BT.601": 3, "YUV-BT.709": 3}
"""Formats that are no modes of Pillow, and the number of their channels."""


def is_colour(image_format: str) -> bool:
    """Whether detectron2's ``DefaultPredictor`` takes images of that ``INPUT.FORMAT``, as BGR."""
    return image_format in ("RGB", "BGR")


def in_format(rgb: np.ndarray, image_format: str) -> np.ndarray:
    """An image as :class:`~shakedrop_det.prediction.Predictor` takes it.

    Args:
        rgb: (H, W, 3), uint8.
        image_format: of the model.

    Returns:
        np.ndarray: BGR for models of RGB or BGR, else (H, W, C) of that format.
    """
    if is_colour(image_format):
        return rgb[:, :, ::-1]
    return convert_PIL_to_numpy(Image.fromarray(rgb), image_format)


def check_channels(cfg: CfgNode) -> None:
    """Stop if images of ``INPUT.FORMAT`` do not have the channels of the model.

    Raises:
        ValueError: naming the keys.
    """
    image_format, channels = cfg.INPUT.FORMAT, len(cfg.MODEL.PIXEL_MEAN)
    try:
        number = _OF_DETECTRON2.get(image_format) or Image.getmodebands(image_format)
    except KeyError:
        raise ValueError(
            f"INPUT.FORMAT {image_format!r} is not an image format: set it to RGB, BGR, L or RGBA"
        ) from None
    if number != channels:
        raise ValueError(
            f"MODEL.PIXEL_MEAN has {channels} channels, and images of INPUT.FORMAT "
            f"{image_format!r} have {number}: image files do not hold what this model takes; call "
            "it with tensors of your own"
        )
