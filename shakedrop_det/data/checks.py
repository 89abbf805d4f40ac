"""Checks of datasets before training starts."""

from __future__ import annotations

import logging
import os
from difflib import get_close_matches

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.utils.file_io import PathManager

from .annotation_checks import Needs
from .classes import class_difference, class_names
from .cleaned_files import cleaned_file, original_file, read_from, write_cleaned
from .coco_checks import find_problems, read_checked
from .coco_files import is_coco_file
from .coco_json import read_categories
from .record_checks import find_record_problems

SKIP = "DATASETS.SKIP_BAD_ANNOTATIONS"


def check_dataset(
    name: str,
    *,
    num_classes: int | None,
    key: str = "MODEL.ROI_HEADS.NUM_CLASSES",
    needs: Needs | None = None,
    skip_bad: bool = False,
    folder: str = "",
) -> None:
    """Raise an error that explains itself if a data set cannot be used.

    Generated data sets are generated. A COCO annotation file is read once more than training
    needs: seconds, for COCO itself.

    Args:
        name: of a data set in detectron2's catalog.
        num_classes: what the model is built for; None leaves it unchecked.
        key: the config key of ``num_classes``, for the message.
        needs: what the run needs of annotations; by default boxes to train on. Images to evaluate
            or predict on may be without annotations, as COCO's test-dev.
        skip_bad: whether bad annotations of COCO files are left out instead. The data set is read
            from a file in ``folder`` then.
        folder: of the run.

    Raises:
        ValueError: if the name is unknown, the annotation file is no COCO file or has no
            annotations, some cannot be used, or the model has another number of classes.
        FileNotFoundError: if the annotation file or the images are missing.
    """
    needs = Needs() if needs is None else needs
    if name not in DatasetCatalog.list():
        near = get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "register it first"
        raise ValueError(
            f"no data set is called {name!r}: {hint}, or give a COCO json and the folder of its "
            "images in place of a name, as in birds/train.json:birds/images"
        )
    metadata = MetadataCatalog.get(name)
    if "prepare" in metadata.as_dict():
        metadata.prepare()
    if is_coco(metadata):
        _check_coco(name, metadata, needs=needs, skip_bad=skip_bad, folder=folder)
    elif metadata.get("json_file") and metadata.get("evaluator_type") == "lvis":
        _check_there(name, metadata, metadata.json_file)
        read_checked(metadata.json_file, name=name, training=needs.training)
    elif metadata.get("evaluator_type") in (None, "coco"):
        _check_records(name, num_classes=num_classes, needs=needs)
    classes = class_names(name)
    if num_classes is not None and classes is not None and num_classes != len(classes):
        more = ", ..." if len(classes) > 10 else ""
        raise ValueError(
            f"{key} is {num_classes}, but data set {name!r} has {len(classes)} classes "
            f"({', '.join(classes[:10])}{more}): set {key} to {len(classes)}"
        )


def is_coco(metadata: Metadata) -> bool:
    """Whether a data set is a COCO file and a folder of images."""
    return bool(metadata.get("json_file")) and metadata.get("evaluator_type") == "coco"


def use_cleaned(name: str, folder: str) -> None:
    """Let a data set be read from what :func:`check_dataset` wrote, if that left anything out; for
    the other processes of a run."""
    path = cleaned_file(name, folder)
    if is_coco(MetadataCatalog.get(name)) and os.path.isfile(path):
        read_from(name, path)


def _check_coco(
    name: str, metadata: Metadata, *, needs: Needs, skip_bad: bool, folder: str
) -> None:
    json_file = original_file(name)
    read_from(name, json_file)
    _check_there(name, metadata, json_file)
    content = read_checked(json_file, name=name, training=needs.training)
    _check_registered_classes(name, metadata, json_file)
    image_root = metadata.get("image_root") or ""
    problems, usable = find_problems(content, image_root=image_root, needs=needs)
    cleaned = cleaned_file(name, folder)
    if not problems.number:
        if skip_bad and os.path.isfile(cleaned):
            os.remove(cleaned)  # Of a file that was corrected since.
        return
    subject = f"{json_file} of data set {name!r}"
    if not skip_bad:
        raise ValueError(
            f"{subject} has {problems.title}:\n{problems}\nCorrect them, or set {SKIP} "
            "True to leave those images and annotations out"
        )
    parts = {part: (len(content.get(part, ())), len(usable.get(part, ()))) for part in usable}
    left = {part: f"{old - new} of {old} {part}" for part, (old, new) in parts.items()}
    if not usable["images"] or (needs.training and not usable["annotations"]):
        raise ValueError(f"{subject} has nothing but mistakes:\n{problems}")
    write_cleaned(usable, cleaned)
    read_from(name, cleaned)
    logging.getLogger(__name__).warning(
        "Skipped %s of %s, see %s:\n%s",
        " and ".join(left[part] for part in ("images", "annotations") if part in left),
        *(subject, cleaned, problems),
    )


def _check_records(name: str, *, num_classes: int | None, needs: Needs) -> None:
    records = DatasetCatalog.get(name)
    if not isinstance(records, list) or not any(r.get("annotations") for r in records):
        return  # Of another kind, or to predict on.
    problems = find_record_problems(records, num_classes=num_classes, needs=needs)
    if problems.number:
        raise ValueError(f"data set {name!r} has {problems.title}:\n{problems}\nCorrect them")


def _check_registered_classes(name: str, metadata: Metadata, json_file: str) -> None:
    """Of COCO itself they are known by name, and detectron2 does not let them be changed."""
    known = metadata.get("thing_classes")
    names = [str(category["name"]) for category in read_categories(json_file)]
    difference = known and not is_coco_file(name) and class_difference(known, names)
    if difference:
        raise ValueError(
            f"data set {name!r} is registered with other classes than those of {json_file}: "
            f"{difference}. Give the file and the folder of its images instead of the name: "
            f"{json_file}:{metadata.get('image_root')}"
        )


def _check_there(name: str, metadata: Metadata, json_file: str) -> None:
    if not PathManager.isfile(json_file):
        raise FileNotFoundError(_missing("annotation file", json_file, name))
    if metadata.get("image_root") and not PathManager.isdir(metadata.image_root):
        raise FileNotFoundError(_missing("image folder", metadata.image_root, name))


def _missing(what: str, path: str, name: str) -> str:
    if is_coco_file(name):
        return f"{what} {path} of data set {name!r} does not exist: correct DATASETS.COCO_FILES"
    root = os.environ.get("DETECTRON2_DATASETS")
    now = "is not set" if root is None else f"is {root!r}"
    return (
        f"{what} {path} of data set {name!r} does not exist: put it there, or set the environment "
        f"variable DETECTRON2_DATASETS, which {now}, to the folder that holds the data sets"
    )
