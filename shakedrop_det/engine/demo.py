"""The demo: both training stages on handwritten digits, a table of results and pictures."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultPredictor
from tabulate import tabulate

from shakedrop_det import model_zoo
from shakedrop_det.evaluation import draw_curves, draw_predictions

from .run import train
from .setup import setup

PRETRAINING = "Demo/digits_classification.yaml"
DETECTION = "Demo/mask_rcnn_digit_scenes.yaml"
_METRICS = ("AP", "AP50", "AP75", "APs", "APm")


def run_demo(output: Path) -> dict[str, dict[str, float]]:
    """Pretrain on single digits, fine-tune Mask R-CNN on scenes of them, evaluate and draw.

    Both stages train with ShakeDrop. Progress goes to the console, the full logs to the folder.

    Args:
        output: folder for everything that is made. Results of an earlier run are replaced.

    Returns:
        dict: the COCO metrics of the held-out scenes, under "bbox" and "segm", in percent.
    """
    begin = time.perf_counter()
    pretraining, detection = output / "pretraining", output / "detection"
    for folder in (pretraining, detection):
        shutil.rmtree(folder, ignore_errors=True)
    print("1/4  Drawing digit scenes", flush=True)
    DatasetCatalog.get("digit_scenes_train")
    print("2/4  Pretraining the backbone: classification of single digits", flush=True)
    accuracy = _train(PRETRAINING, pretraining)["classification"]
    print(f"     top-1 accuracy on held-out digits: {accuracy['top1']:.1f} %", flush=True)
    print("3/4  Fine-tuning Mask R-CNN on digit scenes", flush=True)
    weights = pretraining / "model_final.pth"
    results = _train(DETECTION, detection, "MODEL.WEIGHTS", str(weights))
    print("4/4  Drawing", flush=True)
    pictures = _draw(detection, output)
    print(_report(results, pictures, output, minutes=(time.perf_counter() - begin) / 60))
    return results


def _config(name: str, output: Path, *options: str) -> CfgNode:
    args = argparse.Namespace(
        config_file=model_zoo.get_config_file(name), opts=["OUTPUT_DIR", str(output), *options]
    )
    return setup(args, quiet=True)


def _train(name: str, output: Path, *options: str) -> dict[str, Any]:
    results = train(_config(name, output, *options), quiet=True)
    assert results is not None, f"{name} names no data set to evaluate on"
    return results


def _draw(detection: Path, output: Path) -> list[Path]:
    cfg = _config(DETECTION, detection, "MODEL.WEIGHTS", str(detection / "model_final.pth"))
    pictures = [output / f"{name}.png" for name in ("predictions", "best_predictions", "curves")]
    dataset, predictor = cfg.DATASETS.TEST[0], DefaultPredictor(cfg)
    draw_predictions(dataset, predictor, pictures[0])
    shown = ("image", "predicted")
    draw_predictions(dataset, predictor, pictures[1], num_images=2, best=True, columns=shown)
    draw_curves({"Mask R-CNN": detection / "metrics.json"}, pictures[2])
    return pictures


def _report(
    results: dict[str, dict[str, float]], pictures: list[Path], output: Path, *, minutes: float
) -> str:
    rows = [
        [name, *(f"{results[task][metric]:.1f}" for metric in _METRICS)]
        for name, task in (("box", "bbox"), ("mask", "segm"))
    ]
    table = tabulate(rows, headers=["held-out scenes", *_METRICS], tablefmt="simple")
    drawn = "\n".join(f"  {picture}" for picture in pictures)
    train_net = f"DETECTRON2_DATASETS={output / 'datasets'} .venv/bin/python tools/train_net.py"
    config = f"--config configs/{DETECTION}"
    weights = output / "detection" / "model_final.pth"
    return f"""
{table}

Took {minutes:.1f} minutes. Pictures:
{drawn}
Logs, metrics and checkpoints are in {output}/pretraining and {output}/detection.

What to try next:
  the plain network:        {train_net} {config} MODEL.SHAKEDROP.ENABLED False
  the same with your own:   {train_net} {config} \\
                              DATASETS.TRAIN mine/train.json:mine/images \\
                              DATASETS.TEST mine/val.json:mine/images
  evaluation only:          {train_net} {config} --eval-only MODEL.WEIGHTS {weights}
  in your own pipeline:     README.md, "In your own pipeline"; your own data: docs/own_data.md
"""
