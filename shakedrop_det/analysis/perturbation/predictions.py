"""Predictions of the paper's interpretation.

The paper interprets ShakeDrop as data augmentation in feature space: it displaces the features of
an image without changing its class. If that is so, the following holds.
"""

from __future__ import annotations

import math
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
"""Size of a displacement, relative to the features' spread, above which it is not negligible."""

_TINY = 1e-12


@dataclass(frozen=True)
class Prediction:
    """A prediction and its measurement.

    Attributes:
        text: the prediction as a sentence.
        value: the measured value.
        limit: the prediction holds if the value is above this.
        low, high: ends of the 95 % interval; None if there is none.
    """

    text: str
    value: float
    limit: float = 0.0
    low: float | None = None
    high: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the prediction holds; None if the interval leaves it open."""
        if self.low is None or self.high is None:
            return self.value > self.limit
        return True if self.low > self.limit else False if self.high < self.limit else None

    @property
    def measured(self) -> str:
        """The value, with its interval if there is one."""
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


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
            f"Displacements are not negligible: their median size is above {LEAST_SIZE:g} of the "
            "features' spread",
            float(np.median(sizes)),
            LEAST_SIZE,
        ),
        _above(
            "A displaced feature has more neighbours of its class than after a random displacement "
            "of equal length",
            by_kind["perturbed"] - by_kind["random"],
        ),
        _above(
            f"Its share of neighbours of its class is less than {MARGIN:g} below that of the "
            "midpoint to a neighbour of its class",
            by_kind["perturbed"] - by_kind["interpolated"],
            limit=-MARGIN,
        ),
        _above(
            "The gradient of a perturbed step has a positive cosine with that of the clean step",
            angles.network["both"],
        ),
    ]
    if plain is not None:
        found.append(
            _above(
                "The minimum is flatter: the loss of the plain network rises more along random "
                "directions",
                plain.rise - shaken.rise,
            )
        )
        found.append(
            Prediction(
                "The Hessian's eigenvalue of largest magnitude is smaller than the plain "
                "network's: the logarithm of their ratio, plain to ShakeDrop, is above 0",
                _log_magnitude(plain) - _log_magnitude(shaken),
            )
        )
    return found


def _log_magnitude(minimum: Sharpness) -> float:
    # Of two networks alike, each ratio is as likely as its inverse; only the mean of the logarithms
    # is then expected to be that of no difference.
    return math.log(max(abs(minimum.largest_eigenvalue), _TINY))


def _above(text: str, values: Tensor, *, limit: float = 0.0) -> Prediction:
    numbers = values.double().numpy(force=True)
    mean = float(numbers.mean())
    low = high = mean  # If all are equal.
    if np.ptp(numbers) > 0:
        low, high = map(float, stats.ttest_1samp(numbers, limit).confidence_interval())
    return Prediction(text, mean, limit, low, high)
