"""detectron2's data loaders for classification."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.samplers import RandomSubsetTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Sampler

from .classes import check_same_classes
from .classification_mapper import ClassificationMapper
from .mapped_images import MappedImages, without_skipped


def build_classification_train_loader(cfg: CfgNode) -> Any:
    """Build an endless loader of the datasets of ``DATASETS.TRAIN``.

    Args:
        cfg: Config with ``SOLVER.IMS_PER_BATCH``, ``DATALOADER`` and ``INPUT``, as in detectron2.

    Returns:
        An iterable of lists of dicts from :class:`ClassificationMapper`, one list per step and
        process.

    Raises:
        ValueError: If the datasets, including those of ``DATASETS.TEST`` with known classes, differ
            in their classes, or a value of ``INPUT`` or ``DATALOADER`` is invalid.
    """
    dataset = MappedImages(
        get_detection_dataset_dicts(cfg.DATASETS.TRAIN),
        ClassificationMapper(cfg, True),
        unreadable=cfg.DATALOADER.UNREADABLE_IMAGES,
    )
    first, *others = cfg.DATASETS.TRAIN
    for name in (*others, *cfg.DATASETS.TEST):
        check_same_classes(first, name)
    return build_detection_train_loader(
        dataset,
        mapper=None,  # MappedImages has it.
        sampler=_build_sampler(cfg, len(dataset)),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,  # The images have one size.
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def _build_sampler(cfg: CfgNode, num_images: int) -> Sampler:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return TrainingSampler(num_images)
    if name == "RandomSubsetTrainingSampler":
        return RandomSubsetTrainingSampler(num_images, cfg.DATALOADER.RANDOM_SUBSET_RATIO)
    raise ValueError(
        f"DATALOADER.SAMPLER_TRAIN {name!r} is not supported for classification: set it to "
        "TrainingSampler or RandomSubsetTrainingSampler"
    )


def build_classification_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """Build a loader that iterates over a dataset once, divided among the processes.

    Args:
        cfg: Config as for training, with the same batch size.
        dataset_name: Name of a registered dataset.

    Returns:
        An iterable of lists of dicts from :class:`ClassificationMapper`. If unreadable images are
        skipped, a list may be shorter than others, or empty.

    Raises:
        ValueError: If the classes differ from those of ``DATASETS.TRAIN``, if these are known, or a
            value of ``INPUT`` or ``DATALOADER`` is invalid.
    """
    dataset = MappedImages(
        get_detection_dataset_dicts(dataset_name, filter_empty=False),
        ClassificationMapper(cfg, False),
        unreadable=cfg.DATALOADER.UNREADABLE_IMAGES,
        replace=False,
    )
    for name in cfg.DATASETS.TRAIN[:1]:
        check_same_classes(name, dataset_name)
    return build_detection_test_loader(
        dataset,
        mapper=None,  # MappedImages has it.
        batch_size=max(cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(), 1),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=without_skipped,
    )
