"""Small residual networks of detectron2, and runs of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DEPTHS = {
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (BottleneckBlock, [3, 4, 6, 3]),
    101: (BottleneckBlock, [3, 4, 23, 3]),
    152: (BottleneckBlock, [3, 8, 36, 3]),
}
OUTPUTS = ["res2", "res3", "res4", "res5"]


def narrow_resnet(
    depth: int = 50,
    *,
    norm: str | Callable[[int], nn.Module] = "FrozenBN",
    num_groups: int = 1,
    freeze_at: int = 0,
    out_features: list[str] | None = None,
) -> ResNet:
    """A ResNet of the given depth, four channels wide in its bottlenecks; norms not trivial."""
    block_class, num_blocks = DEPTHS[depth]
    bottleneck = block_class is BottleneckBlock
    stages, in_channels = [], 8
    for index, blocks in enumerate(num_blocks):
        out_channels = 8 * 2**index
        special: dict[str, Any] = {}
        if bottleneck:
            special = {"bottleneck_channels": 4 * 2**index, "num_groups": num_groups}
        stages.append(
            ResNet.make_stage(
                block_class,
                blocks,
                stride_per_block=[1 if index == 0 else 2] + [1] * (blocks - 1),
                in_channels=in_channels,
                out_channels=out_channels,
                norm=norm,
                **special,
            )
        )
        in_channels = out_channels
    network = ResNet(
        BasicStem(3, 8, norm), stages, out_features=out_features or OUTPUTS, freeze_at=freeze_at
    )
    randomize_norms(network)
    return network


def randomize_norms(network: nn.Module) -> None:
    """Weights and statistics that a trained norm could have."""
    generator = torch.Generator().manual_seed(7)
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.dim() == 1 and tensor.dtype.is_floating_point:
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.5)


def feature_map() -> Tensor:
    """An input of blocks with 6 channels, in double precision; the same on each call."""
    return torch.randn(4, 6, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def group_norm(channels: int) -> nn.Module:
    """In two groups: detectron2's own "GN" wants 32 channels."""
    return nn.GroupNorm(2, channels)


def images(batch: int = 2, size: int = 32) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def run(network: nn.Module, x: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
    """Outputs, input gradient, parameter gradients and buffers of one training step."""
    torch.manual_seed(seed)
    x = x.clone().requires_grad_()
    network.zero_grad()
    outputs = network(x)
    outputs = outputs if isinstance(outputs, dict) else {"out": outputs}
    sum((out * _weights(out)).sum() for out in outputs.values()).backward()
    found = {name: out.detach() for name, out in outputs.items()}
    found["input gradient"] = x.grad
    found.update((f"gradient of {n}", p.grad) for n, p in network.named_parameters())
    found.update((n, b.clone()) for n, b in network.named_buffers())
    return found


def _weights(out: Tensor) -> Tensor:
    return torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)


@contextmanager
def running_convolutions() -> Iterator[list[Tensor]]:
    """The weights of the convolutions that run within this context, one after the other."""
    weights: list[Tensor] = []

    class Recorder(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.nn.functional.conv2d:
                weights.append(args[1])
            return function(*args, **(kwargs or {}))

    with Recorder():
        yield weights


def assert_equal_runs(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert got.keys() == expected.keys()
    for name in expected:
        a, b = got[name], expected[name]
        assert (a is None) == (b is None), name
        assert a is None or torch.equal(a, b), name


def copy_of(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network)
