"""Predictions for images and videos outside any dataset."""

from .inputs import Inputs, find_inputs
from .predictor import Predictor
from .run import PredictionSummary, predict

__all__ = ["Inputs", "PredictionSummary", "Predictor", "find_inputs", "predict"]
