"""Measure how sharp a minimum is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shakedrop_det.modeling.classification import ImageClassifier

from .images import LabelledImages


@dataclass(frozen=True)
class Sharpness:
    """The loss around the weights of a network, at test time.

    Attributes:
        loss: loss at the weights.
        steps: (S,), step sizes along a direction, in units of the filters' norms.
        losses: (D, S), loss at each step in D directions.
        largest_eigenvalue: eigenvalue of largest magnitude of the Hessian of the loss.
    """

    loss: float
    steps: Tensor
    losses: Tensor
    largest_eigenvalue: float

    @property
    def rise(self) -> Tensor:
        """Increase of the loss at the last step, (D,)."""
        return self.losses[:, -1] - self.loss


def sharpness(
    model: ImageClassifier,
    data: LabelledImages,
    *,
    steps: Sequence[float],
    directions: int,
    iterations: int,
    generator: torch.Generator | None = None,
) -> Sharpness:
    """Measure how the loss rises around the trained weights, along directions and by curvature.

    Args:
        model: a classifier in eval mode.
        data: training images, which pass through the network in one batch.
        steps: see :class:`Sharpness`.
        directions: number of random directions, see :func:`filter_normalized`.
        iterations: see :func:`largest_eigenvalue`.
        generator: CPU generator of the directions.
    """
    weights: dict[str, Tensor] = {
        name: p for name, p in model.named_parameters() if p.requires_grad
    }
    with torch.no_grad():
        loss = float(data.loss(model))
        losses = [
            [_loss_at(model, data, weights, direction, step) for step in steps]
            for direction in (filter_normalized(weights, generator) for _ in range(directions))
        ]
    eigenvalue = largest_eigenvalue(
        lambda: data.loss(model), list(weights.values()), iterations=iterations
    )
    return Sharpness(loss, torch.tensor(steps), torch.tensor(losses), eigenvalue)


def filter_normalized(
    weights: dict[str, Tensor], generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Draw a random direction whose filters have the norms of the network's filters.

    See "Visualizing the Loss Landscape of Neural Nets" (Li et al. 2018), section 4: otherwise, a
    network looks sharper just because its weights are smaller. Biases and norms stay fixed.

    Args:
        weights: weights by name. The first axis of those with two or more axes indexes the filters.
        generator: CPU generator of the direction.

    Returns:
        dict: direction for each weight, of the same shape.
    """
    found = {}
    for name, weight in weights.items():
        if weight.dim() < 2:
            found[name] = torch.zeros_like(weight)
            continue
        direction = torch.randn(weight.shape, generator=generator).to(weight)
        axes = tuple(range(1, weight.dim()))
        norms = [
            torch.linalg.vector_norm(t, dim=axes, keepdim=True)
            for t in (weight.detach(), direction)
        ]
        found[name] = direction * (norms[0] / norms[1])
    return found


def _loss_at(
    model: ImageClassifier,
    data: LabelledImages,
    weights: dict[str, Tensor],
    direction: dict[str, Tensor],
    step: float,
) -> float:
    before = {name: weight.clone() for name, weight in weights.items()}
    try:
        for name, weight in weights.items():
            weight.add_(direction[name], alpha=step)
        return float(data.loss(model))
    finally:
        for name, weight in weights.items():
            weight.copy_(before[name])


def largest_eigenvalue(
    loss: Callable[[], Tensor],
    weights: Sequence[Tensor],
    *,
    iterations: int,
    tolerance: float = 1e-3,
) -> float:
    """Compute the eigenvalue of largest magnitude of a loss's Hessian, by power iteration.

    Args:
        loss: function that computes the loss, twice differentiable almost everywhere.
        weights: tensors to differentiate by.
        iterations: maximum number of iterations.
        tolerance: relative difference of successive estimates at which to stop.
    """
    gradients = torch.autograd.grad(loss(), weights, create_graph=True)
    vector = [torch.randn_like(weight) for weight in weights]
    estimate = 0.0
    for _ in range(iterations):
        norm = torch.stack([v.square().sum() for v in vector]).sum().sqrt()
        vector = [v / norm for v in vector]
        product = torch.autograd.grad(
            gradients, weights, grad_outputs=vector, retain_graph=True, materialize_grads=True
        )
        before = estimate
        estimate = float(sum((v * p).sum() for v, p in zip(vector, product, strict=True)))
        if abs(estimate - before) <= tolerance * abs(estimate):
            break
        vector = list(product)
    return estimate
