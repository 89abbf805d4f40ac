"""Classification datasets with one folder of images per class, like ImageNet."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from detectron2.data import DatasetCatalog, MetadataCatalog
from torchvision.datasets.folder import IMG_EXTENSIONS

from .image_datasets import ImageFiles
from .stray_files import is_stray

_SCANNERS = 8


def register_image_folder(name: str, root: str | os.PathLike[str]) -> None:
    """Register ``root/<class>/<image>`` as a classification dataset in detectron2's catalog.

    Nothing is read before the dataset is first used. Its metadata then has ``classes``.

    Args:
        name: Name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        root: Folder that contains one folder per class. The label of a class is its index in the
            sorted list of folder names.
    """
    DatasetCatalog.register(name, lambda: load_image_folder(root, name=name))
    MetadataCatalog.get(name).set(
        image_root=os.fspath(root),
        evaluator_type="classification",
        # For code that needs the classes before the dataset is loaded.
        prepare=lambda: class_folders(root, name=name),
    )


def load_image_folder(root: str | os.PathLike[str], *, name: str | None = None) -> ImageFiles:
    """List the images of a folder of class folders.

    Args:
        root: Folder that contains one folder per class.
        name: Registered dataset whose metadata gets ``classes``; None for none.

    Returns:
        One dict per image, sorted by class and file name: ``file_name``; ``image_id``, from 0;
        ``label``, from 0. No image is opened, so there are no sizes.

    Raises:
        FileNotFoundError: If the folder does not exist or has no class folders, or if a class
            folder has no images.
    """
    folders = class_folders(root, name=name)
    # Threads, for file systems with a high latency.
    with ThreadPoolExecutor(_SCANNERS) as pool:
        files = list(pool.map(_image_names, folders))
    return ImageFiles(folders, files)


def _image_names(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _is_image(entry.name)]
    return sorted(names)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS) and not is_stray(name)


def _check_images(folder: str) -> None:
    """Raise an error if a class folder has no images, before it is counted as a class."""
    with os.scandir(folder) as entries:
        if any(_is_image(entry.name) for entry in entries):
            return
    raise FileNotFoundError(
        f"class folder {os.path.abspath(folder)} has no images ({', '.join(IMG_EXTENSIONS)}): "
        "add some or remove the folder"
    )


def class_folders(root: str | os.PathLike[str], *, name: str | None = None) -> list[str]:
    """Return the sorted paths of the class folders in ``root``; see :func:`load_image_folder`."""
    root = os.fspath(root)
    subject = "images" if name is None else f"the images of dataset {name!r}"
    expected = f"{subject} are expected as {os.path.abspath(root)}/<class>/<image>"
    if not os.path.isdir(root):
        datasets = os.environ.get("DETECTRON2_DATASETS")
        raise FileNotFoundError(
            f"{expected}, but there is no such folder; for built-in datasets, check the "
            "environment variable DETECTRON2_DATASETS, which is "
            + ("not set" if datasets is None else repr(datasets))
        )
    with os.scandir(root) as entries:
        classes = sorted(e.name for e in entries if e.is_dir() and not is_stray(e.name))
    if not classes:
        raise FileNotFoundError(f"{expected}, but this folder has no subfolders")
    for folder in classes:
        _check_images(os.path.join(root, folder))
    if name is not None:
        MetadataCatalog.get(name).set(classes=classes)
    return [os.path.join(root, folder) for folder in classes]
