"""Training and evaluation of both stages."""

from shakedrop_det.utils.errors import reported_to_user

from .checks import check_config
from .evaluators import build_evaluator
from .optimizer import clipped_sgd
from .progress import ProgressLine, log_to_file_only, prints_to_log
from .run import evaluate, train
from .schedule import epochs_to_iterations
from .setup import load_config, setup
from .train_loop import TrainStep
from .trainer import Trainer

__all__ = [
    "ProgressLine",
    "TrainStep",
    "Trainer",
    "build_evaluator",
    "check_config",
    "clipped_sgd",
    "epochs_to_iterations",
    "evaluate",
    "load_config",
    "log_to_file_only",
    "prints_to_log",
    "reported_to_user",
    "setup",
    "train",
]
