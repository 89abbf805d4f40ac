"""Measure the angle between gradients with and without noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from shakedrop_det.modeling.classification import ImageClassifier

from .blocks import SIDES, noise, perturbed_blocks
from .images import LabelledImages


@dataclass(frozen=True)
class GradientAngles:
    """Cosine of the angle between a perturbed and the clean gradient of the same images.

    Attributes:
        blocks: mean over draws by random side, see :func:`~.blocks.noise`, and by block name, for
            the parameters of the block.
        network: values of the draws, (D,), by random side, for all trained parameters.
    """

    blocks: dict[str, dict[str, float]]
    network: dict[str, Tensor]


def gradient_angles(
    model: ImageClassifier, data: LabelledImages, *, batch_size: int, draws: int
) -> GradientAngles:
    """Compare the gradient of a training step with that of the same step without noise.

    Norms use their running statistics in both, so that only the noise differs. Each draw uses the
    next batch of images.

    Args:
        model: a classifier in eval mode.
        data: training images.
        batch_size: batch size of a step.
        draws: number of draws D.

    Raises:
        ValueError: if no block is perturbed.
    """
    blocks = perturbed_blocks(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    position = {parameter: number for number, parameter in enumerate(trained)}
    own = {
        name: [position[p] for p in block.parameters() if p in position]
        for name, block in blocks.items()
    }
    batches = _batches(data, batch_size)
    of_blocks = {side: dict.fromkeys(blocks, 0.0) for side in SIDES}
    of_network: dict[str, list[Tensor]] = {side: [] for side in SIDES}
    for _ in range(draws):
        batch = next(batches)
        clean = torch.autograd.grad(batch.loss(model), trained)
        for side in SIDES:
            with noise(model, side=side):
                loss = batch.loss(model)
            perturbed = torch.autograd.grad(loss, trained)
            of_network[side].append(_cosine(clean, perturbed))
            for name, numbers in own.items():
                cosine = _cosine([clean[n] for n in numbers], [perturbed[n] for n in numbers])
                of_blocks[side][name] += float(cosine) / draws
    return GradientAngles(of_blocks, {side: torch.stack(of_network[side]) for side in SIDES})


def _batches(data: LabelledImages, size: int) -> Iterator[LabelledImages]:
    """Yield batches in random order, endlessly."""
    while True:
        order = torch.randperm(len(data.labels)).to(data.labels.device)
        for chosen in order.split(size):
            yield LabelledImages(data.images[chosen], data.labels[chosen])


def _cosine(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    one, other = (torch.cat([tensor.flatten() for tensor in side]) for side in (first, second))
    return F.cosine_similarity(one, other, dim=0)
