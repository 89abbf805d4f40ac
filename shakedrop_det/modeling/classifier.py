"""The meta-architecture of the classification stage."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import move_device_like
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import Tensor, nn
from torch.nn import functional as F


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """A backbone, global average pooling and one linear layer.

    The backbone may be a ResNet, or an FPN, of which only the bottom-up network is kept. It is
    stored as ``backbone.bottom_up``: the checkpoint of a classifier holds the keys of a detector
    with FPN, and goes into its ``MODEL.WEIGHTS`` as it is.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        in_feature: str = "res5",
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        """
        Args:
            backbone: see above.
            num_classes: number of classes.
            in_feature: name of the bottom-up network's feature map to classify.
            pixel_mean, pixel_std: per channel, in the order of the input's channels and in the
                units of its pixels (0 to 255).

        Raises:
            ValueError: if the backbone has no feature map of that name.
        """
        super().__init__()
        bottom_up = getattr(backbone, "bottom_up", backbone)
        shapes = bottom_up.output_shape()
        if in_feature not in shapes:
            raise ValueError(
                f"MODEL.IMAGE_CLASSIFIER.IN_FEATURE {in_feature!r} is no feature map of the "
                f"backbone; MODEL.RESNETS.OUT_FEATURES gives {', '.join(shapes)}"
            )
        self.backbone = nn.ModuleDict({"bottom_up": bottom_up})
        self.in_feature = in_feature
        self.linear = nn.Linear(shapes[in_feature].channels, num_classes)
        # "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", section 5.1.
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            "backbone": build_backbone(cfg),
            "num_classes": cfg.MODEL.IMAGE_CLASSIFIER.NUM_CLASSES,
            "in_feature": cfg.MODEL.IMAGE_CLASSIFIER.IN_FEATURE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """
        Args:
            batched_inputs: one dict per image, with ``image``, a (C, H, W) tensor of pixels from 0
                to 255, all of one size; in training also ``label``, an int.

        Returns:
            dict[str, Tensor]: in training, the loss; else a list with, for each image, a dict of
            ``scores``, the (num_classes,) probabilities.
        """
        logits = self.logits(self.preprocess_image(batched_inputs))
        if not self.training:
            return [{"scores": scores} for scores in logits.float().softmax(dim=1)]
        labels = torch.as_tensor([x["label"] for x in batched_inputs], device=self.device)
        return {"loss_cls": F.cross_entropy(logits.float(), labels)}

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """Stack the images on the model's device and normalize them: (N, C, H, W)."""
        images = [move_device_like(x["image"], self.pixel_mean) for x in batched_inputs]
        return (torch.stack(images) - self.pixel_mean) / self.pixel_std

    def logits(self, images: Tensor) -> Tensor:
        """Class scores before softmax, (N, num_classes), of normalized images (N, C, H, W)."""
        features = self.backbone["bottom_up"](images)[self.in_feature]
        return self.linear(features.mean(dim=(2, 3)))
