"""Datasets that importing ``shakedrop_det`` registers."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from .cifar import register_cifar
from .cluttered_digits import SPLITS, load_cluttered_digits
from .digit_rendering import DIGIT_CLASSES
from .digit_scenes import prepare_digit_scenes
from .digits import load_single_digits
from .image_folder import register_image_folder
from .one_category import register_category


def register_digit_scenes(name: str, root: str, *, split: str) -> None:
    """Register one split of the digit scenes, which are generated on first use.

    Args:
        name: Name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        root: Folder for :func:`~shakedrop_det.data.build_digit_scenes`.
        split: "train" or "val".
    """
    prepare = partial(prepare_digit_scenes, root)
    json_file = os.path.join(root, "annotations", f"instances_{split}.json")
    image_root = os.path.join(root, split)

    def load() -> list[dict[str, Any]]:
        prepare()
        return load_coco_json(json_file, image_root, name)

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        # Gives the classes without generating the scenes.
        thing_classes=DIGIT_CLASSES,
        thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(DIGIT_CLASSES))},
        # For code that needs json_file before the dataset is loaded.
        prepare=prepare,
    )


def register_builtin_datasets(root: str) -> None:
    """Register all built-in datasets.

    Args:
        root: Folder that contains the folders of the datasets.
    """
    for split in ("train", "val"):
        register_digit_scenes(
            f"digit_scenes_{split}", os.path.join(root, "digit_scenes"), split=split
        )
        DatasetCatalog.register(f"digits_{split}", partial(load_single_digits, split == "train"))
        MetadataCatalog.get(f"digits_{split}").set(
            evaluator_type="classification", classes=DIGIT_CLASSES
        )
        register_image_folder(f"imagenet_{split}", os.path.join(root, "imagenet", split))
        for variant in ("cifar10", "cifar100"):
            register_cifar(
                f"{variant}_{split}", os.path.join(root, variant), variant=variant, split=split
            )
        register_category(f"coco_2017_{split}_person", f"coco_2017_{split}", "person")
    for split in SPLITS:
        name = f"cluttered_digits_{split}"
        DatasetCatalog.register(name, partial(load_cluttered_digits, split))
        MetadataCatalog.get(name).set(evaluator_type="classification", classes=DIGIT_CLASSES)


# Read once, at import, as in detectron2's own builtin.py.
register_builtin_datasets(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
