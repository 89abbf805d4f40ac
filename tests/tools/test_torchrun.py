"""tools/train_net.py under torchrun."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

TESTS = Path(__file__).parent.parent
TRAIN_NET = TESTS.parent / "tools" / "train_net.py"
CONFIG = TESTS / "configs" / "tiny_mask_rcnn.yaml"
OPTIONS = ["SEED", "1", "DATASETS.TEST", "()", "DATALOADER.NUM_WORKERS", "0"]

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def torchrun(datasets_root: str) -> Iterator[Run]:
    """``torchrun(flags, *args)``: train_net.py under torchrun; ended at the end of the test."""
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "DETECTRON2_DATASETS": datasets_root, "PYTHONPATH": path}
    env.update(OMP_NUM_THREADS="1")
    started: list[subprocess.Popen[str]] = []

    def start(flags: list[str], *args: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "torch.distributed.run", *flags, str(TRAIN_NET)]
        command += ["--config-file", str(CONFIG), *map(str, args), *OPTIONS]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=60)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize(
    "flag", [("--num-gpus", "2"), ("--num-machines", "3"), ("--machine-rank", "1")]
)
def test_two_ways_of_starting_at_once_are_an_error(
    leave: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, flag: tuple[str, str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    code, text = leave(TRAIN_NET, "--config-file", str(CONFIG), *flag)
    name = " ".join(flag)
    assert (code, f"error: {name}: torchrun has already started the processes" in text) == (2, True)


@pytest.mark.slow
def test_it_trains_as_processes_of_its_own_do(
    torchrun: Run, train_net: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    train_net(
        *("mask_rcnn", "--num-gpus", 2, "--dist-url", "auto", *OPTIONS),
        *("OUTPUT_DIR", tmp_path / "launched"),
    )
    process = torchrun(["--standalone", "--nproc-per-node", "2"], "--output", tmp_path / "joined")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err + out
    assert_equal(weights(tmp_path / "launched"), weights(tmp_path / "joined"))
    assert (tmp_path / "joined" / "log.txt.rank1").is_file()
    log = (tmp_path / "joined" / "log.txt").read_text()
    assert log.count("Starting training from iteration 0") == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="child processes are found in /proc"
)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_of_two_machines_goes_on_from_the_last_checkpoint(
    torchrun: Run, tmp_path: Path, victim: int
) -> None:
    options = ["SOLVER.MAX_ITER", 12, "SOLVER.STEPS", "()", "SOLVER.CHECKPOINT_PERIOD", 4]

    def machines(output: Path) -> list[subprocess.Popen[str]]:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
        size = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "2"]
        flags = [*size, *meeting, "--rdzv-id", output.name]
        return [torchrun(flags, "--output", output, *options) for _ in range(2)]

    unbroken = machines(tmp_path / "unbroken")
    for machine in unbroken:
        out, err = machine.communicate(timeout=900)
        assert machine.returncode == 0, err + out

    broken = machines(tmp_path / "broken")
    wait_for((tmp_path / "broken" / "last_checkpoint").exists)
    child = child_of(broken[victim])
    assert child is not None, "torchrun has started nothing"
    os.kill(child, signal.SIGKILL)
    for machine in broken:
        out, err = machine.communicate(timeout=900)
        assert machine.returncode == 0, err + out
    log = (tmp_path / "broken" / "log.txt").read_text()
    assert log.count("Starting training from iteration 0") == 1
    assert (
        "Starting training from iteration 4" in log or "Starting training from iteration 8" in log
    )
    assert_equal(weights(tmp_path / "unbroken"), weights(tmp_path / "broken"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="child processes are found in /proc"
)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_restart_before_the_first_checkpoint_does_not_go_on_from_an_earlier_run(
    torchrun: Run, tmp_path: Path, processes: int
) -> None:
    """Be it killed before it has begun to train, or after."""
    flags = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", "2"]
    options = ["SOLVER.MAX_ITER", 4, "SOLVER.STEPS", "()"]
    output = tmp_path / "broken"
    for folder in (tmp_path / "unbroken", output):
        process = torchrun(flags, "--output", folder, *options, "SOLVER.BASE_LR", "0.002")
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err + out

    unbroken = torchrun(flags, "--output", tmp_path / "unbroken", *options)
    out, err = unbroken.communicate(timeout=900)
    assert unbroken.returncode == 0, err + out

    broken = torchrun(flags, "--output", output, *options)
    first = wait_for(lambda: child_of(broken))
    os.kill(first, signal.SIGKILL)
    wait_for((output / "last_checkpoint.old").exists)
    second = child_of(broken)
    assert second is not None and second != first
    os.kill(second, signal.SIGKILL)
    out, err = broken.communicate(timeout=900)
    assert broken.returncode == 0, err + out
    log = (output / "log.txt").read_text()
    assert set(re.findall("Starting training from iteration ([0-9]+)", log)) == {"0"}
    assert_equal(weights(tmp_path / "unbroken"), weights(output))


def wait_for(found: Callable[[], Any]) -> Any:
    """What ``found()`` returns once that is true."""
    for _ in range(6000):
        if result := found():
            return result
        time.sleep(0.05)
    raise AssertionError("waited for five minutes")


def child_of(process: subprocess.Popen[str]) -> int | None:
    """The process that trains, which torchrun has started, if it has."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # Gone meanwhile.
            command = Path(f"/proc/{child}/cmdline").read_text()
            # Until it runs a program of its own, a child has torchrun's command.
            if str(TRAIN_NET) in command and "torch.distributed.run" not in command:
                return int(child)
    return None
