"""Checks of the image and mask formats that a mapper converts files to."""

from __future__ import annotations

from detectron2.config import CfgNode
from PIL import Image

_OF_DETECTRON2 = {"BGR": 3, "YUV-BT.601": 3, "YUV-BT.709": 3}
"""Formats that are not Pillow modes, and their number of channels."""


def check_channels(cfg: CfgNode) -> None:
    """Check that images in ``INPUT.FORMAT`` have as many channels as the model.

    Raises:
        ValueError: If they do not. The message names the keys.
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
            f"MODEL.PIXEL_MEAN has {channels} channels, but images of INPUT.FORMAT "
            f"{image_format!r} have {number}, so image files cannot be used with this model. "
            "Give PIXEL_MEAN and PIXEL_STD that many values, or give the model tensors of your own"
        )


def check_mapping(cfg: CfgNode, *, is_train: bool) -> None:
    """Check settings that would otherwise fail in detectron2's mapper with the first image.

    Args:
        cfg: Config with ``INPUT``.
        is_train: Whether images are mapped for training.

    Raises:
        ValueError: If one is invalid. The message names the key, its value and what is allowed.
    """
    check_channels(cfg)
    if cfg.INPUT.MASK_FORMAT not in ("polygon", "bitmask"):
        raise ValueError(
            f"INPUT.MASK_FORMAT must be polygon or bitmask, got {cfg.INPUT.MASK_FORMAT!r}"
        )
    sizes = cfg.INPUT.MIN_SIZE_TRAIN if is_train else [cfg.INPUT.MIN_SIZE_TEST or 1]
    sizes = [sizes] if isinstance(sizes, int) else sizes
    if not sizes or min(sizes) < 1:
        key = "MIN_SIZE_TRAIN" if is_train else "MIN_SIZE_TEST"
        raise ValueError(f"INPUT.{key} must be positive numbers of pixels, got {cfg.INPUT[key]!r}")
