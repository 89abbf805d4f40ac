"""Which evaluator belongs to a data set."""

from __future__ import annotations

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    SemSegEvaluator,
)

from shakedrop_det.evaluation import ClassificationEvaluator

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
        cfg: of which ``OUTPUT_DIR`` is read.
        dataset_name: name of a registered data set.
        output_folder: where predictions are written, ``OUTPUT_DIR/inference`` by default.

    Raises:
        ValueError: if the metadata has no ``evaluator_type``, or one that is not known.
    """
    output_folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
    evaluator_type = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if evaluator_type not in EVALUATOR_TYPES:
        raise ValueError(
            f"Data set {dataset_name!r} has evaluator_type {evaluator_type!r} in its metadata; set "
            f"it, MetadataCatalog.get({dataset_name!r}).evaluator_type = ..., to one of "
            f"{', '.join(EVALUATOR_TYPES)}"
        )
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
        evaluators.append(SemSegEvaluator(dataset_name, output_dir=output_folder))
    if evaluator_type in ("coco", "coco_panoptic_seg"):
        evaluators.append(COCOEvaluator(dataset_name, output_dir=output_folder))
    if evaluator_type == "coco_panoptic_seg":
        evaluators.append(COCOPanopticEvaluator(dataset_name, output_folder))
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)
