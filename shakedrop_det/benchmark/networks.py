"""Training steps of blocks, backbones and Mask R-CNN, and inference of a folded backbone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from detectron2.modeling import build_model
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from shakedrop_det.layers import ShakeDropSpec
from shakedrop_det.model_zoo import stock
from shakedrop_det.modeling import fold, shake

from .junctions import PUBLIC, STOCK
from .rivals import AdditionBlock, PublicBlock, StochasticDepthBlock, replace_bottlenecks
from .timing import Variants

STOCHASTIC_DEPTH = "torchvision StochasticDepth"
ADDITION = "addition and ReLU alone"
Settings = Mapping[str, Mapping[str, Any]]
"""Arguments of :class:`ShakeDropSpec` by variant of ours, in the paper's form like the rivals."""
OURS: Settings = {
    "ours": {},
    "ours, EraseReLU": {"alpha": (-1.0, 1.0), "erase_relu": True},
}
RANDOM_DROP: Settings = {"ours, RandomDrop": {"beta": (0.0, 0.0)}}


def networks(
    network: nn.Module,
    *,
    rivals: Mapping[str, type[nn.Module]] | None = None,
    ours: Settings = OURS,
    survival_prob: float = 0.5,
    decay: str = "linear",
) -> dict[str, nn.Module]:
    """Return the stock network and copies of it with other blocks, all with equal weights.

    Args:
        network: network with stock bottleneck blocks.
        rivals: other block types by variant name; by default the public formulation.
        ours: settings of our variants.
        survival_prob, decay: settings of all but the stock network; rivals ignore ``decay``.
    """
    rivals = {PUBLIC: PublicBlock} if rivals is None else rivals
    found = {STOCK: network}
    for name, block_type in rivals.items():
        found[name] = replace_bottlenecks(copy.deepcopy(network), block_type, survival_prob)
    for name, settings in ours.items():
        spec = ShakeDropSpec(**settings, survival_prob=survival_prob, decay=decay, inverted=False)
        found[name] = shake(copy.deepcopy(network), spec)
    return found


def step_variants(
    found: Mapping[str, nn.Module], images: Any, *, autocast: torch.dtype | None = None
) -> dict[str, Callable[[], Tensor]]:
    """Build the forward and backward pass of each network, without the optimizer step.

    As in detectron2's trainer, detectors log to an event storage.

    Args:
        found: networks by name.
        images: inputs of the networks.
        autocast: dtype of autocast on a GPU; None for float32.
    """

    def variant(network: nn.Module) -> Callable[[], Tensor]:
        def step() -> Tensor:
            for parameter in network.parameters():
                parameter.grad = None
            with EventStorage(), torch.autocast("cuda", autocast, enabled=autocast is not None):
                loss = total(network(images))
            loss.backward()
            return loss

        return step

    return {name: variant(network) for name, network in found.items()}


def total(outputs: Any) -> Tensor:
    """Sum the losses of a detector, or the means of a backbone's feature maps."""
    values = outputs.values() if isinstance(outputs, dict) else [outputs]
    return torch.stack([value.float().mean() for value in values]).sum()


def with_addition(network: nn.Module, **settings: Any) -> dict[str, nn.Module]:
    """Return :func:`networks`, and one whose junctions are only an addition and a ReLU."""
    rivals: dict[str, type[nn.Module]] = {PUBLIC: PublicBlock, ADDITION: AdditionBlock}
    return networks(network, rivals=rivals, **settings)


def blocks(norm: str, device: str) -> tuple[nn.Module, Tensor]:
    """Build three bottleneck blocks of res3 that keep the resolution, and their input."""
    stage = nn.Sequential(
        *(BottleneckBlock(512, 512, bottleneck_channels=128, norm=norm) for _ in range(3))
    )
    _calm(stage)
    shape = (2, 512, 100, 168) if _on_gpu(device) else (4, 512, 28, 28)
    return stage.to(device).train(), torch.randn(shape, device=device).relu()


