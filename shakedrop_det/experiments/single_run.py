"""Train one run of an experiment in a process of its own."""

from __future__ import annotations

import datetime
import gc
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.evaluation.testing import flatten_results_dict

from shakedrop_det.engine import reported_to_user, setup, train
from shakedrop_det.evaluation.curves import read_metrics
from shakedrop_det.utils.atomic import write_atomically
from shakedrop_det.utils.provenance import code_version, machine_and_versions

from .store import Result

RESULT = "result.json"
"""Name of the file that a finished run writes into its folder."""

_LAST_PART = 0.1


def train_and_record(cfg: CfgNode, *, allow_pickle: bool = False) -> Result:
    """Train or resume training, and write the result to ``OUTPUT_DIR/result.json``.

    Args:
        cfg: config as returned by :func:`shakedrop_det.engine.setup`.
        allow_pickle: whether weights files may execute pickled code.

    Returns:
        Result: its metrics are those of the last evaluation, such as "classification/top1" or
        "bbox/AP", and "total_loss", the mean of the losses logged in the last tenth of training.
        A network that predicts nothing has an AP of 0.
    """
    on_gpu = torch.device(cfg.MODEL.DEVICE).type == "cuda"
    clock = time.perf_counter if on_gpu else _processor_time
    begin = clock()
    metrics: dict[str, float] = {}
    diverged = ""
    try:
        results = train(cfg, resume=True, quiet=True, allow_pickle=allow_pickle)
        assert results is not None, "load_plan has checked that there is a dataset to evaluate on"
        metrics = without_predictions_as_zero(flatten_results_dict(results))
        metrics["total_loss"] = _last_loss(Path(cfg.OUTPUT_DIR, "metrics.json"))
    except FloatingPointError as error:
        diverged = str(error)
    result = Result(
        metrics=metrics,
        seconds=round(clock() - begin, 2),
        code=code_version(),
        machine=machine_and_versions("cuda" if on_gpu else "cpu"),
        date=datetime.date.today().isoformat(),
        diverged=diverged,
    )
    with write_atomically(str(Path(cfg.OUTPUT_DIR, RESULT)), "w") as file:
        json.dump(asdict(result), file, indent=1)
    return result


def without_predictions_as_zero(metrics: Mapping[str, float]) -> dict[str, float]:
    """Replace the NaN that detectron2 gives all metrics of a task without any prediction by 0.

    Args:
        metrics: values by name, such as "bbox/AP". Where only some metrics of a task are NaN, as
            those of sizes that no object has, they stay so.
    """
    empty = {name.removesuffix("AP") for name in metrics if name.endswith("/AP")}
    empty = {task for task in empty if math.isnan(metrics[f"{task}AP"])}
    return {
        name: 0.0 if math.isnan(value) and name.startswith(tuple(empty)) else value
        for name, value in metrics.items()
    }


def _processor_time() -> float:
    """Return the seconds that this process and its data workers have spent on all cores."""
    gc.collect()  # This ends the workers of a trainer that is done. They are counted only then.
    return sum(os.times()[:4])


def _last_loss(path: Path) -> float:
    iterations, losses = read_metrics(path)["total_loss"].T
    return float(np.mean(losses[iterations >= (1 - _LAST_PART) * iterations[-1]]))


def run_alone(
    config: str, output: str, console: str, variables: Mapping[str, str], allow_pickle: bool
) -> None:
    """Train one run; the main function of its process.

    Args:
        config: path of the config.
        output: ``OUTPUT_DIR``.
        console: path of the file that receives the console output.
        variables: environment variables to set, see :func:`.running.environment`.
        allow_pickle: see :func:`train_and_record`.
    """
    os.environ.update(variables)
    if "OMP_NUM_THREADS" in variables:
        # torch read the variable when the parent process imported it, before the fork.
        torch.set_num_threads(int(variables["OMP_NUM_THREADS"]))
    with open(console, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    arguments = ["--config-file", config, "OUTPUT_DIR", output]
    with reported_to_user():
        cfg = setup(default_argument_parser().parse_args(arguments), quiet=True)
        train_and_record(cfg, allow_pickle=allow_pickle)
