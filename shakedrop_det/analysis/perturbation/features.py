"""Compute the clean and the perturbed features of each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shakedrop_det.modeling import ShakenBlock
from shakedrop_det.modeling.classification import ImageClassifier

from .blocks import perturbed_blocks, perturbed_output

_BATCH = 256


@dataclass(frozen=True)
class BlockFeatures:
    """The output of one block, averaged over pixels as the classifier does.

    Attributes:
        name: name of the block.
        survival_prob: p_l, the probability that a training step does not perturb the block.
        clean: (N, C), features at test time.
        perturbed: (D, N, C), of D draws with a closed gate, and earlier blocks as at test time.
    """

    name: str
    survival_prob: float
    clean: Tensor
    perturbed: Tensor

    @property
    def displacement(self) -> Tensor:
        """The displacement of the features by ShakeDrop, (D, N, C)."""
        return self.perturbed - self.clean

    @property
    def relative_size(self) -> float:
        """Root mean square of the displacement, relative to that of the centred features."""
        spread = (self.clean - self.clean.mean(dim=0)).square().sum(dim=-1).mean()
        return float((self.displacement.square().sum(dim=-1).mean() / spread).sqrt())


@torch.no_grad()
def perturbed_features(
    model: ImageClassifier, images: Tensor, *, draws: int
) -> list[BlockFeatures]:
    """Compute the features of each block that training perturbs, in the network's order.

    Args:
        model: a classifier in eval mode.
        images: normalized images, (N, C, H, W).
        draws: number of draws D of the scales for each block and image.

    Raises:
        ValueError: if no block is perturbed.
    """
    blocks = perturbed_blocks(model)
    clean: dict[str, list[Tensor]] = {name: [] for name in blocks}
    perturbed: dict[str, list[Tensor]] = {name: [] for name in blocks}

    def watch(name: str) -> Any:
        def hook(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(block, ShakenBlock)
            outputs = [perturbed_output(block, inputs[0]) for _ in range(draws)]
            perturbed[name].append(torch.stack([_pooled(out) for out in outputs]))
            clean[name].append(_pooled(output))

        return hook

    handles = [block.register_forward_hook(watch(name)) for name, block in blocks.items()]
    try:
        for batch in images.split(_BATCH):
            model.logits(batch)
    finally:
        for handle in handles:
            handle.remove()
    return [
        BlockFeatures(
            name=name,
            survival_prob=block.survival_prob,
            clean=torch.cat(clean[name]),
            perturbed=torch.cat(perturbed[name], dim=1),
        )
        for name, block in blocks.items()
    ]


def _pooled(features: Tensor) -> Tensor:
    return features.float().mean(dim=(2, 3))
