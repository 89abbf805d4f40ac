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
"""The values of the metadata field ``evaluator_type`` that :func:`build_evaluator` knows."""


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """The evaluator that a data set's metadata asks for, as in detectron2's ``train_net.py``.

    Args:
        cfg: of which ``OUTPUT_DIR``, ``TEST`` and what the model predicts are read.
        dataset_name: name of a registered data set.
        output_folder: where predictions are written, ``OUTPUT_DIR/inference`` by default; each of
            several ``DATASETS.TEST`` has a folder of its name in it.

    Raises:
        ValueError: if the metadata has an ``evaluator_type`` that is not known, or for a value of
            ``TEST.COCO_BACKEND`` that is not allowed.
    """
    output_folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
    if len(cfg.DATASETS.TEST) > 1:  # Or the files of one would replace those of the other.
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
    """What a data set's metadata asks for; if it says nothing, what its records are made for, which
    is then noted there.

    Args:
        dataset_name: name of a registered data set.

    Returns:
        str: one of :data:`EVALUATOR_TYPES`, or None if there is nothing to compute metrics with.

    Raises:
        ValueError: if the metadata asks for an evaluator that is not known.
    """
    metadata = MetadataCatalog.get(dataset_name)
    evaluator_type = metadata.get("evaluator_type")
    if evaluator_type in EVALUATOR_TYPES:
        return evaluator_type
    if evaluator_type is not None:
        raise ValueError(
            f"data set {dataset_name!r} has evaluator_type {evaluator_type!r} in its metadata; set "
            f"it, MetadataCatalog.get({dataset_name!r}).evaluator_type = ..., to one of "
            f"{', '.join(EVALUATOR_TYPES)}"
        )
    logger = logging.getLogger(__name__)
    records = DatasetCatalog.get(dataset_name)
    found = _type_of_records(records[i] for i in range(len(records)))
    if found is None:
        logger.warning(
            "Data set %r has no evaluator_type in its metadata, and neither boxes nor labels: no "
            "metrics will be computed on it",
            dataset_name,
        )
        return None
    logger.info("Data set %r is evaluated as evaluator_type %r", dataset_name, found)
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
    """What COCO's metrics are computed of, from the heads that the model has.

    Left to itself, detectron2 looks at the predictions, and reports only boxes when there are none.

    Returns:
        tuple: of "bbox", "segm" and "keypoints"; None, which leaves it to the predictions, for a
        meta-architecture whose heads these keys do not tell.
    """
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture == "RetinaNet":
        return ("bbox",)
    if architecture not in ("GeneralizedRCNN", "PanopticFPN"):
        return None
    heads = {"bbox": True, "segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    return tuple(task for task, is_on in heads.items() if is_on)


def _read_labels(file_name: str, dtype: Any = None) -> np.ndarray:
    """The labels of pixels, (H, W). What detectron2 of 2024 does by default fails with numpy 2."""
    with PathManager.open(file_name, "rb") as file:
        return np.asarray(Image.open(file), dtype=dtype)
