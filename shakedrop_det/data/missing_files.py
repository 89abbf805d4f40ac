"""Whether the files of a registered dataset exist, with the remedy if they do not."""

from __future__ import annotations

import os
from collections.abc import Iterator

from detectron2.data import Metadata, MetadataCatalog
from detectron2.utils.file_io import PathManager

from .coco_files import is_coco_file

_FILES = {"json_file": "annotation file", "panoptic_json": "annotation file"}
_FOLDERS = {
    "image_root": "image folder",
    "image_dir": "image folder",
    "dirname": "folder",
    "gt_dir": "label folder",
    "sem_seg_root": "label folder",
    "panoptic_root": "label folder",
}
"""Fields that detectron2's registration functions set in the metadata, and what they name."""


def check_files(name: str) -> None:
    """Check that the files and folders in the metadata of a dataset exist. Images are not looked
    for.

    Raises:
        FileNotFoundError: If one is missing. The message says where it is expected.
    """
    metadata = MetadataCatalog.get(name)
    for what, path in _files(metadata):
        if not PathManager.isfile(path):
            raise FileNotFoundError(_missing(what, path, name))
    for field, what in _FOLDERS.items():
        path = metadata.get(field)
        if path and not PathManager.isdir(path):
            raise FileNotFoundError(_missing(what, path, name))


def _files(metadata: Metadata) -> Iterator[tuple[str, str]]:
    for field, what in _FILES.items():
        if metadata.get(field):
            yield what, metadata.get(field)
    if metadata.get("evaluator_type") == "pascal_voc" and metadata.get("split"):
        path = os.path.join(metadata.dirname, "ImageSets", "Main", f"{metadata.split}.txt")
        yield "list of images", path


def _missing(what: str, path: str, name: str) -> str:
    if is_coco_file(name):
        return f"{what} {path} of dataset {name!r} does not exist: correct DATASETS.COCO_FILES"
    root = os.environ.get("DETECTRON2_DATASETS")
    now = "is not set" if root is None else f"is {root!r}"
    return (
        f"{what} {path} of dataset {name!r} does not exist: put it there, or set the environment "
        f"variable DETECTRON2_DATASETS, which {now}, to the folder that contains the datasets"
    )
