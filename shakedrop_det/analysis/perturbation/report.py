"""Run all measurements on one network, and report them as a table and a plot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from shakedrop_det.modeling.classification import ImageClassifier
from shakedrop_det.utils.written import save_figure

from .blocks import SIDES
from .features import BlockFeatures, perturbed_features
from .gradients import GradientAngles, gradient_angles
from .images import LabelledImages
from .neighbours import Neighbours, compare_neighbours
from .predictions import Prediction, predictions
from .sharpness import Sharpness, sharpness

STEPS = (-0.5, -0.4, -0.3, -0.2, -0.1, 0.1, 0.2, 0.3, 0.4, 0.5)
_KINDS = {
    "clean": "not displaced",
    "perturbed": "by ShakeDrop",
    "random": "as far, random direction",
    "interpolated": "half way to a neighbour of the class",
}


@dataclass(frozen=True)
class Measured:
    """The measurements on one network.

    Attributes:
        features: features of each block.
        neighbours: neighbours in each block.
        angles: gradient angles.
        shaken: sharpness of the network.
        plain: sharpness of the network trained without ShakeDrop; None if not available.
    """

    features: list[BlockFeatures]
    neighbours: list[Neighbours]
    angles: GradientAngles
    shaken: Sharpness
    plain: Sharpness | None

    @property
    def predictions(self) -> list[Prediction]:
        sizes = [block.relative_size for block in self.features]
        return predictions(sizes, self.neighbours, self.angles, self.shaken, self.plain)


def measure(
    model: ImageClassifier,
    held_out: LabelledImages,
    training: LabelledImages,
    *,
    plain: ImageClassifier | None = None,
    draws: int = 8,
    num_neighbours: int = 10,
    batch_size: int = 64,
    directions: int = 10,
    iterations: int = 50,
    seed: int = 0,
) -> Measured:
    """Measure a trained classifier with ShakeDrop.

    Args:
        model: a classifier in eval mode.
        held_out: images for the comparison of features.
        training: images for gradients and loss.
        plain: the same network trained without ShakeDrop, in eval mode.
        draws: number of draws of the noise, for each block and image, and for gradients.
        num_neighbours: see :func:`compare_neighbours`.
        batch_size: batch size for gradients.
        directions, iterations: see :func:`sharpness`.
        seed: seed of all random numbers.

    Raises:
        ValueError: if no block is perturbed, or a class has only one image.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    features = perturbed_features(model, held_out.images, draws=draws)
    neighbours = [
        compare_neighbours(
            block.clean,
            block.displacement,
            held_out.labels,
            num_neighbours=num_neighbours,
            generator=generator,
        )
        for block in features
    ]
    angles = gradient_angles(model, training, batch_size=batch_size, draws=draws)

    def minimum(network: ImageClassifier) -> Sharpness:
        same = torch.Generator().manual_seed(seed)
        return sharpness(
            network,
            training,
            steps=STEPS,
            directions=directions,
            iterations=iterations,
            generator=same,
        )

    return Measured(
        features, neighbours, angles, minimum(model), None if plain is None else minimum(plain)
    )


def report(measured: Measured) -> str:
    """Format markdown tables of the predictions, the blocks, and the loss around the minimum."""
    verdicts = {True: "holds", False: "does not hold", None: "open"}
    rows = [[p.text, p.measured, verdicts[p.holds]] for p in measured.predictions]
    parts = [_table(["prediction", "measured (95 % interval)", "verdict"], rows)]
    blocks = []
    for block, near in zip(measured.features, measured.neighbours, strict=True):
        shares = [f"{getattr(near, kind).mean():.3f}" for kind in _KINDS]
        cosines = [f"{measured.angles.blocks[side][block.name]:.3f}" for side in SIDES]
        prob, size = f"{block.survival_prob:.3f}", f"{block.relative_size:.3f}"
        blocks.append([block.name, prob, size, *shares, *cosines])
    headers = ["block", "p_l", "size", *_KINDS, *(f"cosine, {side}" for side in SIDES)]
    parts.append(_table(headers, blocks))
    networks = {"with ShakeDrop": measured.shaken, "plain": measured.plain}
    minima = [
        [name, f"{s.loss:.4f}", f"{s.rise.mean():.4f}", f"{s.largest_eigenvalue:.4g}"]
        for name, s in networks.items()
        if s is not None
    ]
    headers = ["network", "training loss", f"rise at a step of {STEPS[-1]}", "largest eigenvalue"]
    parts.append(_table(headers, minima))
    return "\n\n".join(parts) + "\n"


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
    for name, minimum in {"with ShakeDrop": measured.shaken, "plain": measured.plain}.items():
        if minimum is not None:
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
