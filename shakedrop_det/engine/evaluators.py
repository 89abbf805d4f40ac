"""Which evaluator belongs to a data set."""

from __future__ import annotations

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
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
        output_folder: where predictions are written, ``OUTPUT_DIR/inference`` by default.

    Raises:
        ValueError: if the metadata has no ``evaluator_type``, or one that is not known, or for a
            value of ``TEST.COCO_BACKEND`` that is not allowed.
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
