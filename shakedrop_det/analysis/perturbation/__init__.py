"""Measure what ShakeDrop does to the features, gradients and minimum of a trained classifier.

The paper interprets ShakeDrop as data augmentation in feature space. :mod:`.predictions` states
what follows from that.
"""

from .checkpoint import measure_checkpoint
from .features import BlockFeatures, perturbed_features
from .gradients import GradientAngles, gradient_angles
from .images import LabelledImages, load_images
from .measure import Measured, measure
from .neighbours import Neighbours, compare_neighbours
from .predictions import Prediction, predictions
from .report import as_record, draw, report
from .sharpness import Sharpness, filter_normalized, largest_eigenvalue, sharpness

__all__ = [
    "BlockFeatures",
    "GradientAngles",
    "LabelledImages",
    "Measured",
    "Neighbours",
    "Prediction",
    "Sharpness",
    "as_record",
    "compare_neighbours",
    "draw",
    "filter_normalized",
    "gradient_angles",
    "largest_eigenvalue",
    "load_images",
    "measure",
    "measure_checkpoint",
    "perturbed_features",
    "predictions",
    "report",
    "sharpness",
]
