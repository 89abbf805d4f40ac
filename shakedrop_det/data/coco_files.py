"""Custom data without code: COCO files and image folders named in the config.

``DATASETS.COCO_FILES`` is a list of ``[name, json, image_root]``, whose names can be used in
``DATASETS.TRAIN`` and ``DATASETS.TEST``. Instead of a name, these two also accept
``json:image_root``, or the path of a json that is in the same folder as its images.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from shakedrop_det.utils.atomic import is_local
from shakedrop_det.utils.config_keys import write_key

from .classes import is_default, num_classes
from .coco_json import read_categories
from .keypoints import flip_map

NUM_KEYPOINTS = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"
_LOADED = ("thing_classes", "thing_dataset_id_to_contiguous_id")
_FORM = "[name, json, image_root], such as ['birds_train', 'birds/train.json', 'birds/images']"

_registered: dict[str, tuple[str, str]] = {}
"""Json and image folder of each dataset that this module registered."""


def use_coco_files(cfg: CfgNode, *, given: Collection[str] = ()) -> None:
    """Register the COCO files in a config, and set the model's number of classes, in place.

    ``json:image_root`` in ``DATASETS.TRAIN`` and ``DATASETS.TEST`` is replaced by a name with an
    entry in ``DATASETS.COCO_FILES``, so that other processes need only the saved config. The number
    of classes (and keypoints) is taken from the json of the training set, or else the test set, if
    the config has detectron2's default, or if the dataset is given as an option and the number is
    not.

    Args:
        cfg: Config that is not frozen.
        given: Keys that were given as options.

    Raises:
        ValueError: If an entry is invalid, or has the name of another dataset.
    """
    cfg.DATASETS.COCO_FILES = [_checked(entry) for entry in cfg.DATASETS.COCO_FILES]
    for part in ("TRAIN", "TEST"):
        cfg.DATASETS[part] = tuple(_as_name(cfg, name) for name in cfg.DATASETS[part])
    register_coco_files(cfg)
    files = {name: json_file for name, json_file, _ in cfg.DATASETS.COCO_FILES}
    # The test set, for a recipe that was trained on other data.
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    first = next((name for name in names if name in files), None)
    if first is None:
        return
    categories = read_categories(files[first])
    key, _ = num_classes(cfg)
    part = "TRAIN" if first in cfg.DATASETS.TRAIN else "TEST"
    is_new = f"DATASETS.{part}" in given and key not in given
    if categories and key and (is_new or is_default(cfg, key)):
        write_key(cfg, key, len(categories))
    keypoints = _keypoint_names(categories)
    if keypoints and cfg.MODEL.KEYPOINT_ON and is_default(cfg, NUM_KEYPOINTS):
        write_key(cfg, NUM_KEYPOINTS, len(keypoints))


def register_coco_files(cfg: CfgNode) -> None:
    """Register the datasets of ``DATASETS.COCO_FILES`` in detectron2's catalog. Nothing is read.

    Names that an earlier config gave to other files are registered anew.

    Raises:
        ValueError: See :func:`use_coco_files`.
    """
    for name, json_file, image_root in map(_checked, cfg.DATASETS.COCO_FILES):
        _register(name, json_file, image_root)


def is_coco_file(name: str) -> bool:
    """Return whether this module registered a dataset."""
    return name in _registered


def _checked(entry: Any) -> list[str]:
    is_list = isinstance(entry, (list, tuple))
    if not is_list or len(entry) != 3 or not all(isinstance(x, str) and x for x in entry):
        raise ValueError(f"an entry of DATASETS.COCO_FILES must be {_FORM}, got {entry!r}")
    name, json_file, image_root = entry
    return [name, absolute(json_file), absolute(image_root)]


def absolute(path: str) -> str:
    """Return a path as an absolute one, so that resuming and using the weights work from any
    folder."""
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path


def _as_name(cfg: CfgNode, text: str) -> str:
    """Return a name unchanged; for ``json:image_root``, add an entry and return its name."""
    begin, separator, image_root = text.partition(".json:")
    if not (separator or text.endswith(".json")) or text in DatasetCatalog:
        return text
    json_file = absolute(f"{begin}.json" if separator else text)
    files = [json_file, absolute(image_root) if image_root else os.path.dirname(json_file)]
    entries: list[list[str]] = cfg.DATASETS.COCO_FILES
    known = next((name for name, *other in entries if other == files), None)
    if known is not None:
        return known
    others = {name for name in DatasetCatalog.list() if name not in _registered}
    name = new_name(json_file.removesuffix(".json"), {*others, *(name for name, *_ in entries)})
    entries.append([name, *files])
    return name


def new_name(path: str, taken: Collection[str]) -> str:
    """Return the last part of a path, prefixed by as many parent folders as make it unique. It is
    the same in each process that reads this config."""
    *folders, name = path.strip("/").split("/")
    for folder in reversed(folders):
        if name not in taken:
            return name
        name = f"{folder}_{name}"
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return name if name not in taken else f"{name}_{number}"


def _register(name: str, json_file: str, image_root: str) -> None:
    if _registered.get(name) == (json_file, image_root):
        return
    if name in _registered:
        DatasetCatalog.remove(name)
    elif name in DatasetCatalog:
        raise ValueError(
            f"DATASETS.COCO_FILES gives {json_file} the name {name!r} of another dataset: choose "
            "another name"
        )
    MetadataCatalog.pop(name, None)  # Its fields cannot be overwritten.
    DatasetCatalog.register(name, functools.partial(load_coco_file, name, json_file, image_root))
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        # For code that needs the names of keypoints before the dataset is loaded.
        prepare=functools.partial(_name_keypoints, name, json_file),
    )
    _registered[name] = (json_file, image_root)


def load_coco_file(name: str, json_file: str, image_root: str) -> list[dict[str, Any]]:
    """Load a COCO file with detectron2, even if its classes have changed since it was last loaded.

    Args:
        name: Name of the dataset, whose metadata gets the names and ids of the classes.
        json_file, image_root: Annotation file and image folder.
    """
    forget_classes(name)
    return load_coco_json(json_file, image_root, name)


def forget_classes(name: str) -> None:
    """Remove the classes from a dataset's metadata, since detectron2 refuses to overwrite them."""
    metadata = MetadataCatalog.get(name)
    for field in _LOADED:
        if hasattr(metadata, field):
            delattr(metadata, field)


def _name_keypoints(name: str, json_file: str) -> None:
    names = _keypoint_names(read_categories(json_file))
    if names:
        metadata = MetadataCatalog.get(name)
        for field in ("keypoint_names", "keypoint_flip_map"):
            if hasattr(metadata, field):
                delattr(metadata, field)
        metadata.set(keypoint_names=names, keypoint_flip_map=flip_map(names))


def _keypoint_names(categories: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the first category that has keypoints."""
    lists = (category.get("keypoints") for category in categories)
    found = next((names for names in lists if isinstance(names, list) and names), [])
    return [str(name) for name in found]
