"""mixup and CutMix of a training batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.transforms import v2


class BatchMixing(nn.Module):
    """Mix each image of a batch with its neighbour, and its label with that one's.

    Of "mixup: Beyond Empirical Risk Minimization" (Zhang et al., 2018) and "CutMix" (Yun et al.,
    2019), by torchvision's transforms. The neighbour is the previous image of the same process's
    batch, whose order is random; one share is drawn per batch.
    """

    def __init__(
        self, num_classes: int, *, mixup_alpha: float = 0.0, cutmix_alpha: float = 0.0
    ) -> None:
        """
        Args:
            num_classes: number of classes of the labels.
            mixup_alpha: mixup's share of the other image is drawn from Beta(alpha, alpha); 0
                switches mixup off.
            cutmix_alpha: the same for the area of CutMix's rectangle. With both, each batch gets
                one of them with equal probability.

        Raises:
            ValueError: if an alpha is negative, naming the config key.
        """
        super().__init__()
        kinds = {"MIXUP_ALPHA": (v2.MixUp, mixup_alpha), "CUTMIX_ALPHA": (v2.CutMix, cutmix_alpha)}
        transforms = []
        for key, (kind, alpha) in kinds.items():
            if alpha < 0:
                raise ValueError(
                    f"MODEL.IMAGE_CLASSIFIER.{key} must be at least 0, which is off; got {alpha!r}"
                )
            if alpha > 0:
                transforms.append(kind(alpha=alpha, num_classes=num_classes))
        self.transforms = nn.ModuleList(transforms)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            images: (N, C, H, W).
            labels: (N,) integers.

        Returns:
            The mixed images and (N, num_classes) soft labels; what was given if mixing is off.
        """
        if not self.transforms:
            return images, labels
        # Drawn on the CPU, as torchvision's transforms do: no device has to be waited for.
        choice = int(torch.randint(len(self.transforms), ())) if len(self.transforms) > 1 else 0
        return self.transforms[choice](images, labels)