def resnet(norm: str, *, depth: int = 50, width: int = 64, device: str) -> tuple[ResNet, Tensor]:
    """Build a ResNet without frozen stages, and its images.

    On a CPU these are two of 224 pixels. A GPU gets what it is given in training: two of 800 x 1344
    pixels with FrozenBN as in detection, otherwise 64 of 224 as in classification.

    Args:
        norm: norm of all layers.
        depth: 50 or 101.
        width: WIDTH_PER_GROUP. With 4 instead of 64 the convolutions are cheap, and most of the
            time is spent between them.
        device: device to build the network on.
    """
    stages, in_channels = [], width
    for index, num_blocks in enumerate([3, 4, {50: 6, 101: 23}[depth], 3]):
        stages.append(
            ResNet.make_stage(
                BottleneckBlock,
                num_blocks,
                stride_per_block=[1 if index == 0 else 2] + [1] * (num_blocks - 1),
                in_channels=in_channels,
                out_channels=256 * 2**index,
                bottleneck_channels=width * 2**index,
                norm=norm,
            )
        )
        in_channels = 256 * 2**index
    network = ResNet(
        BasicStem(out_channels=width, norm=norm),
        stages,
        out_features=["res2", "res3", "res4", "res5"],
    )
    _calm(network)
    shape = (2, 3, 224, 224)
    if _on_gpu(device):
        shape = (2, 3, 800, 1344) if norm == "FrozenBN" else (64, 3, 224, 224)
    return network.to(device).train(), torch.randn(shape, device=device)


def _on_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def mask_rcnn(device: str) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Build detectron2's Mask R-CNN R50-FPN 1x with frozen res2, and two images of 256 pixels (1024
    on a GPU) with four squares each."""
    cfg = stock.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.DEVICE = device
    network = build_model(cfg).train()
    _calm(network)
    return network, [_image_with_squares(device) for _ in range(2)]


def _image_with_squares(device: str) -> dict[str, Any]:
    size = 1024 if _on_gpu(device) else 256
    corners = torch.tensor([[16.0, 16.0], [144.0, 16.0], [16.0, 144.0], [144.0, 144.0]])
    boxes = torch.cat([corners, corners + 96], dim=1) * (size // 256)
    masks = torch.zeros(4, size, size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    instances = Instances((size, size))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.arange(4)
    instances.gt_masks = BitMasks(masks)
    image = torch.randint(0, 256, (3, size, size)).float()
    return {"image": image.to(device), "instances": instances.to(device)}


def _calm(network: nn.Module) -> None:
    """Scale down the last norms: frozen norms of random networks let activations grow unbounded."""
    for block in network.modules():
        if isinstance(block, BottleneckBlock):
            block.conv3.norm.weight.data.fill_(0.2)


def random_drop_networks(norm: str, device: str) -> tuple[dict[str, nn.Module], Tensor]:
    """Build RandomDrop, and torchvision's ``StochasticDepth`` in the same position."""
    network, images = resnet(norm, device=device)
    rivals: dict[str, type[nn.Module]] = {STOCHASTIC_DEPTH: StochasticDepthBlock}
    return networks(network, rivals=rivals, ours=RANDOM_DROP), images


def inference_variants(device: str) -> Variants:
    """Build a ResNet-50 at test time: stock, with ShakeDrop, and folded."""
    network, images = resnet("FrozenBN", device=device)
    # In the paper's form, which has a test scale to compute or fold.
    shaken = shake(copy.deepcopy(network), ShakeDropSpec(survival_prob=0.5, inverted=False))
    found = {STOCK: network, "ours, not folded": shaken, "ours, folded": copy.deepcopy(shaken)}
    fold(found["ours, folded"])

    def variant(model: nn.Module) -> Callable[[], object]:
        model.eval()

        def run() -> object:
            with torch.no_grad():
                return model(images)

        return run

    return {name: variant(model) for name, model in found.items()}
