"""Learning curves from the ``metrics.json`` of detectron2's trainer."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shakedrop_det.utils.written import save_figure

# Metrics to plot if a run has them, with their names in the legend.
_ACCURACIES = {
    "segm/AP": "mask AP",
    "bbox/AP": "box AP",
    "classification/top1": "top-1",
    "classification/top5": "top-5",
}
_DASHES = ["-", "--", "-.", ":"]


def draw_curves(runs: Mapping[str, str | os.PathLike[str]], output: str | os.PathLike[str]) -> None:
    """Plot the training loss and the held-out accuracy of several runs, one colour per run.

    Args:
        runs: path of ``metrics.json`` by the run's name in the legend.
        output: image to write, 1500x600 pixels if a PNG. Its folder is created if missing.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if there are no runs, or a file is not a ``metrics.json`` or has no loss.
    """
    if not runs:
        raise ValueError("runs is empty: name at least one metrics.json")
    figure = Figure(figsize=(10, 4), dpi=150, layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    for index, (name, path) in enumerate(runs.items()):
        metrics = read_metrics(path)
        if "total_loss" not in metrics:
            raise ValueError(f"{path} has no total_loss: the run has not logged a training step")
        _draw_loss(losses, metrics["total_loss"], name=name, colour=f"C{index}")
        shown = [key for key in _ACCURACIES if key in metrics]
        for number, key in enumerate(shown):
            # Colours distinguish runs, or the metrics of a single run.
            several = len(runs) > 1
            style = {"color": f"C{index if several else number}", "marker": "o", "markersize": 3}
            label = f"{name}, {_ACCURACIES[key]}" if several else _ACCURACIES[key]
            accuracies.plot(*metrics[key].T, _DASHES[number], label=label, **style)
    losses.set(title="training loss", xlabel="iteration")
    accuracies.set(title="held-out accuracy", xlabel="iteration", ylabel="%")
    for axes in (losses, accuracies):
        axes.set(xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0] and (axes is accuracies or len(runs) > 1):
            axes.legend(frameon=False)
    save_figure(figure, output)


def read_metrics(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the scalars of a ``metrics.json``.

    Args:
        path: file with one JSON object per line, as written by detectron2's ``JSONWriter``.

    Returns:
        For each scalar, an (N, 2) array of ascending iterations and values. If a resumed run
        repeats an iteration, the later value is used.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if no line is valid. If some are not, e.g. of a run that was killed while it
            wrote, they are skipped with a warning.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist: name the metrics.json of a training run")
    series: dict[str, dict[int, float]] = {}
    skipped = []
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        try:
            scalars = {key: float(value) for key, value in json.loads(line).items()}
            iteration = int(scalars["iteration"])
        except (ValueError, KeyError, TypeError, AttributeError):
            skipped.append(number)
            continue
        for key, value in scalars.items():
            series.setdefault(key, {})[iteration] = value
    if skipped and not series:
        raise ValueError(
            f"{path} has no line that is a JSON object with an 'iteration': name the metrics.json "
            "of a training run"
        )
    if skipped:
        logging.getLogger(__name__).warning(
            "Skipped lines of %s that are not JSON objects with an 'iteration': %s",
            path,
            ", ".join(map(str, skipped[:10])) + (", ..." if len(skipped) > 10 else ""),
        )
    return {key: np.array(sorted(values.items())) for key, values in series.items()}


def _draw_loss(axes: Axes, points: np.ndarray, *, name: str, colour: str) -> None:
    iterations, values = points.T
    axes.plot(iterations, values, color=colour, alpha=0.25, linewidth=1)
    # Running mean over about a twentieth of the run; at the ends the window shrinks, unpadded.
    width = max(len(values) // 20, 1)
    ones = np.ones(width)
    mean = np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
    axes.plot(iterations, mean, color=colour, label=name)
