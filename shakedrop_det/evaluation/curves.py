"""Learning curves from the ``metrics.json`` of detectron2's trainer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shakedrop_det.utils.written import save_figure

# Shown, where a run has them, with the name for the legend.
_ACCURACIES = {
    "segm/AP": "mask AP",
    "bbox/AP": "box AP",
    "classification/top1": "top-1",
    "classification/top5": "top-5",
}
_DASHES = ["-", "--", "-.", ":"]


def draw_curves(runs: Mapping[str, str | os.PathLike[str]], output: str | os.PathLike[str]) -> None:
    """Draw the training loss and the held-out accuracy of some runs, each in its own colour.

    Args:
        runs: for each run, its name for the legend and its ``metrics.json``.
        output: the image to write, 1500x600 if it is a PNG. Its folder is made if need be.

    Raises:
        FileNotFoundError: if a run has no such file.
        ValueError: if there are no runs, or a file is no ``metrics.json`` or holds no loss.
    """
    if not runs:
        raise ValueError("runs is empty: name at least one metrics.json")
    figure = Figure(figsize=(10, 4), dpi=150, layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    for index, (name, path) in enumerate(runs.items()):
        metrics = read_metrics(path)
        if "total_loss" not in metrics:
            raise ValueError(f"{path} holds no total_loss: the run has not logged a training step")
        _draw_loss(losses, metrics["total_loss"], name=name, colour=f"C{index}")
        shown = [key for key in _ACCURACIES if key in metrics]
        for number, key in enumerate(shown):
            # Colours tell runs apart, or the metrics of a single one.
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
    """The scalars of a ``metrics.json``.

    Args:
        path: a file of one JSON object per line, as detectron2's ``JSONWriter`` writes.

    Returns:
        For each scalar an (N, 2) array of iterations, ascending, and values. Where a resumed run
        repeats an iteration, the later value counts.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is something else, naming the line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist: give the metrics.json of a training run")
    series: dict[str, dict[int, float]] = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        try:
            scalars = json.loads(line)
            iteration = int(scalars["iteration"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {number} of {path} is no JSON object with an 'iteration': "
                "give the metrics.json of a training run"
            ) from error
        for key, value in scalars.items():
            series.setdefault(key, {})[iteration] = float(value)
    return {key: np.array(sorted(values.items())) for key, values in series.items()}


def _draw_loss(axes: Axes, points: np.ndarray, *, name: str, colour: str) -> None:
    iterations, values = points.T
    axes.plot(iterations, values, color=colour, alpha=0.25, linewidth=1)
    # A running mean over about a twentieth of the run, shorter at its ends rather than padded.
    width = max(len(values) // 20, 1)
    ones = np.ones(width)
    mean = np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
    axes.plot(iterations, mean, color=colour, label=name)
