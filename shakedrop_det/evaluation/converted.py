"""A COCO file for a dataset without one, made from its records."""

from __future__ import annotations

import hashlib
import os
import pickle

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import convert_to_coco_json


def converted_to_coco(dataset_name: str, folder: str) -> str:
    """Write the records of a data set in COCO's format, unless the same ones are there already.

    detectron2's ``COCOEvaluator`` also does this, but takes the file of an earlier state of the
    data set for that of the present one. Its conversion changes the keypoints of the records that
    it is given, so it gets a copy.

    Args:
        dataset_name: of a detection data set in detectron2's catalog.
        folder: where to write.

    Returns:
        str: the path of the file, which has a digest of the records in its name.
    """
    records = DatasetCatalog.get(dataset_name)
    known = MetadataCatalog.get(dataset_name).as_dict()
    if not known.get("thing_classes"):
        numbers = {a["category_id"] for record in records for a in record.get("annotations", ())}
        known["thing_classes"] = [str(number) for number in range(max(numbers, default=0) + 1)]
    classes = (known["thing_classes"], known.get("thing_dataset_id_to_contiguous_id"))
    data = pickle.dumps((records, classes))
    digest = hashlib.sha256(data).hexdigest()[:16]
    path = os.path.join(folder, f"{dataset_name}_{digest}_coco_format.json")
    copy = f"{dataset_name}, converted"
    try:
        DatasetCatalog.register(copy, lambda: pickle.loads(data)[0])
        MetadataCatalog.get(copy).set(**{k: v for k, v in known.items() if k != "name"})
        if not os.path.isfile(path):
            convert_to_coco_json(copy, path, allow_cached=True)  # Another process may have done it.
    finally:
        DatasetCatalog.remove(copy)
        MetadataCatalog.remove(copy)
    return path
