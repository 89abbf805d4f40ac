"""Evaluation: top-1 and top-5 accuracy, COCO metrics, and plots of predictions and training."""

from .classification import ClassificationEvaluator
from .coco import DetectionEvaluator
from .coco_backends import COCO_BACKENDS, check_coco_backend
from .curves import draw_curves
from .pictures import draw_predictions

__all__ = [
    "COCO_BACKENDS",
    "ClassificationEvaluator",
    "DetectionEvaluator",
    "check_coco_backend",
    "draw_curves",
    "draw_predictions",
]
