"""Apply mixup and CutMix to a training batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.transforms import v2


class BatchMixing(nn.Module):
    """Mix each image of a batch and its label with another image and its label.

    See "mixup: Beyond Empirical Risk Minimization" (Zhang et al., 2018) and "CutMix" (Yun et al.,
    2019); implemented by torchvision's transforms. The other image is the previous one in this
    process's batch, whose order is random. One mixing ratio is drawn per batch.
    """

    def __init__(
        self, num_classes: int, *, mixup_alpha: float = 0.0, cutmix_alpha: float = 0.0
    ) -> None:
        """
        Args:
            num_classes: number of classes of the labels.
            mixup_alpha: alpha of the Beta(alpha, alpha) distribution of mixup's ratio; 0 disables
                mixup.
            cutmix_alpha: the same for the area of CutMix's rectangle. If both are positive, each
                batch gets one of them with equal probability.

        Raises:
            ValueError: if an alpha is negative, naming the config key.
        """
        super().__init__()
        kinds = {"MIXUP_ALPHA": (v2.MixUp, mixup_alpha), "CUTMIX_ALPHA": (v2.CutMix, cutmix_alpha)}
        transforms = []
        for key, (kind, alpha) in kinds.items():
            if alpha < 0:
                raise ValueError(
                    f"MODEL.IMAGE_CLASSIFIER.{key} must be at least 0 (disabled), got {alpha!r}"
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
            The mixed images and (N, num_classes) soft labels; the arguments if mixing is disabled.
        """
        if not self.transforms:
            return images, labels
        # Drawn on the CPU like torchvision's transforms do, which needs no device synchronization.
        choice = int(torch.randint(len(self.transforms), ())) if len(self.transforms) > 1 else 0
        return self.transforms[choice](images, labels)
