"""Checks of datasets before training starts."""

from __future__ import annotations

import logging
import os
from difflib import get_close_matches

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from .annotation_checks import Needs
from .classes import class_difference, class_names
from .cleaned_files import cleaned_file, original_file, read_from, write_cleaned
from .coco_checks import find_problems, read_checked
from .coco_files import is_coco_file
from .coco_json import read_categories
from .corner_boxes import warn_of_corner_boxes
from .missing_files import check_files
from .record_checks import find_record_problems

SKIP = "DATASETS.SKIP_BAD_ANNOTATIONS"

_CITYSCAPES = ("cityscapes_instance", "cityscapes_sem_seg")
_OTHER_FILES = ("pascal_voc", "sem_seg", "coco_panoptic_seg", *_CITYSCAPES)
"""Evaluator types of detectron2's datasets whose content is not checked here."""


def check_dataset(
    name: str,
    *,
    num_classes: int | None,
    key: str = "MODEL.ROI_HEADS.NUM_CLASSES",
    needs: Needs | None = None,
    skip_bad: bool = False,
    folder: str = "",
    again: bool = False,
) -> None:
    """Check that a dataset can be used, and raise an error with the remedy if not.

    Datasets that are generated on first use are generated now. A COCO annotation file is read once
    more than training needs, which takes seconds for COCO itself.

    Args:
        name: Name of a registered dataset.
        num_classes: Number of classes of the model; None to leave it unchecked.
        key: Config key of ``num_classes``, for the message.
        needs: Requirements of the run on annotations, by default boxes to train on. Images to
            evaluate or predict on may lack annotations, as in COCO's test-dev.
        skip_bad: Whether to leave out bad annotations of COCO files. The dataset is then read from
            a file in ``folder``. All images to evaluate on are then decoded, since the metrics
            count objects in images that are left out later as missed.
        folder: Folder of the run for that file.
        again: Whether the run has checked the dataset for something else too, such as training.
            What that check left out remains left out.

    Raises:
        ValueError: If the name is unknown, the annotation file is not a COCO file or has no
            annotations, some of them are invalid, or the model has another number of classes.
        FileNotFoundError: If the annotation file or a folder is missing.
    """
    needs = Needs() if needs is None else needs
    if name not in DatasetCatalog.list():
        near = get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "register it first"
        own = "a COCO json and its image folder, such as birds/train.json:birds/images"
        if key == "MODEL.IMAGE_CLASSIFIER.NUM_CLASSES":
            own = "a folder with a folder of images for each class, such as birds/train"
        raise ValueError(f"there is no dataset {name!r}: {hint}, or give {own}, instead of a name")
    prepare(name)
    metadata = MetadataCatalog.get(name)
    if is_coco(metadata):
        if not again:
            read_from(name, original_file(name))
        cleaned = cleaned_file(name, folder) if skip_bad else None
        _check_coco(name, metadata, needs=needs, cleaned=cleaned, again=again)
    elif metadata.get("json_file") and metadata.get("evaluator_type") == "lvis":
        check_files(name)
        read_checked(metadata.json_file, name=name, training=needs.training)
    elif metadata.get("evaluator_type") in _OTHER_FILES:
        check_files(name)
    elif metadata.get("evaluator_type") in (None, "coco"):
        _check_records(name, num_classes=num_classes, needs=needs)
    classes = class_names(name)
    if num_classes is not None and classes is not None and num_classes != len(classes):
        more = ", ..." if len(classes) > 10 else ""
        raise ValueError(
            f"{key} is {num_classes}, but dataset {name!r} has {len(classes)} classes "
            f"({', '.join(classes[:10])}{more}): set {key} to {len(classes)}"
        )


def prepare(name: str) -> None:
    """Do what a dataset needs before its first use, if anything: it is generated, or the names of
    its keypoints are read."""
    metadata = MetadataCatalog.get(name)
    if "prepare" in metadata.as_dict():
        metadata.prepare()


def is_coco(metadata: Metadata) -> bool:
    """Return whether a dataset is a COCO file with a folder of images."""
    return bool(metadata.get("json_file")) and metadata.get("evaluator_type") == "coco"


def use_cleaned(name: str, folder: str) -> None:
    """Read a dataset from the file that :func:`check_dataset` wrote, if it left anything out, in
    the other processes of a run."""
    path = cleaned_file(name, folder)
    if is_coco(MetadataCatalog.get(name)) and os.path.isfile(path):
        read_from(name, path)


def _check_coco(
    name: str, metadata: Metadata, *, needs: Needs, cleaned: str | None, again: bool
) -> None:
    """Check a COCO file. What is bad is left out in ``cleaned``; if that is None, it is an
    error."""
    check_files(name)
    content = read_checked(metadata.json_file, name=name, training=needs.training)
    _check_registered_classes(name, metadata, metadata.json_file)
    image_root, decode = metadata.get("image_root") or "", bool(cleaned) and not needs.training
    problems, usable = find_problems(content, image_root=image_root, needs=needs, decode=decode)
    if image_root and not again:  # Without the images, their sizes are not checked.
        warn_of_corner_boxes(usable, name=name)
    if not problems.number:
        if cleaned and not again and os.path.isfile(cleaned):
            os.remove(cleaned)  # The original has been corrected since.
        return
    subject = f"{original_file(name)} of dataset {name!r}"
    if not cleaned:
        raise ValueError(
            f"{subject} has {problems.title}:\n{problems}\nCorrect them, or set {SKIP} "
            "True to leave out these images and annotations"
        )
    parts = {part: (len(content.get(part, ())), len(usable.get(part, ()))) for part in usable}
    left = {part: f"{old - new} of {old} {part}" for part, (old, new) in parts.items()}
    had_annotations = needs.training or content.get("annotations")
    if not usable["images"] or (had_annotations and not usable["annotations"]):
        raise ValueError(f"{subject} has no valid images or annotations:\n{problems}")
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
        return  # Another type of dataset, or one to predict on.
    problems = find_record_problems(records, num_classes=num_classes, needs=needs)
    if problems.number:
        raise ValueError(f"dataset {name!r} has {problems.title}:\n{problems}\nCorrect them")


def _check_registered_classes(name: str, metadata: Metadata, json_file: str) -> None:
    """Check that a file has the registered classes, e.g. COCO's, which cannot be changed."""
    known = metadata.get("thing_classes")
    names = [str(category["name"]) for category in read_categories(json_file)]
    difference = known and not is_coco_file(name) and class_difference(known, names)
    if difference:
        raise ValueError(
            f"dataset {name!r} is registered with other classes than those of {json_file}: "
            f"{difference}. Instead of the name, give the file and its image folder: "
            f"{json_file}:{metadata.get('image_root')}"
        )
