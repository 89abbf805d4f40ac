"""Own data without code: COCO files and folders of images that the config names.

``DATASETS.COCO_FILES`` is a list of ``[name, json, image_root]``; the names are then for
``DATASETS.TRAIN`` and ``DATASETS.TEST``. These two also take ``json:image_root`` in place of a
name, or the path of a json whose images lie beside it.
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

from .classes import is_default, num_classes, write_key
from .coco_json import read_categories
from .keypoints import flip_map

NUM_KEYPOINTS = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"
_LOADED = ("thing_classes", "thing_dataset_id_to_contiguous_id")
_FORM = "[name, json, image_root], such as ['birds_train', 'birds/train.json', 'birds/images']"

_registered: dict[str, tuple[str, str]] = {}
"""Json and image folder of each data set that this module registered."""


def use_coco_files(cfg: CfgNode, *, given: Collection[str] = ()) -> None:
    """Register the COCO files that a config names, and let the model have their classes, in place.

    ``json:image_root`` in ``DATASETS.TRAIN`` and ``DATASETS.TEST`` becomes an entry of
    ``DATASETS.COCO_FILES`` and a name, so that what the config is saved as is enough for another
    process. The number of classes (and of keypoints) is taken from the json of the training set, or
    else the test set, where the config leaves it at detectron2's default, or where the data set is
    given as an option and the number is not.

    Args:
        cfg: not frozen.
        given: keys that were given as options.

    Raises:
        ValueError: if an entry is not of this form, or has the name of another data set.
    """
    cfg.DATASETS.COCO_FILES = [_checked(entry) for entry in cfg.DATASETS.COCO_FILES]
    for part in ("TRAIN", "TEST"):
        cfg.DATASETS[part] = tuple(_as_name(cfg, name) for name in cfg.DATASETS[part])
    register_coco_files(cfg)
    files = {name: json_file for name, json_file, _ in cfg.DATASETS.COCO_FILES}
    # A recipe that names other data to train on may be used to evaluate on these.
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
    """Register what ``DATASETS.COCO_FILES`` names, in detectron2's catalog. Nothing is read.

    Names that an earlier config gave to other files are given to these.

    Raises:
        ValueError: see :func:`use_coco_files`.
    """
    for name, json_file, image_root in map(_checked, cfg.DATASETS.COCO_FILES):
        _register(name, json_file, image_root)


def is_coco_file(name: str) -> bool:
    """Whether a data set was registered here."""
    return name in _registered


def _checked(entry: Any) -> list[str]:
    is_list = isinstance(entry, (list, tuple))
    if not is_list or len(entry) != 3 or not all(isinstance(x, str) and x for x in entry):
        raise ValueError(f"an entry of DATASETS.COCO_FILES must be {_FORM}, got {entry!r}")
    name, json_file, image_root = entry
    return [name, _absolute(json_file), _absolute(image_root)]


def _absolute(path: str) -> str:
    """A run is resumed, and its weights used, from other folders than it began in."""
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path


def _as_name(cfg: CfgNode, text: str) -> str:
    """A name as it is; of ``json:image_root`` a name that then is in ``DATASETS.COCO_FILES``."""
    begin, separator, image_root = text.partition(".json:")
    if not (separator or text.endswith(".json")) or text in DatasetCatalog:
        return text
    json_file = _absolute(f"{begin}.json" if separator else text)
    files = [json_file, _absolute(image_root) if image_root else os.path.dirname(json_file)]
    entries: list[list[str]] = cfg.DATASETS.COCO_FILES
    known = next((name for name, *other in entries if other == files), None)
    if known is not None:
        return known
    name = _new_name(json_file, {name for name, *_ in entries})
    entries.append([name, *files])
    return name


def _new_name(json_file: str, taken: set[str]) -> str:
    """The name of the file, with those of as many folders before it as it takes to be the only one;
    the same in each process that reads this config."""
    others = {name for name in DatasetCatalog.list() if name not in _registered}
    *folders, last = json_file.removesuffix(".json").strip("/").split("/")
    name = last
    for folder in reversed(folders):
        if name not in taken | others:
            return name
        name = f"{folder}_{name}"
    number = 1
    while f"{name}_{number}" in taken | others:
        number += 1
    return name if name not in taken | others else f"{name}_{number}"


def _register(name: str, json_file: str, image_root: str) -> None:
    if _registered.get(name) == (json_file, image_root):
        return
    if name in _registered:
        DatasetCatalog.remove(name)
    elif name in DatasetCatalog:
        raise ValueError(
            f"DATASETS.COCO_FILES gives {json_file} the name {name!r}, which another data set has: "
            "choose another name"
        )
    MetadataCatalog.pop(name, None)  # It cannot be changed.
    DatasetCatalog.register(name, functools.partial(load_coco_file, name, json_file, image_root))
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        # For who needs the names of classes or keypoints before the data set is loaded.
        prepare=functools.partial(_name_keypoints, name, json_file),
    )
    _registered[name] = (json_file, image_root)


def load_coco_file(name: str, json_file: str, image_root: str) -> list[dict[str, Any]]:
    """What detectron2 makes of a COCO file, whose classes may have changed since the last time.

    Args:
        name: of the data set, whose metadata gets the names and ids of the classes.
        json_file, image_root: the annotations, and the folder of the images.
    """
    forget_classes(name)
    return load_coco_json(json_file, image_root, name)


def forget_classes(name: str) -> None:
    """Let the metadata of a data set take others, which detectron2 refuses to change."""
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
    """Of the first category that has keypoints."""
    lists = (category.get("keypoints") for category in categories)
    found = next((names for names in lists if isinstance(names, list) and names), [])
    return [str(name) for name in found]
