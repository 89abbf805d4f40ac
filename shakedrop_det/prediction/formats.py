"""Converting images to the format of a model, such as "L" with one channel."""

from __future__ import annotations

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image


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
