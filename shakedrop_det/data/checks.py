"""Find mistakes in data sets before training starts, and say what to change."""

from __future__ import annotations

import json
import os
from difflib import get_close_matches
from typing import Any, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager


def check_dataset(
    name: str,
    *,
    num_classes: int | None,
    key: str = "MODEL.ROI_HEADS.NUM_CLASSES",
    annotated: bool = True,
) -> None:
    """Raise an error that explains itself if a data set cannot be used.

    Generated data sets are generated. A COCO annotation file is read once more than training
    needs: seconds, for COCO itself.

    Args:
        name: of a data set in detectron2's catalog.
        num_classes: what the model is built for; None leaves it unchecked.
        key: the config key of ``num_classes``, for the message.
        annotated: False for images to evaluate or predict on. They may be without annotations, as
            COCO's test-dev; such as they have must do for COCO's metrics, which ask for more than
            training does.

    Raises:
        ValueError: if the name is unknown, the annotation file is no COCO file or has no
            annotations, one lacks what its use needs, or the data set has more classes than the
            model.
        FileNotFoundError: if the annotation file or the images are missing.
    """
    if name not in DatasetCatalog.list():
        near = get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "register it first"
        raise ValueError(f"no data set is called {name!r}: {hint}")
    metadata = MetadataCatalog.get(name)
    if "prepare" in metadata.as_dict():
        metadata.prepare()
    classes: Sequence[Any] | None = metadata.get("classes") or metadata.get("thing_classes")
    if metadata.get("json_file") and metadata.get("evaluator_type") in ("coco", "lvis"):
        content = _check_coco(metadata.json_file, name=name, annotated=annotated)
        classes = content["categories"]
        if not annotated and metadata.evaluator_type == "coco":
            _check_evaluated(content.get("annotations") or (), metadata.json_file, name=name)
        if metadata.get("image_root") and not PathManager.isdir(metadata.image_root):
            raise FileNotFoundError(_missing("image folder", metadata.image_root, name))
    if num_classes is not None and classes is not None and num_classes < len(classes):
        raise ValueError(
            f"{key} is {num_classes}, but data set {name!r} has {len(classes)} classes: "
            f"set {key} to {len(classes)}"
        )


def _check_coco(json_file: str, *, name: str, annotated: bool) -> dict[str, Any]:
    if not PathManager.isfile(json_file):
        raise FileNotFoundError(_missing("annotation file", json_file, name))
    with PathManager.open(json_file) as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise ValueError(
                f"annotation file {json_file} of data set {name!r} is not JSON ({error}): "
                "download or export it again"
            ) from error
    for part in ("images", "categories", "annotations"):
        if part == "annotations" and not annotated:
            continue
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise ValueError(
                f"annotation file {json_file} of data set {name!r} is no COCO file: it has no "
                f"list {part!r} at its top level"
            )
        if not content[part]:
            raise ValueError(
                f"annotation file {json_file} of data set {name!r} has no {part}: its list "
                f"{part!r} is empty"
            )
    return content


def _check_evaluated(annotations: Sequence[Any], json_file: str, *, name: str) -> None:
    for annotation in annotations:
        missing = [key for key in ("area", "iscrowd") if key not in annotation]
        if missing:
            raise ValueError(
                f"annotation {annotation.get('id')} in {json_file} of data set {name!r} has no "
                f"{' and no '.join(map(repr, missing))}, which COCO's metrics need: add 'area', in "
                "pixels, and 'iscrowd', 0 for a single object, to all annotations"
            )


def _missing(what: str, path: str, name: str) -> str:
    root = os.environ.get("DETECTRON2_DATASETS")
    now = "is not set" if root is None else f"is {root!r}"
    return (
        f"{what} {path} of data set {name!r} does not exist: put it there, or set the environment "
        f"variable DETECTRON2_DATASETS, which {now}, to the folder that holds the data sets"
    )
