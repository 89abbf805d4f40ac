"""Replacing images that a mapper skips by others."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.data.common import MapDataset
from torch.utils.data import Dataset

from shakedrop_det.utils.reading import UnreadableImageError

from .mapped_images import MappedImages


class Replacing(Dataset):
    """Images of a ``MapDataset`` in which those that the mapper skips, by returning None, are
    replaced by random ones. ``MapDataset`` chooses these by what the process has read before."""

    def __init__(self, images: MapDataset) -> None:
        """
        Args:
            images: the images of one of detectron2's training loaders.
        """
        self._records: Any = images._dataset
        self._map = images._map_func

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Any:
        """Return the image at ``index``, or a random one in its place.

        Raises:
            UnreadableImageError: if the mapper skips too many in a row.
        """
        for _ in range(MappedImages.MAX_IN_A_ROW):
            image = self._map(self._records[int(index)])
            if image is not None:
                return image
            index = int(torch.randint(len(self), ()))
        raise UnreadableImageError(
            f"{MappedImages.MAX_IN_A_ROW} images in a row were skipped: check that the dataset's "
            "disk is available, and the annotations"
        )
