"""Test whether a displaced feature stays among those of its class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

INTERPOLATION = 0.5
"""Fraction of the way to the neighbour, as in "Dataset Augmentation in Feature Space" (DeVries and
Taylor 2017)."""


@dataclass(frozen=True)
class Neighbours:
    """For each image, the share of its feature's nearest clean features that have its label.

    Attributes:
        clean: (N,), for the feature itself.
        perturbed: (N,), for the feature displaced by ShakeDrop, mean over draws.
        random: (N,), for displacement by the same length in a random direction.
        interpolated: (N,), for the midpoint with the nearest feature of the same class.
    """

    clean: Tensor
    perturbed: Tensor
    random: Tensor
    interpolated: Tensor


def compare_neighbours(
    clean: Tensor,
    displacement: Tensor,
    labels: Tensor,
    *,
    num_neighbours: int,
    generator: torch.Generator | None = None,
) -> Neighbours:
    """Compare three displacements of each image's feature by the labels of its neighbours.

    The neighbours exclude the image itself, and the feature it was interpolated with.

    Args:
        clean: features, (N, C).
        displacement: displacement by ShakeDrop in D draws, (D, N, C).
        labels: class numbers, (N,).
        num_neighbours: number k of neighbours; all of them if there are fewer.
        generator: CPU generator of the random directions.

    Raises:
        ValueError: if a class has only one image.
    """
    same_label = labels[:, None] == labels
    same_label.fill_diagonal_(False)
    alone = labels[~same_label.any(dim=1)]
    if len(alone):
        raise ValueError(
            f"there is only one image of each of the classes {alone.tolist()[:10]}: raise "
            "--num-images, or name a dataset with more images per class"
        )
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)

    def share(queries: Tensor, left_out: Tensor = itself) -> Tensor:
        distance = torch.cdist(queries, clean).masked_fill(left_out, torch.inf)
        k = min(num_neighbours, len(labels) - 2)
        nearest = distance.topk(max(k, 1), largest=False).indices
        return (labels[nearest] == labels[:, None]).float().mean(dim=1)

    directions = torch.randn(displacement.shape, generator=generator).to(displacement)
    directions *= displacement.norm(dim=-1, keepdim=True) / directions.norm(dim=-1, keepdim=True)
    partner = torch.cdist(clean, clean).masked_fill(~same_label, torch.inf).argmin(dim=1)
    halfway = clean + INTERPOLATION * (clean[partner] - clean)
    return Neighbours(
        clean=share(clean),
        perturbed=torch.stack([share(clean + step) for step in displacement]).mean(dim=0),
        random=torch.stack([share(clean + step) for step in directions]).mean(dim=0),
        interpolated=share(halfway, itself | torch.eye(len(labels)).to(itself)[partner].bool()),
    )
