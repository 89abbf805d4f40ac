"""A run that is killed and resumed ends as one that was never stopped: to the bit."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

TESTS = Path(__file__).parent.parent
TRAIN_NET = TESTS.parent / "tools" / "train_net.py"

Run = Callable[..., tuple[str, str]]
Start = Callable[..., "subprocess.Popen[str]"]


def difference(a: Any, b: Any, path: str = "") -> str:
    """Where two nested containers of tensors differ first; empty if nowhere."""
    if isinstance(a, torch.Tensor):
        return "" if torch.equal(a, b) else path
    if isinstance(a, np.ndarray):
        return "" if np.array_equal(a, b) else path
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return f"{path}: {a.keys() ^ b.keys()}"
        found = (difference(a[key], b[key], f"{path}/{key}") for key in a)
    elif isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return path
        found = (difference(x, y, f"{path}/{i}") for i, (x, y) in enumerate(zip(a, b, strict=True)))
    else:
        return "" if a == b else path
    return next((where for where in found if where), "")


def kill_at(start: Start, output: Path, config: str, options: list[object], name: str) -> None:
    """Start a run and kill it some time after a checkpoint of that name became the last one."""
    path = TESTS / "configs" / f"tiny_{config}.yaml"
    options = ["OUTPUT_DIR", output, *options]
    process = start(TRAIN_NET, "--config", path, *options, to=subprocess.DEVNULL)
    last = output / "last_checkpoint"  # written after the checkpoint itself
    while not (last.exists() and last.read_text() == name):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "model_final.pth").exists()


@pytest.mark.parametrize(
    "config, options",
    [
        (
            "classifier",
            # A worker that reads ahead, averaged weights, augmentation, PreciseBN.
            ["DATALOADER.NUM_WORKERS", 1, "SOLVER.EMA_DECAY", 0.9]
            + ["INPUT.CLASSIFICATION.AUTO_AUGMENT", "trivialaugment"]
            + ["TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 2]
            + ["DATASETS.TRAIN", "('digits_val',)", "SOLVER.OPTIMIZER", "ADAMW"],
        ),
        (
            "mask_rcnn",
            ["DATALOADER.NUM_WORKERS", 0, "INPUT.RANDOM_FLIP", "horizontal"]
            + ["INPUT.MIN_SIZE_TRAIN", "(56, 64, 72)", "SOLVER.BASE_LR", 1e-3],
        ),
    ],
)
@pytest.mark.slow
def test_killed_run_ends_as_an_unbroken_one(
    start: Start, train_net: Run, tmp_path: Path, config: str, options: list[object]
) -> None:
    options = [*options, "SOLVER.MAX_ITER", 16, "SOLVER.STEPS", "(6, 12)"]
    # The resumed run lacks the evaluation that follows the checkpoint.
    options += ["SOLVER.CHECKPOINT_PERIOD", 8, "TEST.EVAL_PERIOD", 8]
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    train_net(config, "OUTPUT_DIR", unbroken, *options)
    kill_at(start, killed, config, options, "model_0000007.pth")
    train_net(config, "--resume", "OUTPUT_DIR", killed, *options)
    assert "Starting training from iteration 8" in (killed / "log.txt").read_text()
    ends = [
        torch.load(folder / "model_final.pth", weights_only=True) for folder in (unbroken, killed)
    ]
    # Weights, averages, optimizer, schedule, random number generators and place in the data.
    assert {"model", "trainer", "iteration"} <= ends[0].keys()
    assert difference(*ends) == ""
