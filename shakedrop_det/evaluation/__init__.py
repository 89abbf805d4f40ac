"""Evaluation: top-1 and top-5 accuracy, and pictures of predictions and learning curves."""

from .classification import ClassificationEvaluator
from .curves import draw_curves
from .pictures import draw_predictions

__all__ = ["ClassificationEvaluator", "draw_curves", "draw_predictions"]
