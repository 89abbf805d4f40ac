"""One run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from detectron2.config import CfgNode

from shakedrop_det.data import ClassificationMapper
from shakedrop_det.experiments.single_run import train_and_record

BUSY = 0.5
"""Seconds of work for each image."""


def test_the_time_of_data_workers_is_part_of_a_runs(
    tiny: Callable[..., CfgNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = ClassificationMapper.__call__

    def slow(mapper: ClassificationMapper, record: dict[str, Any]) -> dict[str, Any]:
        end = time.process_time() + (BUSY if mapper.is_train else 0)
        while time.process_time() < end:
            pass
        return work(mapper, record)

    monkeypatch.setattr(ClassificationMapper, "__call__", slow)
    size = ("SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.STEPS", ())
    cfg = tiny("classifier", *size, "DATALOADER.NUM_WORKERS", 1)
    assert train_and_record(cfg).seconds > 4 * BUSY


IMPORT = """
import torch

def asked(*args):
    raise AssertionError("asked for GPUs")

torch._C._cuda_getDeviceCount = torch.cuda.is_available = torch.cuda.device_count = asked
import shakedrop_det.experiments.single_run
print("initialized:", torch.cuda.is_initialized())
"""


def test_the_process_that_runs_are_forked_from_has_not_asked_for_a_gpu() -> None:
    """CUDA cannot be used in a process that is forked from one that has."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "initialized: False\n"), done.stderr
