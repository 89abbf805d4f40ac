"""Folders of images by class, named in the config: custom data for classifiers without code.

``DATASETS.IMAGE_FOLDERS`` is a list of ``[name, folder]``, whose names can be used in
``DATASETS.TRAIN`` and ``DATASETS.TEST``. With an image classifier, these two also accept the path
of a folder instead of a name.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from shakedrop_det.utils.config_keys import write_key

from .classes import num_classes
from .coco_files import absolute, new_name
from .image_folder import class_folders, register_image_folder

_KEY = "DATASETS.IMAGE_FOLDERS"

_registered: dict[str, str] = {}
"""Folder of each dataset that this module registered."""


def use_image_folders(cfg: CfgNode, *, given: Collection[str] = ()) -> None:
    """Register the image folders in a config, and set the classifier's number of classes, in place.

    The path of a folder in ``DATASETS.TRAIN`` or ``DATASETS.TEST`` is replaced by a name with an
    entry in ``DATASETS.IMAGE_FOLDERS``, so that other processes need only the saved config. If the
    training set (or the test set, if there is no training set) is such a path, the number of
    classes is that of its subfolders, unless it is given as an option.

    Args:
        cfg: Config that is not frozen.
        given: Keys that were given as options.

    Raises:
        ValueError: If an entry is invalid, or has the name of another dataset.
        FileNotFoundError: If the folder has no class folders, or one of them has no images.
    """
    cfg.DATASETS.IMAGE_FOLDERS = [_checked(entry) for entry in cfg.DATASETS.IMAGE_FOLDERS]
    before = {name for name, _ in cfg.DATASETS.IMAGE_FOLDERS}
    if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        for part in ("TRAIN", "TEST"):
            cfg.DATASETS[part] = tuple(_as_name(cfg, name) for name in cfg.DATASETS[part])
    register_image_folders(cfg)
    key, _ = num_classes(cfg)
    new = {name: folder for name, folder in cfg.DATASETS.IMAGE_FOLDERS if name not in before}
    # A config that named its training set before has its number of classes as well.
    first = next(iter((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)), None)
    if first in new and key not in given:
        write_key(cfg, key, len(class_folders(new[first], name=first)))


def register_image_folders(cfg: CfgNode) -> None:
    """Register the datasets of ``DATASETS.IMAGE_FOLDERS`` in detectron2's catalog. Nothing is read.

    Names that an earlier config gave to other folders are registered anew.

    Raises:
        ValueError: See :func:`use_image_folders`.
    """
    for name, folder in map(_checked, cfg.DATASETS.IMAGE_FOLDERS):
        if _registered.get(name) == folder:
            continue
        if name in DatasetCatalog and name not in _registered:
            raise ValueError(
                f"{_KEY} gives {folder} the name {name!r} of another dataset: choose another name"
            )
        if name in _registered:
            DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)  # Its fields cannot be overwritten.
        register_image_folder(name, folder)
        _registered[name] = folder


def _checked(entry: Any) -> list[str]:
    is_list = isinstance(entry, (list, tuple))
    if not is_list or len(entry) != 2 or not all(isinstance(x, str) and x for x in entry):
        raise ValueError(
            f"an entry of {_KEY} must be [name, folder], such as ['birds_train', 'birds/train'], "
            f"got {entry!r}"
        )
    name, folder = entry
    return [name, absolute(folder)]


def _as_name(cfg: CfgNode, text: str) -> str:
    """Return a name unchanged; for a folder, add an entry and return its name."""
    if text in DatasetCatalog or not os.path.isdir(os.path.expanduser(text)):
        return text
    folder, entries = absolute(text), cfg.DATASETS.IMAGE_FOLDERS
    known = next((name for name, other in entries if other == folder), None)
    if known is not None:
        return str(known)
    others = {name for name in DatasetCatalog.list() if name not in _registered}
    name = new_name(folder, {*others, *(name for name, _ in entries)})
    entries.append([name, folder])
    return name
