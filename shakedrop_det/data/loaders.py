"""detectron2's data loaders, for classification."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.utils import comm
from torch.utils.data import DataLoader

from .classification_mapper import ClassificationMapper


def build_classification_train_loader(cfg: CfgNode) -> Any:
    """An endless loader of the data sets of ``DATASETS.TRAIN``.

    Args:
        cfg: with ``SOLVER.IMS_PER_BATCH``, ``DATALOADER`` and ``INPUT``, as in detectron2.

    Returns:
        An iterable of lists of the dicts of :class:`ClassificationMapper`, one list per step and
        process.

    Raises:
        ValueError: if the data sets do not agree on their classes.
    """
    # The images have one size, so there is nothing to group by.
    loader = build_detection_train_loader(
        cfg, mapper=ClassificationMapper(cfg, True), aspect_ratio_grouping=False
    )
    if len(cfg.DATASETS.TRAIN) > 1:
        check_metadata_consistency("classes", cfg.DATASETS.TRAIN)
    return loader


def build_classification_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """A loader that goes once over one data set, each process over its part.

    Args:
        cfg: as for training; batches have the size of training batches.
        dataset_name: a name in detectron2's catalog.

    Returns:
        An iterable of lists of the dicts of :class:`ClassificationMapper`.
    """
    return build_detection_test_loader(
        cfg,
        dataset_name,
        mapper=ClassificationMapper(cfg, False),
        batch_size=max(cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(), 1),
    )
