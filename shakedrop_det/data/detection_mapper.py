"""detectron2's mapper for detection, with errors that name the image."""

from __future__ import annotations

from typing import Any

from detectron2.data import DatasetMapper

from shakedrop_det.utils.reading import naming_file


class DetectionMapper(DatasetMapper):
    """:class:`detectron2.data.DatasetMapper`, which reports a truncated image without its name."""

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """As in the base class.

        Raises:
            OSError: if the image cannot be read, naming it.
        """
        with naming_file(dataset_dict["file_name"]):
            return super().__call__(dataset_dict)
