"""Write predictions in COCO format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detectron2.data import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances

from shakedrop_det.utils.atomic import write_atomically

from .large_images import scale_results

TOP = 5
"""Number of most likely classes that a classifier's results list per image."""


class CocoResults:
    """Collect predictions for ``results.json`` and ``image_info.json``.

    The former is in COCO's results format, the latter in that of a test set's images:
    ``COCO("image_info.json").loadRes("results.json")`` reads both. Images are numbered from 1 in
    the order they are added. A classifier's results only have ``category_id`` and ``score``.
    """

    def __init__(self, metadata: Metadata, names: list[str]) -> None:
        """
        Args:
            metadata: source of the COCO category ids; without ids, class number + 1 is used.
            names: class names.
        """
        ids = metadata.get("thing_dataset_id_to_contiguous_id")
        self._ids = {number: category for category, number in ids.items()} if ids else {}
        self._categories = [{"id": self._id(i), "name": name} for i, name in enumerate(names)]
        self._images: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []

    def _id(self, number: int) -> int:
        return self._ids.get(number, number + 1)

    def add(self, output: dict[str, Any], *, height: int, width: int, **image: Any) -> int:
        """Add the predictions for one image.

        Args:
            output: output of :class:`~shakedrop_det.prediction.Predictor`, on the CPU.
            height, width: size of the image, in pixels.
            image: further fields of the image: ``file_name``, and ``frame`` for a video.

        Returns:
            int: number of results.
        """
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "height": height, "width": width, **image})
        if "scores" in output:
            scores, classes = output["scores"].topk(min(TOP, len(output["scores"])))
            found = [
                {"image_id": image_id, "category_id": number, "score": score}
                for number, score in zip(classes.tolist(), scores.tolist(), strict=True)
            ]
        else:
            instances = output.get("instances", Instances((height, width)))
            has_any = bool(instances.get_fields())
            found = instances_to_coco_json(instances, image_id) if has_any else []
            if instances.image_size != (height, width):
                scale_results(found, size=instances.image_size, to=(height, width))
        for result in found:
            result["category_id"] = self._id(result["category_id"])
        self._results += found
        return len(found)

    def write(self, folder: Path) -> None:
        """Write the two files.

        Args:
            folder: an existing folder.
        """
        info = {"images": self._images, "categories": self._categories}
        for name, content in (("results.json", self._results), ("image_info.json", info)):
            with write_atomically(str(folder / name), "w") as file:  # The disk may be full.
                json.dump(content, file)
