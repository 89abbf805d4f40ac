"""Run a model on images and videos that belong to no dataset."""

from .inputs import Inputs, find_inputs
from .predictor import Predictor
from .run import PredictionSummary, predict

__all__ = ["Inputs", "PredictionSummary", "Predictor", "find_inputs", "predict"]
