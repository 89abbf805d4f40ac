"""Choosing the evaluator of a dataset."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    SemSegEvaluator,
)
from detectron2.utils.file_io import PathManager
from PIL import Image

from shakedrop_det.evaluation import ClassificationEvaluator, DetectionEvaluator

EVALUATOR_TYPES = (
    "classification",
    "coco",
    "coco_panoptic_seg",
    "sem_seg",
    "lvis",
    "cityscapes_instance",
    "cityscapes_sem_seg",
    "pascal_voc",
)
"""Values of the metadata field ``evaluator_type`` that :func:`build_evaluator` supports."""


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """Build the evaluator that a dataset's metadata specifies, like detectron2's ``train_net.py``.

    Args:
        cfg: ``OUTPUT_DIR``, ``TEST`` and the keys that tell what the model predicts are read.
        dataset_name: Name of a registered dataset.
        output_folder: Folder for predictions, by default ``OUTPUT_DIR/inference``. With several
            ``DATASETS.TEST``, each writes to a subfolder of its name.

    Raises:
        ValueError: If the ``evaluator_type`` in the metadata is not supported, or
            ``TEST.COCO_BACKEND`` is invalid.
    """
    output_folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
    if len(cfg.DATASETS.TEST) > 1:  # Otherwise they would overwrite each other's files.
        output_folder = os.path.join(output_folder, dataset_name)
    evaluator_type = find_evaluator_type(dataset_name)
    if evaluator_type is None:
        return DatasetEvaluators([])
    if evaluator_type == "classification":
        return ClassificationEvaluator(dataset_name)
    if evaluator_type == "lvis":
        return LVISEvaluator(dataset_name, output_dir=output_folder)
    if evaluator_type == "cityscapes_instance":
        return CityscapesInstanceEvaluator(dataset_name)
    if evaluator_type == "cityscapes_sem_seg":
        return CityscapesSemSegEvaluator(dataset_name)
    if evaluator_type == "pascal_voc":
        return PascalVOCDetectionEvaluator(dataset_name)
    evaluators: list[DatasetEvaluator] = []
    if evaluator_type in ("sem_seg", "coco_panoptic_seg"):
        evaluators.append(
            SemSegEvaluator(dataset_name, output_dir=output_folder, sem_seg_loading_fn=_read_labels)
        )
    if evaluator_type in ("coco", "coco_panoptic_seg"):
        evaluators.append(
            DetectionEvaluator(
                dataset_name,
                coco_tasks(cfg),
                output_dir=output_folder,
                kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
                backend=cfg.TEST.COCO_BACKEND,
                plots=cfg.TEST.COCO_PLOTS,
            )
        )
    if evaluator_type == "coco_panoptic_seg":
        evaluators.append(COCOPanopticEvaluator(dataset_name, output_folder))
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def find_evaluator_type(dataset_name: str) -> str | None:
    """Return the evaluator type in a dataset's metadata. If there is none, infer it from the
    records and set it in the metadata.

    Args:
        dataset_name: Name of a registered dataset.

    Returns:
        One of :data:`EVALUATOR_TYPES`, or None if no metrics can be computed.

    Raises:
        ValueError: If the metadata has an evaluator type that is not supported.
    """
    metadata = MetadataCatalog.get(dataset_name)
    evaluator_type = metadata.get("evaluator_type")
    if evaluator_type in EVALUATOR_TYPES:
        return evaluator_type
    if evaluator_type is not None:
        raise ValueError(
            f"dataset {dataset_name!r} has the unsupported evaluator_type {evaluator_type!r}; set "
            f"MetadataCatalog.get({dataset_name!r}).evaluator_type to one of "
            f"{', '.join(EVALUATOR_TYPES)}"
        )
    logger = logging.getLogger(__name__)
    records = DatasetCatalog.get(dataset_name)
    found = _type_of_records(records[i] for i in range(len(records)))
    if found is None:
        logger.warning(
            "Dataset %r has no evaluator_type in its metadata, and neither boxes nor labels: no "
            "metrics will be computed on it",
            dataset_name,
        )
        return None
    logger.info("Dataset %r is evaluated as evaluator_type %r", dataset_name, found)
    metadata.evaluator_type = found
    return found


def _type_of_records(records: Iterable[dict[str, Any]]) -> str | None:
    for record in records:
        if any("bbox" in annotation for annotation in record.get("annotations") or ()):
            return "coco"
        if "label" in record:
            return "classification"
    return None


def coco_tasks(cfg: CfgNode) -> tuple[str, ...] | None:
    """Return the tasks for which to compute COCO metrics, as the model's heads imply.

    detectron2 would infer them from the predictions, and report only boxes if there are none.

    Returns:
        Some of "bbox", "segm" and "keypoints"; None, so that detectron2 infers them, for a
        meta-architecture whose heads are not in the config.
    """
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture == "RetinaNet":
        return ("bbox",)
    if architecture not in ("GeneralizedRCNN", "PanopticFPN"):
        return None
    heads = {"bbox": True, "segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    return tuple(task for task, is_on in heads.items() if is_on)


def _read_labels(file_name: str, dtype: Any = None) -> np.ndarray:
    """Read per-pixel labels, (H, W). detectron2's loader of 2024 fails with numpy 2."""
    with PathManager.open(file_name, "rb") as file:
        return np.asarray(Image.open(file), dtype=dtype)
