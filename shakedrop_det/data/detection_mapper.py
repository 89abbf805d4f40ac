"""detectron2's mapper for detection, with errors that name the image."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError

from shakedrop_det.utils.reading import UnreadableImageError, naming_file, refuse_deep

from .image_formats import check_mapping


class DetectionMapper(DatasetMapper):
    """:class:`detectron2.data.DatasetMapper` with errors that name the image."""

    @configurable
    def __init__(self, is_train: bool, *, skip_bad: bool = False, **kwargs: Any) -> None:
        """
        Args:
            is_train, kwargs: See the base class.
            skip_bad: Whether to skip, with a warning, images that are unreadable or differ in size
                from their record. The loader then replaces them by others.
        """
        super().__init__(is_train, **kwargs)
        self._skip_bad = skip_bad

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Add ``DATASETS.SKIP_BAD_ANNOTATIONS``, for training, to the arguments of the base class.

        Raises:
            ValueError: See :func:`~shakedrop_det.data.image_formats.check_mapping`.
        """
        check_mapping(cfg, is_train=is_train)
        if not is_train:
            # Nothing is flipped, so the names of DATASETS.TRAIN's keypoints are not needed.
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.KEYPOINT_ON = False
        skip = bool(cfg.DATASETS.get("SKIP_BAD_ANNOTATIONS", False))
        return {**super().from_config(cfg, is_train), "skip_bad": is_train and skip}

    recompute_boxes: bool

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: Any, image_shape: tuple[int, int]
    ) -> None:
        # The base class computes boxes from masks after a crop, and an image without objects has
        # no masks.
        recompute_boxes = self.recompute_boxes
        self.recompute_boxes = recompute_boxes and any(
            not annotation.get("iscrowd") for annotation in dataset_dict["annotations"]
        )
        try:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
        finally:
            self.recompute_boxes = recompute_boxes

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Map a record as in the base class; return None for an image that is skipped.

        Raises:
            OSError: If the image cannot be read or has more than 8 bits. The message names it.
            ValueError: If the size of the image differs from its record.
        """
        try:
            refuse_deep(dataset_dict["file_name"])
            with naming_file(dataset_dict["file_name"]):
                return super().__call__(dataset_dict)
        except (UnreadableImageError, SizeMismatchError) as error:
            if self._skip_bad:
                logging.getLogger(__name__).warning("Skipped an image: %s", _line(error))
                return None
            if isinstance(error, SizeMismatchError):
                raise ValueError(_line(error)) from error
            raise


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
