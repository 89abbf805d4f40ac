"""The cases to time, and those to measure the memory of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .junctions import junction_variants
from .memory import MemoryCase
from .networks import (
    OURS,
    RANDOM_DROP,
    blocks,
    inference_variants,
    mask_rcnn,
    networks,
    random_drop_networks,
    resnet,
    step_variants,
    total,
    with_addition,
)
from .timing import Variants


@dataclass(frozen=True)
class Case:
    """A comparison of variants; the first is the baseline.

    Attributes:
        name: name of the case in the table.
        make: function that builds the variants on a device.
        seconds_per_call: see :func:`time_interleaved`.
    """

    name: str
    make: Callable[[str], Variants]
    seconds_per_call: float = 0.1


def _blocks(device: str, *, norm: str) -> Variants:
    network, images = blocks(norm, device)
    return step_variants(networks(network), images)


def _backbone(device: str, *, norm: str, depth: int = 50, **settings: Any) -> Variants:
    network, images = resnet(norm, depth=depth, device=device)
    return step_variants(networks(network, **settings), images)


def _mixed_precision(device: str, *, norm: str, depth: int) -> Variants:
    network, images = resnet(norm, depth=depth, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    network = network.to(memory_format=torch.channels_last)
    return step_variants(networks(network), images, autocast=torch.float16)


def _junction_heavy(device: str, *, norm: str, **settings: Any) -> Variants:
    network, images = resnet(norm, width=4, device=device)
    return step_variants(with_addition(network, **settings), images)


def _random_drop(device: str, *, norm: str) -> Variants:
    return step_variants(*random_drop_networks(norm, device))


def _mask_rcnn(device: str) -> Variants:
    network, images = mask_rcnn(device)
    return step_variants(networks(network, ours={"ours": OURS["ours"], **RANDOM_DROP}), images)


def _junctions() -> list[Case]:
    settings: dict[str, dict[str, Any]] = {
        "FrozenBN + ReLU": {"norm": "FrozenBN"},
        "FrozenBN, EraseReLU": {"norm": "FrozenBN", "erase_relu": True},
        "BN + ReLU": {"norm": "BN"},
        "BN, EraseReLU": {"norm": "BN", "erase_relu": True},
        "GN + ReLU": {"norm": "GN"},
        "GN, EraseReLU": {"norm": "GN", "erase_relu": True},
        "BN + ReLU, per batch": {"norm": "BN", "level": "batch"},
        "BN + ReLU, per channel": {"norm": "BN", "level": "channel"},
        "FrozenBN + ReLU, per batch": {"norm": "FrozenBN", "level": "batch"},
        "FrozenBN + ReLU, per channel": {"norm": "FrozenBN", "level": "channel"},
        "FrozenBN + ReLU, per pixel": {"norm": "FrozenBN", "level": "pixel"},
    }
    return [
        Case(f"junction, {name}", partial(junction_variants, **arguments))
        for name, arguments in settings.items()
    ]


PER_PIXEL: dict[str, Any] = {"ours, per pixel": {"level": "pixel"}}
CASES = (
    *_junctions(),
    Case("three blocks, FrozenBN", partial(_blocks, norm="FrozenBN")),
    Case("three blocks, BN", partial(_blocks, norm="BN")),
    Case("R50 step, FrozenBN", partial(_backbone, norm="FrozenBN")),
    Case("R50 step, BN", partial(_backbone, norm="BN")),
    Case(
        "junction-heavy R50 step, FrozenBN",
        partial(_junction_heavy, norm="FrozenBN"),
        0.2,
    ),
    Case("junction-heavy R50 step, BN", partial(_junction_heavy, norm="BN"), 0.2),
    Case("R50 step, FrozenBN, RandomDrop", partial(_random_drop, norm="FrozenBN")),
    Case("Mask R-CNN R50-FPN step", _mask_rcnn),
    Case("R50 inference", inference_variants),
)
"""Cases that are timed on any device, in the order of the table."""

GPU_CASES = (
    Case("R101 step, FrozenBN", partial(_backbone, norm="FrozenBN", depth=101)),
    Case("R101 step, BN", partial(_backbone, norm="BN", depth=101)),
    *(
        Case(
            f"R{depth} step, {norm}, AMP, channels_last",
            partial(_mixed_precision, norm=norm, depth=depth),
        )
        for depth in (50, 101)
        for norm in ("FrozenBN", "BN")
    ),
)
"""Further cases that are timed on a GPU."""


def _memory(
    device: str, *, norm: str, **settings: Any
) -> dict[str, tuple[nn.Module, Callable[[], Tensor]]]:
    network, images = resnet(norm, device=device)
    found = networks(network, ours={**OURS, **PER_PIXEL}, **settings)
    return {name: (model, partial(_forward, model, images)) for name, model in found.items()}


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    return total(model(images))


CLOSED: dict[str, Any] = {"survival_prob": 0.0, "decay": "constant"}
MEMORY_CASES = (
    MemoryCase("R50, FrozenBN", partial(_memory, norm="FrozenBN")),
    MemoryCase("R50, FrozenBN, all gates closed", partial(_memory, norm="FrozenBN", **CLOSED)),
    MemoryCase("R50, BN", partial(_memory, norm="BN")),
    MemoryCase("R50, BN, all gates closed", partial(_memory, norm="BN", **CLOSED)),
)
"""Cases whose memory is measured. With all gates closed, ShakeDrop perturbs each of our blocks."""
