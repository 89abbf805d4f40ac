"""The meta-architecture of the classification stage."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import move_device_like
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import Tensor, nn
from torch.nn import functional as F

from .batch_mixing import BatchMixing


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
        label_smoothing: float = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
    ) -> None:
        """
        Args:
            backbone: see above.
            num_classes: number of classes.
            in_feature: name of the bottom-up network's feature map to classify.
            pixel_mean, pixel_std: per channel, in the order of the input's channels and in the
                units of its pixels (0 to 255).
            label_smoothing: part of each target, in [0, 1), that is spread evenly over all classes.
            mixup_alpha, cutmix_alpha: see :class:`BatchMixing`.

        Raises:
            ValueError: if the backbone has no feature map of that name, or a number is out of its
                range; the message names the config key.
        """
        super().__init__()
        bottom_up = getattr(backbone, "bottom_up", backbone)
        shapes = bottom_up.output_shape()
        if in_feature not in shapes:
            raise ValueError(
                f"MODEL.IMAGE_CLASSIFIER.IN_FEATURE {in_feature!r} is not a feature map of the "
                f"backbone; MODEL.RESNETS.OUT_FEATURES gives {', '.join(shapes)}"
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"MODEL.IMAGE_CLASSIFIER.LABEL_SMOOTHING must be in [0, 1), got {label_smoothing!r}"
            )
        self.label_smoothing = label_smoothing
        self.mixing = BatchMixing(num_classes, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
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
        node = cfg.MODEL.IMAGE_CLASSIFIER
        return {
            "backbone": build_backbone(cfg),
            "num_classes": node.NUM_CLASSES,
            "in_feature": node.IN_FEATURE,
            "label_smoothing": node.LABEL_SMOOTHING,
            "mixup_alpha": node.MIXUP_ALPHA,
            "cutmix_alpha": node.CUTMIX_ALPHA,
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
        if not batched_inputs:  # Each image of a batch was unreadable.
            return []
        images = self.preprocess_image(batched_inputs)
        if not self.training:
            return [{"scores": scores} for scores in self.logits(images).float().softmax(dim=1)]
        labels = torch.as_tensor([x["label"] for x in batched_inputs], device=self.device)
        images, targets = self.mixing(images, labels)
        loss = F.cross_entropy(
            self.logits(images).float(), targets, label_smoothing=self.label_smoothing
        )
        return {"loss_cls": loss}

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """Stack the images on the model's device and normalize them: (N, C, H, W)."""
        images = [move_device_like(x["image"], self.pixel_mean) for x in batched_inputs]
        return (torch.stack(images) - self.pixel_mean) / self.pixel_std

    def logits(self, images: Tensor) -> Tensor:
        """Class scores before softmax, (N, num_classes), of normalized images (N, C, H, W)."""
        features = self.backbone["bottom_up"](images)[self.in_feature]
        return self.linear(features.mean(dim=(2, 3)))
