"""A run from its first line to Ctrl-C, and what else wants its folder meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent.parent
TRAIN_NET = TESTS.parent / "tools" / "train_net.py"
CONFIG = TESTS / "configs" / "tiny_mask_rcnn.yaml"
LONG = ["SOLVER.MAX_ITER", 10_000, "SOLVER.STEPS", "(9000,)", "SOLVER.CHECKPOINT_PERIOD", 5000]

Start = Callable[..., "subprocess.Popen[str]"]


def wait_for_loss(process: subprocess.Popen[str], output: Path) -> None:
    metrics = output / "metrics.json"
    while not (metrics.exists() and "total_loss" in metrics.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.usefixtures("clean_logging")
def test_a_run_has_its_folder_to_itself_says_little_and_ends_by_ctrl_c(
    start: Start, leave: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    process = start(TRAIN_NET, "--config", CONFIG, "--output", tmp_path, *LONG)
    wait_for_loss(process, tmp_path)
    config = (tmp_path / "config.yaml").read_text()

    data = ["DATASETS.TRAIN", "('tiny_scenes_train',)", "DATASETS.TEST", "()"]
    again = ["--config", str(CONFIG), "--output", str(tmp_path), *data]
    code, text = leave(TRAIN_NET, *again)
    message = f"error: OUTPUT_DIR '{tmp_path}' is in use: process {process.pid} on "
    assert (code, text.startswith(message)) == (2, True), text
    assert len(text.splitlines()) == 1 and (tmp_path / "config.yaml").read_text() == config
    # An evaluation may write there.
    data = ["DATASETS.TEST", "('tiny_scenes_val',)", "MODEL.WEIGHTS", "none.pth"]
    code, text = leave(TRAIN_NET, *again, *data, "--eval-only")
    assert (code, text.splitlines()[-1][:40]) == (
        2,
        "error: MODEL.WEIGHTS: there is no file 'none.pth'"[:40],
    )

    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    last = (tmp_path / "last_checkpoint").read_text()
    (line,) = err.splitlines()
    assert line.startswith("interrupted: stopped after iteration ")
    assert line.endswith(f"; the same command with --resume continues from {tmp_path / last}")
    assert not (tmp_path / "run.lock").exists()

    lines = out.splitlines()
    first = next(i for i, text in enumerate(lines) if "total_loss" in text)
    assert first < 40
    log = (tmp_path / "log.txt").read_text()
    assert "Running with full config" in log and "Model:\n" in log


@pytest.mark.slow
def test_several_processes_end_together(start: Start, tmp_path: Path) -> None:
    """By a signal to the process that started them."""
    two = ["--num-gpus", 2, "--dist-url", "auto"]
    process = start(TRAIN_NET, "--config", CONFIG, "--output", tmp_path, *two, *LONG)
    wait_for_loss(process, tmp_path)
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in err
    last = (tmp_path / "last_checkpoint").read_text()
    assert err.splitlines()[-1].endswith(f"with --resume continues from {tmp_path / last}")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_at_once_stops_them_after_one_step_which_is_saved(
    start: Start, tmp_path: Path, signum: int
) -> None:
    """As schedulers and terminals send it: data workers, too, get it."""
    config = CONFIG.with_name("tiny_classifier.yaml")
    options = [*LONG, "DATASETS.TEST", "()", "DATALOADER.NUM_WORKERS", 1]
    two = ["--num-gpus", 2, "--dist-url", "auto"]
    args = ["--config", config, "--output", tmp_path, *two, *options]
    process = start(TRAIN_NET, *args, group=True)
    wait_for_loss(process, tmp_path)
    os.killpg(process.pid, signum)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 128 + signum, err + out
    last = (tmp_path / "last_checkpoint").read_text()
    (found,) = re.findall(r"stopped after iteration (\d+); the same command with --resume", err)
    assert last == f"model_{int(found):07d}.pth" and "Traceback" not in err
    checkpoint = torch.load(tmp_path / last, weights_only=True)
    assert checkpoint["iteration"] == int(found)
    processes = checkpoint["trainer"]["hooks"]["ExactResume"]["processes"]
    # Each has read as many images as it made steps with.
    assert {p["loader"]["next"] for p in processes} == {4 * (int(found) + 1)}
