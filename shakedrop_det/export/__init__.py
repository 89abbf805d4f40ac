"""Deployment: folded checkpoints for stock detectron2, TorchScript, torch.export and ONNX."""

from .comparison import example_image, listed
from .deployed_config import deployed_config
from .folding import FoldedCheckpoint, fold_checkpoint, load_model, without_shakedrop
from .formats import FORMATS, export_model

__all__ = [
    "FORMATS",
    "FoldedCheckpoint",
    "deployed_config",
    "example_image",
    "export_model",
    "fold_checkpoint",
    "listed",
    "load_model",
    "without_shakedrop",
]
