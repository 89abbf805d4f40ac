"""torch.compile of a backbone: one graph, no breaks, no recompilation from draw to draw."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, CNNBlockBase
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from shakedrop_det import shake

from ..paper_form import paper_form
from .networks import group_norm, images, randomize_norms
from .usual_formulation import UsualBlock


def stage(kind: type[CNNBlockBase] = BasicBlock, **options) -> nn.Module:
    """Two blocks, one with a convolution in its shortcut and one without."""
    network = nn.Sequential(kind(3, 8, stride=2, **options), kind(8, 8, **options))
    randomize_norms(network)
    return network


@pytest.mark.parametrize("settings", [{}, {"alpha": (-1, 1), "erase_relu": True}, {"beta": (0, 0)}])
@pytest.mark.parametrize("level", ["batch", "image", "channel", "pixel"])
def test_training_is_one_graph_over_ten_draws(level, settings) -> None:
    network = shake(stage(norm="FrozenBN"), paper_form(**settings, level=level))
    assert_one_graph(network.train())


def test_inference_is_one_graph_and_equals_eager() -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    network = stage(BottleneckBlock, bottleneck_channels=4, norm="FrozenBN")
    network = shake(network, paper_form()).eval()
    compiled = torch.compile(network, fullgraph=True, backend=counter)
    for _ in range(3):
        torch.testing.assert_close(compiled(images()), network(images()))
    assert counter.frame_count == 1


def test_a_compiled_gradient_is_the_eager_one_where_nothing_is_random() -> None:
    torch._dynamo.reset()
    settings = {"alpha": (0.3, 0.3), "beta": (0.7, 0.7), "survival_prob": 0.0, "decay": "constant"}
    network = shake(stage(norm="FrozenBN"), paper_form(**settings)).train()
    gradients = []
    for model in (network, torch.compile(network, fullgraph=True, backend="aot_eager")):
        network.zero_grad()
        model(images()).square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "norm, gate_level",
    [("BN", "batch"), ("BN", "image"), ("FrozenBN", "image"), (group_norm, "image")],
    ids=["BN", "BN, per image", "FrozenBN, per image", "GN, per image"],
)
def test_training_is_one_graph_with_each_norm_and_gate(norm, gate_level) -> None:
    network = shake(stage(norm=norm), paper_form(alpha=(-1, 1), gate_level=gate_level))
    assert_one_graph(network.train())


@pytest.mark.parametrize(
    "training, norm, erase_relu",
    [
        pytest.param(True, "BN", False, marks=pytest.mark.slow),
        (True, "FrozenBN", True),
        (False, "FrozenBN", True),
    ],
)
def test_the_backbone_of_a_detector_is_one_graph(
    tiny: Callable[..., CfgNode], training: bool, norm: str, erase_relu: bool
) -> None:
    options = ["MODEL.RESNETS.NORM", norm, "MODEL.RESNETS.DEPTH", 18]
    options += ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.STEM_OUT_CHANNELS", 64]
    if erase_relu:
        options += ["MODEL.SHAKEDROP.ALPHA", [-1.0, 1.0], "MODEL.SHAKEDROP.ERASE_RELU", True]
    backbone = build_backbone(tiny("mask_rcnn", *options), ShapeSpec(channels=3))
    assert_one_graph(backbone.train(training))


def assert_one_graph(network: nn.Module) -> None:
    """Over ten steps; a recompilation is an error here, whatever would have caused it."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(network, fullgraph=True, backend=counter)
    outputs = set()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(10):
            found = compiled(images())
            values = found.values() if isinstance(found, dict) else [found]
            out = sum(value.sum() for value in values)
            if network.training:
                out.backward()
            outputs.add(out.item())
    counters = torch._dynamo.utils.counters
    assert counter.frame_count == 1 and not counters["graph_break"]
    assert (len(outputs) > 1) == network.training


def test_the_usual_formulation_is_not_one_graph() -> None:
    """Or the tests above would tell nothing."""
    torch._dynamo.reset()
    block = UsualBlock(4, 4, norm="FrozenBN").train()
    refusals = (torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError)
    with pytest.raises(refusals, match=r"gate\.item"):
        torch.compile(block, fullgraph=True, backend="aot_eager")(torch.randn(2, 4, 6, 6))
