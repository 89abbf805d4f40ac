"""Mapper from records of classification datasets to inputs of ``ImageClassifier``."""

from __future__ import annotations

from typing import Any, Sequence

from detectron2.config import CfgNode, configurable
from detectron2.data.detection_utils import read_image
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from shakedrop_det.utils.reading import naming_file, refuse_deep

from .augmentation import AUTO_AUGMENTS, Cutout, erase_at_random

_CROPS = ("resized", "padded", "none")
_FLIPS = {"horizontal": v2.RandomHorizontalFlip, "vertical": v2.RandomVerticalFlip, "none": None}
_FORMATS = {"RGB": 3, "BGR": 3, "L": 1}
"""Values of ``INPUT.FORMAT`` and the number of channels of their images."""


class ClassificationMapper:
    """Read an image and transform it to a square of fixed size, randomly in training.

    The transforms are torchvision's, on Pillow images and with default settings, so that a network
    from torchvision gets the same pixels as in its own training and evaluation.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        image_format: str = "BGR",
        train_size: int = 224,
        test_resize: int = 256,
        test_size: int = 224,
        crop: str = "resized",
        crop_scale: Sequence[float] = (0.08, 1.0),
        crop_padding: int = 4,
        random_flip: str = "horizontal",
        auto_augment: str = "",
        random_erasing: float = 0.0,
        cutout: int = 0,
        pixel_mean: Sequence[float] = (103.53, 116.28, 123.675),
    ) -> None:
        """
        Args:
            is_train: Whether to crop, flip, augment and erase randomly.
            image_format: Channels of the output: "RGB", "BGR", or "L" for greyscale.
            train_size: Side of a training image, in pixels.
            test_resize: Size of the short side of a test image before the crop, in pixels.
            test_size: Side of the center crop of a test image, in pixels.
            crop: "resized", "padded" or "none"; the latter two first resize the short side to
                ``train_size``.
            crop_scale: Minimum and maximum fraction of the area for a "resized" crop.
            crop_padding: Padding on each side for a "padded" crop, in pixels.
            random_flip: "horizontal", "vertical" or "none".
            auto_augment: Key of :data:`~shakedrop_det.data.augmentation.AUTO_AUGMENTS`.
            random_erasing: Probability of erasing a random rectangle.
            cutout: Side of a square to erase, in pixels; 0 for none.
            pixel_mean: Value of erased pixels per channel, in the order of ``image_format``, from 0
                to 255.

        Raises:
            ValueError: If a value is invalid. The message names the config key.
        """
        sizes = {"TRAIN_SIZE": train_size, "TEST_RESIZE": test_resize, "TEST_SIZE": test_size}
        for key, size in sizes.items():
            _check(f"CLASSIFICATION.{key}", size, size >= 1, "at least 1")
        fits = test_size <= test_resize
        _check("CLASSIFICATION.TEST_SIZE", test_size, fits, f"at most TEST_RESIZE, {test_resize}")
        _check("CLASSIFICATION.CROP", crop, crop in _CROPS, f"one of {', '.join(_CROPS)}")
        is_range = len(crop_scale) == 2 and 0 < crop_scale[0] <= crop_scale[1] <= 1
        allowed = "[low, high] with 0 < low <= high <= 1"
        _check("CLASSIFICATION.CROP_SCALE", crop_scale, is_range, allowed)
        _check("CLASSIFICATION.CROP_PADDING", crop_padding, crop_padding >= 0, "at least 0")
        _check("RANDOM_FLIP", random_flip, random_flip in _FLIPS, f"one of {', '.join(_FLIPS)}")
        _check("FORMAT", image_format, image_format in _FORMATS, f"one of {', '.join(_FORMATS)}")
        channels = _FORMATS[image_format]
        if len(pixel_mean) != channels:
            raise ValueError(
                f"INPUT.FORMAT {image_format!r} gives images of {channels} channels, but "
                f"MODEL.PIXEL_MEAN has {len(pixel_mean)} values: set it and MODEL.PIXEL_STD to "
                f"{channels} values, or INPUT.FORMAT to one of {', '.join(_FORMATS)}"
            )
        policies = ", ".join(repr(policy) for policy in AUTO_AUGMENTS)
        is_policy = auto_augment in AUTO_AUGMENTS
        _check("CLASSIFICATION.AUTO_AUGMENT", auto_augment, is_policy, f"one of {policies}")
        is_probability = 0 <= random_erasing <= 1
        _check("CLASSIFICATION.RANDOM_ERASING", random_erasing, is_probability, "in [0, 1]")

        _check("CLASSIFICATION.CUTOUT", cutout, cutout >= 0, "at least 0 (0 disables it)")

        self.is_train = is_train
        self.image_format = image_format
        if not is_train:
            steps = [v2.Resize(test_resize), v2.CenterCrop(test_size)]
        elif crop == "resized":
            steps = [v2.RandomResizedCrop(train_size, scale=tuple(crop_scale))]
        elif crop == "padded":
            steps = [v2.Resize(train_size), v2.RandomCrop(train_size, padding=crop_padding)]
        else:
            steps = [v2.Resize(train_size), v2.CenterCrop(train_size)]
        if is_train and _FLIPS[random_flip] is not None:
            steps.append(_FLIPS[random_flip]())
        augment = AUTO_AUGMENTS[auto_augment]
        if is_train and augment is not None:
            steps.append(augment())
        self.transform = v2.Compose([*steps, v2.PILToTensor()])
        erasures: list[nn.Module] = []
        if is_train and random_erasing > 0:
            erasures.append(erase_at_random(random_erasing, fill=pixel_mean))
        if is_train and cutout > 0:
            erasures.append(Cutout(cutout, fill=pixel_mean))
        self.erase = nn.Sequential(*erasures)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        if "CLASSIFICATION" not in cfg.INPUT:
            raise ValueError(
                "INPUT.CLASSIFICATION is missing: call shakedrop_det.add_training_config(cfg) "
                "right after detectron2.config.get_cfg()"
            )
        return {
            "is_train": is_train,
            "image_format": cfg.INPUT.FORMAT,
            "random_flip": cfg.INPUT.RANDOM_FLIP,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            **{
                key.lower(): value
                for key, value in cfg.INPUT.CLASSIFICATION.items()
                if not isinstance(value, CfgNode)  # Read by the trainer.
            },
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """
        Args:
            dataset_dict: Record with ``label``, an int, and either ``file_name`` or ``image``,
                (H, W, 3) uint8 RGB (or, for the format "L", (H, W, 1)). It is not changed.

        Returns:
            A copy in which ``image`` is a (C, size, size) uint8 tensor in the configured format,
            and ``height`` and ``width`` are those of the image before the transforms.

        Raises:
            UnreadableImageError: If the image cannot be read or has more than 8 bits. The message
                names the file.
            ValueError: If there is no label.
        """
        if "label" not in dataset_dict:
            raise ValueError(
                f"an image of the dataset has no 'label', only {', '.join(dataset_dict)}: set "
                "DATASETS.TRAIN and DATASETS.TEST to classification datasets"
            )
        pixels = dataset_dict.get("image")
        if pixels is None:
            refuse_deep(dataset_dict["file_name"])
            with naming_file(dataset_dict["file_name"]):
                pixels = read_image(dataset_dict["file_name"], format="RGB")
        height, width = pixels.shape[:2]
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        image = self.transform(picture.convert("L") if self.image_format == "L" else picture)
        if self.image_format == "BGR":
            image = image.flip(0)
        image = self.erase(image)
        return {**dataset_dict, "image": image, "height": height, "width": width}


def _check(key: str, value: Any, is_good: bool, allowed: str) -> None:
    if not is_good:
        raise ValueError(f"INPUT.{key} must be {allowed}, got {value!r}")
