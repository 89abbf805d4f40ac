"""One run of an experiment, in a process of its own: ``python -m``, with a config and options."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.evaluation.testing import flatten_results_dict

from shakedrop_det.engine import reported_to_user, setup, train
from shakedrop_det.evaluation.curves import read_metrics
from shakedrop_det.utils.atomic import write_atomically

RESULT = "result.json"
"""What a run leaves in its folder when it has ended."""

_LAST_PART = 0.1


def train_and_record(cfg: CfgNode, *, allow_pickle: bool = False) -> dict[str, float]:
    """Train, going on where an interrupted run left off, and write ``OUTPUT_DIR/result.json``.

    Args:
        cfg: see :func:`shakedrop_det.engine.setup`.
        allow_pickle: whether code that a file of weights carries may be run.

    Returns:
        dict: the numbers of the last evaluation, such as "classification/top1" or "bbox/AP", and
        "total_loss", the mean of what was logged in the last tenth of training.
    """
    begin = time.perf_counter()
    results = train(cfg, resume=True, quiet=True, allow_pickle=allow_pickle)
    assert results is not None, "load_plan has checked that there is a data set to evaluate on"
    metrics = flatten_results_dict(results)
    metrics["total_loss"] = _last_loss(Path(cfg.OUTPUT_DIR, "metrics.json"))
    content = {"metrics": metrics, "seconds": time.perf_counter() - begin}
    with write_atomically(str(Path(cfg.OUTPUT_DIR, RESULT)), "w") as file:
        json.dump(content, file, indent=1)
    return metrics


def _last_loss(path: Path) -> float:
    iterations, losses = read_metrics(path)["total_loss"].T
    return float(np.mean(losses[iterations >= (1 - _LAST_PART) * iterations[-1]]))


def main() -> None:
    """The arguments are those of ``tools/train_net.py``."""
    parser = default_argument_parser()
    parser.add_argument("--allow-pickle", action="store_true")
    args = parser.parse_args()
    with reported_to_user():
        train_and_record(setup(args, quiet=True), allow_pickle=args.allow_pickle)


if __name__ == "__main__":
    main()
