"""Report the measurements on one network as tables, as data, and as a plot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from shakedrop_det.utils.written import save_figure

from .blocks import SIDES
from .measure import STEPS, Measured

_KINDS = {
    "clean": "not displaced",
    "perturbed": "by ShakeDrop",
    "random": "as far, random direction",
    "interpolated": "half way to a neighbour of the class",
}


def report(measured: Measured) -> str:
    """Format markdown tables of the predictions, the blocks, and the loss around the minimum."""
    verdicts = {True: "holds", False: "does not hold", None: "open"}
    rows = [[p.text, p.measured, verdicts[p.holds]] for p in measured.predictions]
    parts = [_table(["prediction", "measured (95 % interval)", "verdict"], rows)]
    blocks = [
        [
            block["name"],
            *(
                f"{value:.3f}"
                for value in (
                    block["survival_prob"],
                    block["size"],
                    *block["neighbours"].values(),
                    *block["cosines"].values(),
                )
            ),
        ]
        for block in _blocks(measured)
    ]
    headers = ["block", "p_l", "size", *_KINDS, *(f"cosine, {side}" for side in SIDES)]
    parts.append(_table(headers, blocks))
    minima = [
        [name, f"{s.loss:.4f}", f"{s.rise.mean():.4f}", f"{s.largest_eigenvalue:.4g}"]
        for name, s in measured.minima.items()
    ]
    rise = f"rise at a step of {STEPS[-1]}"
    headers = ["network", "training loss", rise, "eigenvalue of largest magnitude"]
    parts.append(_table(headers, minima))
    return "\n\n".join(parts) + "\n"


def as_record(measured: Measured) -> dict[str, Any]:
    """Return the measurements as plain data for a JSON file.

    Returns:
        dict: "predictions", the fields of each :class:`.Prediction`; "blocks", for each block its
        size, shares of neighbours and cosines; "minima", the loss around the minimum, by network.
    """
    return {
        "predictions": [asdict(prediction) for prediction in measured.predictions],
        "blocks": _blocks(measured),
        "minima": {
            name: {
                "loss": minimum.loss,
                "steps": minimum.steps.tolist(),
                "losses": minimum.losses.mean(dim=0).tolist(),
                "largest_eigenvalue": minimum.largest_eigenvalue,
            }
            for name, minimum in measured.minima.items()
        },
    }


def _blocks(measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "name": block.name,
            "survival_prob": block.survival_prob,
            "size": block.relative_size,
            "neighbours": {kind: float(getattr(near, kind).mean()) for kind in _KINDS},
            "cosines": {side: measured.angles.blocks[side][block.name] for side in SIDES},
        }
        for block, near in zip(measured.features, measured.neighbours, strict=True)
    ]


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def draw(measured: Measured, output: str | os.PathLike[str]) -> None:
    """Plot the measurements by block, and the loss around the minimum.

    Args:
        measured: see :func:`measure`.
        output: path of the image to write. Its folder is created if missing.
    """
    figure = Figure(figsize=(11, 7.5), dpi=120, layout="constrained")
    sizes, shares, cosines, losses = figure.subplots(2, 2).flat
    blocks = range(1, len(measured.features) + 1)
    sizes.plot(blocks, [block.relative_size for block in measured.features], "o-", markersize=3)
    _label(sizes, "Size of the displacement", "relative to the features' spread")
    for kind, text in _KINDS.items():
        means = [float(getattr(near, kind).mean()) for near in measured.neighbours]
        shares.plot(blocks, means, "o-", markersize=3, label=text)
    _label(shares, "Neighbours of the same class", "share")
    for side in SIDES:
        values = list(measured.angles.blocks[side].values())
        cosines.plot(blocks, values, "o-", markersize=3, label=f"{side} random")
    _label(cosines, "Perturbed against clean gradient", "cosine")
    for name, minimum in measured.minima.items():
        losses.plot(minimum.steps, minimum.losses.mean(dim=0), "o-", markersize=3, label=name)
    _label(losses, "Training loss around the minimum", "loss")
    losses.set_xlabel("step along filter-normalized directions")
    for axes in (sizes, shares, cosines):
        axes.set_xlabel("block")
    for axes in (shares, cosines, losses):
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, output)


def _label(axes: Axes, title: str, ylabel: str) -> None:
    axes.set(title=title, ylabel=ylabel)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
