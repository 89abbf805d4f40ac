"""The demo: both training stages on handwritten digits, a table of results and pictures."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultPredictor, HookBase
from tabulate import tabulate

from shakedrop_det import model_zoo
from shakedrop_det.evaluation import draw_curves, draw_predictions

from .setup import setup
from .trainer import Trainer

PRETRAINING = "Demo/digits_classification.yaml"
DETECTION = "Demo/mask_rcnn_digit_scenes.yaml"
NETWORKS: dict[str, list[str]] = {
    "ShakeDrop": [],
    "plain": ["MODEL.SHAKEDROP.ENABLED", "False"],
}
"""Config options of each network, used in both stages."""

_STAGES = ("pretraining", "detection")
_MARKER = ".demo"
"""An empty file in the folders that a demo may replace."""

_TIMED = (5, 25)
"""Iterations of pretraining between which steps are timed."""

_DETECTION_STEP, _REST = 3.4, 550
"""Duration of a step of stage two, and of all that is not training, in steps of stage one."""

_METRICS = ("AP", "AP50", "AP75", "APs", "APm")

Results = dict[str, dict[str, float]]
"""COCO metrics in percent, under "bbox" and "segm"."""


def run_demo(
    output: Path, *, compare: bool = False, options: Sequence[str] = ()
) -> dict[str, Results]:
    """Pretrain on single digits, fine-tune Mask R-CNN on scenes of digits, evaluate and draw.

    Both stages train with ShakeDrop. The console shows progress; the full logs are in the folder.

    Args:
        output: Output folder. Results of an earlier demo of the same networks are replaced.
        compare: Whether to also train the plain network, for as long and with the same seed.
        options: Config options of both stages, as alternating KEY and VALUE.

    Returns:
        The metrics on the held-out scenes for each of :data:`NETWORKS` that was trained.

    Raises:
        ValueError: If a folder that would be replaced is not of a demo.
    """
    begin = time.perf_counter()
    names = list(NETWORKS) if compare else ["ShakeDrop"]
    _make_folders([_folder(output, name) / stage for name in names for stage in _STAGES])
    say = _Steps(2 + 2 * len(names))
    say("Drawing digit scenes")
    DatasetCatalog.get("digit_scenes_train")
    forecast = _Forecast(len(names))
    results = {
        name: _train_both(name, output, options, say=say, forecast=forecast) for name in names
    }
    say("Drawing")
    pictures = _draw(names, output, options)
    print(_report(results, pictures, output, minutes=(time.perf_counter() - begin) / 60))
    return results


def _make_folders(folders: Sequence[Path]) -> None:
    """Make folders, and remove what an earlier demo left in them."""
    for folder in folders:
        is_other = folder.exists() and not folder.is_dir()
        if is_other or (
            folder.is_dir() and any(folder.iterdir()) and not (folder / _MARKER).exists()
        ):
            raise ValueError(
                f"--output: {str(folder)!r} would be replaced, but has no file {_MARKER}, which "
                "marks the folders of a demo: choose another output folder, or remove it"
            )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (folder / _MARKER).touch()


class _Steps:
    """Print the number and the name of the step that begins."""

    def __init__(self, number: int) -> None:
        self._number, self._begun = number, 0

    def __call__(self, what: str) -> None:
        self._begun += 1
        print(f"{self._begun}/{self._number}  {what}", flush=True)


def _folder(output: Path, name: str) -> Path:
    return output if name == "ShakeDrop" else output / name


class _Forecast(HookBase):
    """Print once, after the first steps of pretraining, how long the demo will take."""

    def __init__(self, networks: int) -> None:
        self._networks = networks
        self._begin = 0.0
        self._is_said = False

    def after_step(self) -> None:
        first, last = _TIMED
        if self.trainer.iter == first:
            self._begin = time.perf_counter()
        elif self.trainer.iter == last and not self._is_said:
            self._is_said = True
            step = (time.perf_counter() - self._begin) / (last - first)
            steps = (
                self.trainer.max_iter
                + model_zoo.get_config(DETECTION).SOLVER.MAX_ITER * _DETECTION_STEP
            )
            minutes = self._networks * step * (steps + _REST) / 60
            line = f"\n     about {max(round(minutes), 1)} minutes in all at this speed"
            print(line, file=sys.stderr, flush=True)  # stdout is redirected to the log.


def _train_both(
    name: str, output: Path, options: Sequence[str], *, say: _Steps, forecast: _Forecast
) -> Results:
    """Train one network in both stages."""
    folder, options = _folder(output, name), [*NETWORKS[name], *options]
    say(f"Pretraining the backbone ({name}): classification of single digits")
    config = _config(PRETRAINING, folder / "pretraining", *options)
    accuracy = _train(config, forecast)["classification"]
    print(f"     top-1 accuracy on held-out digits: {accuracy['top1']:.1f} %", flush=True)
    say(f"Fine-tuning Mask R-CNN ({name}) on digit scenes")
    weights = folder / "pretraining" / "model_final.pth"
    return _train(_config(DETECTION, folder / "detection", *options, "MODEL.WEIGHTS", str(weights)))


def _config(name: str, output: Path, *options: str) -> CfgNode:
    args = argparse.Namespace(
        config_file=model_zoo.get_config_file(name), opts=["OUTPUT_DIR", str(output), *options]
    )
    return setup(args, quiet=True)


def _train(cfg: CfgNode, *hooks: HookBase) -> dict[str, Any]:
    trainer = Trainer(cfg, quiet=True)
    trainer.resume_or_load(resume=False)
    trainer.register_hooks(list(hooks))
    results = trainer.train()
    assert results is not None, "DATASETS.TEST is empty"
    return results


def _draw(names: Sequence[str], output: Path, options: Sequence[str]) -> list[Path]:
    """Draw predictions of the network with ShakeDrop, and the learning curves of all networks."""
    detection = output / "detection"
    weights = ["MODEL.WEIGHTS", str(detection / "model_final.pth")]
    cfg = _config(DETECTION, detection, *options, *weights)
    pictures = [output / f"{name}.png" for name in ("predictions", "best_predictions", "curves")]
    dataset, predictor = cfg.DATASETS.TEST[0], DefaultPredictor(cfg)
    draw_predictions(dataset, predictor, pictures[0])
    shown = ("image", "predicted")
    draw_predictions(dataset, predictor, pictures[1], num_images=2, best=True, columns=shown)
    draw_curves(
        {name: _folder(output, name) / "detection" / "metrics.json" for name in names}, pictures[2]
    )
    return pictures


def _report(
    results: dict[str, Results], pictures: list[Path], output: Path, *, minutes: float
) -> str:
    rows = [
        [f"{shape}, {name}", *(f"{metrics[task][metric]:.1f}" for metric in _METRICS)]
        for shape, task in (("box", "bbox"), ("mask", "segm"))
        for name, metrics in results.items()
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
  compare with plain:       make demo-compare, which takes twice as long
  train on your own data:   {train_net} {config} \\
                              DATASETS.TRAIN mine/train.json:mine/images \\
                              DATASETS.TEST mine/val.json:mine/images
  evaluation only:          {train_net} {config} --eval-only MODEL.WEIGHTS {weights}
  in your own pipeline:     README.md, "In your own pipeline"; your own data: docs/own_data.md
"""
