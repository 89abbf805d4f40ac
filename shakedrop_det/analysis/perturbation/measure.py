"""Run all measurements on one network."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from shakedrop_det.modeling.classification import ImageClassifier

from .features import BlockFeatures, perturbed_features
from .gradients import GradientAngles, gradient_angles
from .images import LabelledImages
from .neighbours import Neighbours, compare_neighbours
from .predictions import Prediction, predictions
from .sharpness import Sharpness, sharpness

STEPS = (-0.5, -0.4, -0.3, -0.2, -0.1, 0.1, 0.2, 0.3, 0.4, 0.5)


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
    def minima(self) -> dict[str, Sharpness]:
        """Sharpness by the name of the network."""
        networks = {"with ShakeDrop": self.shaken, "plain": self.plain}
        return {name: minimum for name, minimum in networks.items() if minimum is not None}

    @property
    def predictions(self) -> list[Prediction]:
        sizes = [block.relative_size for block in self.features]
        return predictions(sizes, self.neighbours, self.angles, self.shaken, self.plain)


def check_draws(draws: int) -> None:
    """Check that there are at least the two draws of the noise that an interval needs.

    Raises:
        ValueError: if not.
    """
    if draws < 2:
        raise ValueError(f"--draws must be at least 2, for an interval, got {draws}")


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
        draws: number of draws of the noise, for each block and image, and for gradients; at least
            2, which an interval needs.
        num_neighbours: see :func:`compare_neighbours`.
        batch_size: batch size for gradients.
        directions, iterations: see :func:`sharpness`.
        seed: seed of all random numbers.

    Raises:
        ValueError: if no block is perturbed, a class has only one image, or ``draws`` is too low.
    """
    check_draws(draws)
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
