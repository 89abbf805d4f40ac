"""The meta-architecture for image classification."""

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
    """An image classifier: a backbone, global average pooling and one linear layer.

    The backbone is a ResNet, or an FPN of which only the bottom-up network is kept. It is stored as
    ``backbone.bottom_up``, so that a classifier's checkpoint has the keys of a detector with FPN
    and can be its ``MODEL.WEIGHTS`` without conversion.
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
            backbone: a ResNet or an FPN, see above.
            num_classes: number of classes.
            in_feature: name of the bottom-up network's feature map to classify.
            pixel_mean, pixel_std: values per channel, in the order of the input's channels and in
                the units of its pixels (0 to 255).
            label_smoothing: fraction of each target, in [0, 1), that is spread over all classes.
            mixup_alpha, cutmix_alpha: see :class:`BatchMixing`.

        Raises:
            ValueError: if the backbone has no feature map ``in_feature``, or a number is out of
                range, naming the config key.
        """
        super().__init__()
        bottom_up = getattr(backbone, "bottom_up", backbone)
        shapes = bottom_up.output_shape()
        if in_feature not in shapes:
            raise ValueError(
                f"MODEL.IMAGE_CLASSIFIER.IN_FEATURE {in_feature!r} is not a feature map of the "
                f"backbone; MODEL.RESNETS.OUT_FEATURES has {', '.join(shapes)}"
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
                to 255, all of the same size; in training also ``label``, an int.

        Returns:
            dict[str, Tensor]: the loss in training. Otherwise a list with a dict for each image,
            whose ``scores`` are the (num_classes,) probabilities.
        """
        if not batched_inputs:  # No image of the batch was readable.
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
        """Normalize the images on the model's device, and stack them to (N, C, H, W)."""
        images = [move_device_like(x["image"], self.pixel_mean) for x in batched_inputs]
        return (torch.stack(images) - self.pixel_mean) / self.pixel_std

    def logits(self, images: Tensor) -> Tensor:
        """Return logits, (N, num_classes), for normalized images, (N, C, H, W)."""
        features = self.backbone["bottom_up"](images)[self.in_feature]
        return self.linear(features.mean(dim=(2, 3)))
