"""Create a COCO annotation file for a dataset that has none."""

from __future__ import annotations

import hashlib
import os
import pickle

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import convert_to_coco_json


def converted_to_coco(dataset_name: str, folder: str) -> str:
    """Write the records of a dataset in COCO format, unless the same records were written before.

    detectron2's ``COCOEvaluator`` does this, too, but reuses the file of an earlier version of the
    dataset. Its conversion modifies the keypoints of the given records, so it is passed a copy.

    Args:
        dataset_name: name of a registered detection dataset.
        folder: folder to write to.

    Returns:
        str: path of the file, whose name contains a digest of the records.
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
            convert_to_coco_json(copy, path, allow_cached=True)  # Another process may be first.
    finally:
        DatasetCatalog.remove(copy)
        MetadataCatalog.remove(copy)
    return path
