"""A dataset with its mapper, and the handling of images that cannot be read."""

from __future__ import annotations

import logging
from typing import Any, Callable, Sequence

import torch
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from shakedrop_det.utils.reading import UnreadableImageError

POLICIES = ("error", "skip")
"""The values of ``DATALOADER.UNREADABLE_IMAGES``."""


class MappedImages(Dataset):
    """The images of a data set as a mapper reads them.

    detectron2's ``MapDataset`` does this too, but holds each index in a set, of which each worker
    process comes to have a copy.
    """

    MAX_IN_A_ROW = 100
    """More unreadable images than that are no damaged files, but a disk that is not there."""

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
            records: what detectron2's catalog gives for a data set. A list is serialized, so that
                worker processes share it.
            mapper: what reads the image of a record, and raises
                :class:`~shakedrop_det.utils.reading.UnreadableImageError`.
            unreadable: "error", or "skip" to warn of such an image and go on.
            replace: whether another image, drawn at random, takes the place of a skipped one. If
                not that is an empty dict, to be left out by :func:`without_skipped`.

        Raises:
            ValueError: for another value of ``unreadable``.
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
        # Shared with worker processes, so that all of them count together.
        self._skipped = torch.zeros((), dtype=torch.int64).share_memory_()
        self._in_a_row = 0

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """What the mapper makes of record ``index``, see above.

        Raises:
            UnreadableImageError: if the image cannot be read and that is an error, or too many in
                a row could not.
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
                f"{self._in_a_row} images in a row could not be read, in spite of "
                "DATALOADER.UNREADABLE_IMAGES 'skip': check that the data set's disk is there. "
                f"The last: {error}"
            ) from error
        logging.getLogger(__name__).warning(
            "Skipped an image, number %d since the start: %s", self._skipped.item(), error
        )


def without_skipped(batch: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A batch without the empty dicts of :class:`MappedImages`."""
    return [image for image in batch if image]
