"""Predictions of the paper's interpretation, stated before measuring.

The paper interprets ShakeDrop as data augmentation in feature space: it displaces the features of
an image without changing its class. If that is so, the following holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from scipy import stats
from torch import Tensor

from .gradients import GradientAngles
from .neighbours import Neighbours
from .sharpness import Sharpness

MARGIN = 0.05
"""Share of neighbours by which interpolation may be better than ShakeDrop at most."""

LEAST_SIZE = 0.1
"""Minimum size of a displacement, relative to the features' spread, to count as augmentation."""


@dataclass(frozen=True)
class Prediction:
    """A prediction and its measurement.

    Attributes:
        text: the prediction as a sentence.
        measured: the measured value with its 95 % interval.
        holds: whether the prediction holds; None if the interval leaves it open.
    """

    text: str
    measured: str
    holds: bool | None


def predictions(
    sizes: Sequence[float],
    neighbours: Sequence[Neighbours],
    angles: GradientAngles,
    shaken: Sharpness,
    plain: Sharpness | None,
) -> list[Prediction]:
    """Compare each prediction with the measurements of one network.

    The intervals are Student's t, over the images for neighbours, whose shares are first averaged
    over blocks, over the draws for gradients, and over the directions for the loss.

    Args:
        sizes: relative size of the displacement in each block.
        neighbours: neighbours in each block.
        angles: gradient angles.
        shaken: sharpness of the network.
        plain: sharpness of the same network trained without ShakeDrop, if available.
    """
    by_kind = {
        kind: sum(getattr(block, kind) for block in neighbours) / len(neighbours)
        for kind in ("perturbed", "random", "interpolated")
    }
    found = [
        Prediction(
            f"Displacements are not negligible: their median size is at least {LEAST_SIZE:g} "
            "of the features' spread",
            f"{np.median(sizes):.3f}",
            bool(np.median(sizes) >= LEAST_SIZE),
        ),
        _positive(
            "A displaced feature has more neighbours of its class than after a random displacement "
            "of equal length",
            by_kind["perturbed"] - by_kind["random"],
        ),
        _positive(
            f"Its share of neighbours of its class is at most {MARGIN:g} below that of the "
            "midpoint to a neighbour of its class",
            by_kind["perturbed"] - by_kind["interpolated"],
            above=-MARGIN,
        ),
        _positive(
            "The gradient of a perturbed step has a positive cosine with that of the clean step",
            angles.network["both"],
        ),
    ]
    if plain is not None:
        found.append(
            _positive(
                "The minimum is flatter: the loss of the plain network rises more along random "
                "directions",
                plain.rise - shaken.rise,
            )
        )
        found.append(
            Prediction(
                "The largest eigenvalue of the Hessian is smaller than the plain network's",
                f"{shaken.largest_eigenvalue:.3g} against {plain.largest_eigenvalue:.3g}",
                shaken.largest_eigenvalue < plain.largest_eigenvalue,
            )
        )
    return found


def _positive(text: str, values: Tensor, *, above: float = 0.0) -> Prediction:
    numbers = values.double().numpy(force=True)
    mean = float(numbers.mean())
    low = high = mean  # If all are equal.
    if np.ptp(numbers) > 0:
        low, high = stats.ttest_1samp(numbers, above).confidence_interval()
    measured = f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
    holds = True if low > above else False if high < above else None
    return Prediction(text, measured, holds)
