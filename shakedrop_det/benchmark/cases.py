"""What is timed: junction, block, backbone, sampler and whole Mask R-CNN step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn
from torch.nn import functional as F

from shakedrop_det.checkpoint.fold import fold
from shakedrop_det.layers import Scales, ScaleSampler, ShakeDropSpec, junction, survival_probs
from shakedrop_det.modeling import shake

from .rivals import PublicBlock, StochasticDepthBlock, public_junction, replace_bottlenecks

Variants = Mapping[str, Callable[[], object]]
STOCK = "detectron2"
ERASED = {"alpha": (-1.0, 1.0), "erase_relu": True}


@dataclass(frozen=True)
class Case:
    """One comparison; the first variant is the baseline.

    Attributes:
        name: what the table says.
        make: builds the variants on a device.
        seconds_per_call: see :func:`time_interleaved`.
    """

    name: str
    make: Callable[[str], Variants]
    seconds_per_call: float = 0.05


def _map(shape: tuple[int, ...], device: str) -> Tensor:
    return torch.randn(shape, device=device, requires_grad=True)


def _junction_case(
    norm_type: Callable[[int], nn.Module], *, relu: bool = True, level: str = "image"
) -> Callable[[str], Variants]:
    """From the output of the last convolution to that of the block, and back."""
    shape = (4, 256, 56, 56)

    def make(device: str) -> Variants:
        shortcut, residual = _map(shape, device), _map(shape, device)
        norm = norm_type(shape[1]).to(device)
        grad = torch.randn(shape, device=device)
        spec = ShakeDropSpec(alpha=(-1.0, 1.0), survival_prob=0.5, level=level, gate_level="image")
        sampler = ScaleSampler(spec, [0.5], channels=[shape[1]]).to(device)

        def stock() -> None:
            # The output of the norm is a new tensor, as detectron2's in-place operations expect.
            out = norm(residual)
            out += shortcut
            F.relu_(out).backward(grad)

        def public() -> None:
            public_junction(shortcut, residual, norm, survival_prob=0.0).backward(grad)

        def ours() -> None:
            scales = sampler(shape[0]).scales(0, residual)
            junction(shortcut, residual, scales, norm=norm, relu=relu).backward(grad)

        def gate_open() -> None:
            one = torch.ones(1, 1, 1, 1, device=device)
            scales = Scales(one, one, gate=True, dropped=False)
            junction(shortcut, residual, scales, norm=norm, relu=relu).backward(grad)

        return {
            STOCK: stock,
            "public formulation": public,
            "ours, scaled": ours,
            "ours, one scale": gate_open,
        }

    return make


def _backbone_case(
    norm: str,
    *,
    rivals: bool = True,
    width: int = 64,
    image: int = 224,
    ours: Mapping[str, Mapping[str, object]] | None = None,
) -> Callable[[str], Variants]:
    """A training step of a ResNet-50, two images, without the optimizer's part."""

    def make(device: str) -> Variants:
        images = torch.randn(2, 3, image, image, device=device)
        network = _resnet50(norm, width).to(device).train()
        variants = {STOCK: network}
        if rivals:
            variants["public formulation"] = replace_bottlenecks(
                copy.deepcopy(network), PublicBlock, 0.5
            )
        for name, settings in (ours or {"ours": {}, "ours, EraseReLU": ERASED}).items():
            spec = ShakeDropSpec(**settings)  # type: ignore[arg-type]
            variants[name] = shake(copy.deepcopy(network), spec)
        return {name: _step(model, images) for name, model in variants.items()}

    return make


def _step(model: nn.Module, images: Tensor) -> Callable[[], None]:
    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        outputs = model(images)
        torch.autograd.backward([out.float().mean() for out in outputs.values()])

    return step


