"""detectron2's mapper for detection, with errors that name the image."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError

from shakedrop_det.utils.reading import UnreadableImageError, naming_file, refuse_deep


class DetectionMapper(DatasetMapper):
    """:class:`detectron2.data.DatasetMapper`, which reports a truncated image without its name."""

    @configurable
    def __init__(self, is_train: bool, *, skip_bad: bool = False, **kwargs: Any) -> None:
        """
        Args:
            is_train, kwargs: see the base class.
            skip_bad: whether an image that cannot be read, or has another size than is said, is
                left out with a warning: detectron2's ``MapDataset`` takes another one in its place.
        """
        super().__init__(is_train, **kwargs)
        self._skip_bad = skip_bad

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """As in the base class; ``DATASETS.SKIP_BAD_ANNOTATIONS`` counts in training."""
        skip = bool(cfg.DATASETS.get("SKIP_BAD_ANNOTATIONS", False))
        return {**super().from_config(cfg, is_train), "skip_bad": is_train and skip}

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        """As in the base class; None for an image that is left out.

        Raises:
            OSError: if the image cannot be read, or has more than 8 bits, naming it.
            ValueError: if it has another size than the data set says.
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
