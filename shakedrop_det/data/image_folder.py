"""Classification data sets that are folders of images, one folder per class, as ImageNet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from torchvision.datasets.folder import IMG_EXTENSIONS


def register_image_folder(name: str, root: str | os.PathLike[str]) -> None:
    """Register ``root/<class>/<image>`` as a classification data set of detectron2's catalog.

    Nothing is read before the data set is first used. Its metadata then holds ``classes``.

    Args:
        name: the name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        root: the folder that holds one folder per class. The label of a class is its place in the
            sorted list of their names.
    """
    DatasetCatalog.register(name, lambda: load_image_folder(root, name=name))
    MetadataCatalog.get(name).set(
        image_root=os.fspath(root),
        evaluator_type="classification",
        # For who needs the classes before the data set is loaded.
        prepare=lambda: _class_folders(root, name=name),
    )


def load_image_folder(
    root: str | os.PathLike[str], *, name: str | None = None
) -> list[dict[str, Any]]:
    """List the images of a folder of class folders.

    Args:
        root: the folder that holds one folder per class.
        name: of the registered data set whose metadata gets ``classes``, if any.

    Returns:
        One dict per image, sorted by class and file name: ``file_name``; ``image_id``, from 0;
        ``label``, from 0. No image is opened, so there are no sizes.

    Raises:
        FileNotFoundError: if there is no such folder, it has no class folders, or one of them has
            no images.
    """
    records: list[dict[str, Any]] = []
    for label, folder in enumerate(_class_folders(root, name=name)):
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMG_EXTENSIONS)
        if not files:
            raise FileNotFoundError(
                f"class folder {folder.absolute()} has no images ({', '.join(IMG_EXTENSIONS)}): "
                "add some or remove the folder"
            )
        for file in files:
            records.append({"file_name": str(file), "image_id": len(records), "label": label})
    return records


def _class_folders(root: str | os.PathLike[str], *, name: str | None) -> list[Path]:
    root = Path(root)
    subject = "images" if name is None else f"the images of data set {name!r}"
    expected = f"{subject} are expected as {root.absolute()}/<class>/<image>"
    if not root.is_dir():
        datasets = os.environ.get("DETECTRON2_DATASETS")
        raise FileNotFoundError(
            f"{expected}, and there is no such folder; the built-in data sets lie under the "
            "environment variable DETECTRON2_DATASETS, which is "
            + ("not set" if datasets is None else repr(datasets))
        )
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    if not folders:
        raise FileNotFoundError(f"{expected}, and it has no folders")
    if name is not None:
        MetadataCatalog.get(name).set(classes=[folder.name for folder in folders])
    return folders