def _resnet50(norm: str, width: int) -> ResNet:
    stem_channels = width
    stages, channels = [], stem_channels
    for index, num_blocks in enumerate([3, 4, 6, 3]):
        out_channels = 256 * 2**index
        stages.append(
            ResNet.make_stage(
                BottleneckBlock,
                num_blocks,
                stride_per_block=[1 if index == 0 else 2] + [1] * (num_blocks - 1),
                in_channels=channels,
                out_channels=out_channels,
                bottleneck_channels=width * 2**index,
                norm=norm,
            )
        )
        channels = out_channels
    network = ResNet(
        BasicStem(out_channels=stem_channels, norm=norm),
        stages,
        out_features=["res2", "res3", "res4", "res5"],
    )
    for block in (m for m in network.modules() if isinstance(m, BottleneckBlock)):
        # Frozen norms of random networks would let activations grow without bound.
        block.conv3.norm.weight.data.fill_(0.2)
    return network


def _random_drop(device: str) -> Variants:
    images = torch.randn(2, 3, 224, 224, device=device)
    network = _resnet50("FrozenBN", 64).to(device).train()
    spec = ShakeDropSpec(beta=(0.0, 0.0))
    variants = {
        STOCK: network,
        "torchvision StochasticDepth": replace_bottlenecks(
            copy.deepcopy(network), StochasticDepthBlock, 0.5
        ),
        "ours, RandomDrop": shake(copy.deepcopy(network), spec),
    }
    return {name: _step(model, images) for name, model in variants.items()}


def _folded(device: str) -> Variants:
    images = torch.randn(2, 3, 224, 224, device=device)
    network = _resnet50("FrozenBN", 64).to(device).eval()
    variants = {STOCK: network}
    variants["ours, not folded"] = shake(copy.deepcopy(network), ShakeDropSpec())
    variants["ours, folded"] = fold(copy.deepcopy(variants["ours, not folded"]))

    def inference(model: nn.Module) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                model(images)

        return run

    return {name: inference(model) for name, model in variants.items()}


def _sampler(device: str) -> Variants:
    samplers = {
        name: ScaleSampler(
            ShakeDropSpec(gate_level=gate),
            survival_probs(50, survival_prob=0.5),
            channels=[256] * 50,
        ).to(device)
        for name, gate in (("gate per batch", "batch"), ("gate per image", "image"))
    }
    return {name: partial(sampler, 16) for name, sampler in samplers.items()}


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(32, channels)


CASES = (
    Case("junction, FrozenBN + ReLU", _junction_case(FrozenBatchNorm2d)),
    Case("junction, FrozenBN, EraseReLU", _junction_case(FrozenBatchNorm2d, relu=False)),
    Case("junction, BN + ReLU", _junction_case(nn.BatchNorm2d)),
    Case("junction, BN, EraseReLU", _junction_case(nn.BatchNorm2d, relu=False)),
    Case("junction, GN + ReLU", _junction_case(_group_norm)),
    Case(
        "junction, FrozenBN + ReLU, per channel", _junction_case(FrozenBatchNorm2d, level="channel")
    ),
    Case("junction, FrozenBN + ReLU, per pixel", _junction_case(FrozenBatchNorm2d, level="pixel")),
    Case("R50 step, FrozenBN", _backbone_case("FrozenBN"), 0.0),
    Case("R50 step, BN", _backbone_case("BN"), 0.0),
    Case("junction-heavy R50 step, FrozenBN", _backbone_case("FrozenBN", width=4), 0.0),
    Case("junction-heavy R50 step, BN", _backbone_case("BN", width=4), 0.0),
    Case(
        "R50 step, FrozenBN, FUSE conv",
        _backbone_case("FrozenBN", rivals=False, ours={"ours, conv": {"fuse": "conv"}}),
        0.0,
    ),
    Case("R50 step, RandomDrop", _random_drop, 0.0),
    Case("R50 inference", _folded, 0.0),
    Case("sampler, 50 blocks, 16 images", _sampler, 0.02),
)
"""All cases, in the order of the table."""
