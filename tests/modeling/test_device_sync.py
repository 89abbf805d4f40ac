"""No step of training waits for the device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from shakedrop_det import shake
from shakedrop_det.benchmark.rivals import PublicBlock, replace_bottlenecks

from ..paper_form import paper_form
from .networks import group_norm, images, narrow_resnet

SETTINGS = {
    "final ReLU": {},
    "EraseReLU": {"alpha": (-1, 1), "erase_relu": True},
    "RandomDrop": {"beta": (0, 0)},
    "inverted": {"inverted": True, "alpha": (0, 1)},
    "gate per image": {"gate_level": "image"},
    "per batch": {"level": "batch"},
    "per channel": {"level": "channel"},
    "per pixel": {"level": "pixel", "alpha": (-1, 1)},
}
NORMS = {"FrozenBN": "FrozenBN", "BN": "BN", "GN": group_norm}


def train(network: nn.Module, device: str, steps: int = 3) -> None:
    x = images().to(device)
    for _ in range(steps):
        network.zero_grad()
        sum(out.mean() for out in network(x).values()).backward()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_no_value_is_read_back_from_the_device(setting, norm) -> None:
    """On the "meta" device, which holds no values: reading one is an error, as waiting for a GPU
    is with the debug mode below."""
    spec = paper_form(**SETTINGS[setting], survival_prob=0.0)
    network = shake(narrow_resnet(18, norm=NORMS[norm]), spec).train()
    torch.manual_seed(0)  # some gates are open, some closed
    train(network.to("meta"), "meta", steps=2)


def test_the_common_formulation_reads_its_gate_back() -> None:
    network = replace_bottlenecks(narrow_resnet(50), PublicBlock, 0.5)
    with pytest.raises(RuntimeError, match="meta"):
        train(network.to("meta"), "meta")


@pytest.fixture
def errors_where_the_host_waits() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_no_step_waits_for_the_gpu(setting, norm, request) -> None:
    spec = paper_form(**SETTINGS[setting], survival_prob=0.3)
    network = shake(narrow_resnet(50, norm=NORMS[norm]), spec).train().cuda()
    train(network, "cuda")  # libraries are initialized
    x = images().cuda()
    request.getfixturevalue("errors_where_the_host_waits")
    for _ in range(3):
        network.zero_grad()
        sum(out.mean() for out in network(x).values()).backward()
