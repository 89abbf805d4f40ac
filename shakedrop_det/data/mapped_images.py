"""A dataset with its mapper, and the handling of unreadable images."""

from __future__ import annotations

import logging
from typing import Any, Callable, Sequence

import torch
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from shakedrop_det.utils.reading import UnreadableImageError

POLICIES = ("error", "skip")
"""Values of ``DATALOADER.UNREADABLE_IMAGES``."""


class MappedImages(Dataset):
    """Images of a dataset as read by a mapper.

    detectron2's ``MapDataset`` does this as well, but it stores each index in a set, of which each
    worker process eventually has a copy.
    """

    MAX_IN_A_ROW = 100
    """This many unreadable images in a row indicate a missing disk rather than damaged files."""

    def __init__(
        self,
        records: Sequence[dict[str, Any]] | Dataset,
        mapper: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        unreadable: str = "error",
        replace: bool = True,
    ) -> None:
        """
        Args:
            records: Records from detectron2's catalog. A list is serialized, so that worker
                processes share it.
            mapper: Function that reads the image of a record, and raises
                :class:`~shakedrop_det.utils.reading.UnreadableImageError`.
            unreadable: "error", or "skip" to skip unreadable images with a warning.
            replace: Whether to replace a skipped image by a random other one. Otherwise, the item
                is an empty dict, to be removed by :func:`without_skipped`.

        Raises:
            ValueError: If ``unreadable`` is not a valid value.
        """
        if unreadable not in POLICIES:
            raise ValueError(
                f"DATALOADER.UNREADABLE_IMAGES must be one of {', '.join(POLICIES)}, got "
                f"{unreadable!r}"
            )
        is_list = isinstance(records, list)
        self._records: Any = DatasetFromList(records, copy=False) if is_list else records
        self._mapper = mapper
        self._skip = unreadable == "skip"
        self._replace = replace
        # Shared with worker processes, so that there is one count for all.
        self._skipped = torch.zeros((), dtype=torch.int64).share_memory_()
        self._in_a_row = 0

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Map record ``index``, or handle it as described above if its image is unreadable.

        Raises:
            UnreadableImageError: If the image cannot be read and ``unreadable`` is "error", or if
                too many in a row cannot be read.
        """
        while True:
            try:
                image = self._mapper(self._records[int(index)])
            except UnreadableImageError as error:
                if not self._skip:
                    raise
                self._note(error)
            else:
                self._in_a_row = 0
                return image
            if not self._replace:
                return {}
            index = int(torch.randint(len(self), ()))

    def _note(self, error: UnreadableImageError) -> None:
        self._skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= self.MAX_IN_A_ROW:
            raise UnreadableImageError(
                f"{self._in_a_row} images in a row could not be read, despite "
                "DATALOADER.UNREADABLE_IMAGES 'skip': check that the dataset's disk is available. "
                f"The last error: {error}"
            ) from error
        logging.getLogger(__name__).warning(
            "Skipped an image (%d since the start): %s", self._skipped.item(), error
        )


def without_skipped(batch: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a batch without the empty dicts of :class:`MappedImages`."""
    return [image for image in batch if image]
