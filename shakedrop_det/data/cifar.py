"""CIFAR-10 and CIFAR-100, in torchvision's format or as folders of class folders."""

from __future__ import annotations

import os

from detectron2.data import DatasetCatalog, MetadataCatalog
from torch.utils.data import Dataset
from torchvision.datasets import CIFAR10, CIFAR100

from .image_datasets import ImageArrays
from .image_folder import class_folders, load_image_folder

_FORMATS: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def register_cifar(name: str, root: str, *, variant: str, split: str) -> None:
    """Register one split of CIFAR as a classification dataset in detectron2's catalog.

    Nothing is read before the dataset is first used, and nothing is ever downloaded. The images are
    taken from the first that exists of

    * ``root/<split>/<class>/<image>``;
    * torchvision's ``cifar-10-batches-py`` or ``cifar-100-python``, in ``root`` or next to it.

    Args:
        name: Name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        root: Folder of the dataset.
        variant: "cifar10" or "cifar100".
        split: "train" or "val", which is torchvision's test set.

    Raises:
        ValueError: If there is no such variant or split.
    """
    if variant not in _FORMATS:
        raise ValueError(f"variant must be one of {', '.join(_FORMATS)}, got {variant!r}")
    if split not in ("train", "val"):
        raise ValueError(f"split must be train or val, got {split!r}")
    folder = os.path.join(root, split)

    def load() -> Dataset:
        if os.path.isdir(folder):
            return load_image_folder(folder, name=name)
        found = _load_batches(root, variant=variant, split=split)
        MetadataCatalog.get(name).set(classes=found.classes)
        return ImageArrays(found.data, found.targets)

    def prepare() -> None:
        if os.path.isdir(folder):
            class_folders(folder, name=name)
        else:
            load()

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        image_root=folder,
        evaluator_type="classification",
        # For code that needs the classes before the dataset is loaded.
        prepare=prepare,
    )


def _load_batches(root: str, *, variant: str, split: str) -> CIFAR10:
    data_format = _FORMATS[variant]
    parents = (root, os.path.dirname(os.path.abspath(root)))
    for parent in parents:
        batches = os.path.join(parent, data_format.base_folder)
        if not os.path.isdir(batches):
            continue
        try:
            return data_format(parent, train=split == "train", download=False)
        except RuntimeError as error:  # torchvision raises this for a wrong checksum.
            raise OSError(
                f"{os.path.abspath(batches)} is incomplete or damaged (wrong checksum): replace it "
                f"with torchvision.datasets.{data_format.__name__}"
                f"({os.path.abspath(parent)!r}, download=True)"
            ) from error
    places = " or ".join(os.path.join(parent, data_format.base_folder) for parent in parents)
    raise FileNotFoundError(
        f"{variant} is expected as {os.path.abspath(root)}/{split}/<class>/<image>, or in "
        f"torchvision's format as {places}, but none of these folders exists; check the "
        "environment variable DETECTRON2_DATASETS, which is "
        + repr(os.environ.get("DETECTRON2_DATASETS", "not set"))
    )
