"""One run in a process of its own."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from detectron2.config import CfgNode

from shakedrop_det.data import ClassificationMapper
from shakedrop_det.experiments.single_run import train_and_record, without_predictions_as_zero

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


def test_a_network_that_predicts_nothing_has_an_ap_of_0() -> None:
    """detectron2 gives NaN for all metrics then, and for those of sizes that no object has."""
    nan = math.nan
    found = {"bbox/AP": nan, "bbox/APl": nan, "bbox/AP-cat": nan, "segm/AP": 3.0, "segm/APl": nan}
    kept = without_predictions_as_zero(found)
    assert math.isnan(kept.pop("segm/APl"))
    assert kept == {"bbox/AP": 0.0, "bbox/APl": 0.0, "bbox/AP-cat": 0.0, "segm/AP": 3.0}
    assert without_predictions_as_zero({"classification/top1": 1.0}) == {"classification/top1": 1.0}
