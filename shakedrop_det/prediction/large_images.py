"""Handle images that are too large for masks at full resolution."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy, read_image
from PIL import Image, ImageOps
from pycocotools import mask as mask_util

from shakedrop_det.utils.reading import refuse_deep

MAX_PIXELS = 2**23
"""Larger images are downscaled for prediction and drawing: a hundred masks of 100 megapixels would
take 10 GB of memory, and minutes to draw."""

_ORIENTATION = 0x0112  # EXIF tag
_TURNED = (5, 6, 7, 8)  # orientations that swap height and width


def read_bounded(
    path: str, *, image_format: str = "RGB", most: int = MAX_PIXELS
) -> tuple[np.ndarray, tuple[int, int]]:
    """Read an image, and downscale it if it is large.

    Args:
        path: path of the image file.
        image_format: format to convert to, see detectron2's ``read_image``.
        most: maximum number of pixels of the returned image.

    Returns:
        tuple: the image, (H, W, C) uint8, rotated by its EXIF orientation; and the height and width
        of the original image, after the same rotation.

    Raises:
        UnreadableImageError: if the image has more than 8 bits per channel.
    """
    refuse_deep(path)
    with Image.open(path) as image:
        pixels = image.width * image.height
        if pixels > most:
            width, height = image.size
            is_turned = image.getexif().get(_ORIENTATION) in _TURNED
            factor = (most / pixels) ** 0.5
            smaller = (max(int(factor * width), 1), max(int(factor * height), 1))
            image.draft(None, smaller)  # Let the JPEG decoder downscale.
            image.thumbnail(smaller)
            small = convert_PIL_to_numpy(ImageOps.exif_transpose(image), image_format)
            return small, (width, height) if is_turned else (height, width)
    found = read_image(path, format=image_format)
    return found, (found.shape[0], found.shape[1])


def scale_results(
    results: list[dict[str, Any]], *, size: tuple[int, int], to: tuple[int, int]
) -> None:
    """Scale results for a downscaled image to the size of the original, in place.

    Args:
        results: results in COCO format, with boxes, masks or keypoints.
        size: height and width of the downscaled image.
        to: height and width of the original image.
    """
    down, right = to[0] / size[0], to[1] / size[1]
    for result in results:
        if "bbox" in result:
            x, y, width, height = result["bbox"]
            result["bbox"] = [x * right, y * down, width * right, height * down]
        if "keypoints" in result:
            points = np.array(result["keypoints"]).reshape(-1, 3) * [right, down, 1]
            result["keypoints"] = points.ravel().tolist()
        if "segmentation" in result:  # One mask at a time, to save memory.
            # RLE is column-major, so resizing the transposed mask avoids two copies.
            mask = mask_util.decode(result["segmentation"]).T
            large = cv2.resize(mask, to, interpolation=cv2.INTER_NEAREST).T
            rle = mask_util.encode(large)
            result["segmentation"] = {**rle, "counts": rle["counts"].decode()}
