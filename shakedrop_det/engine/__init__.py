"""Training and evaluation of both stages."""

from .checks import check_config
from .errors import reported_to_user
from .evaluators import build_evaluator
from .run import evaluate, train
from .setup import load_config, setup
from .train_loop import CPUAMPTrainer
from .trainer import Trainer

__all__ = [
    "CPUAMPTrainer",
    "Trainer",
    "build_evaluator",
    "check_config",
    "evaluate",
    "load_config",
    "reported_to_user",
    "setup",
    "train",
]
