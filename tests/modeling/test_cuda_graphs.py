"""CUDA graphs: a captured training step, replayed, draws anew and needs no device sync."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shakedrop_det import shake

from ..paper_form import paper_form
from .networks import images, narrow_resnet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LEVELS = ["batch", "image", "channel", "pixel"]


def network(level: str, **settings) -> nn.Module:
    spec = paper_form(alpha=(-1, 1), survival_prob=0.0, decay="constant", level=level)
    return shake(narrow_resnet(18), paper_form(**{**vars(spec), **settings})).cuda().train()


def step(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    loss = sum(out.square().mean() for out in model(x).values())
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("level", LEVELS)
def test_each_replay_of_a_captured_step_draws_anew(level) -> None:
    model, x = network(level), images().cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            model.zero_grad()
            step(model, x)
    torch.cuda.current_stream().wait_stream(stream)
    model.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(model, x)
    losses, gradients = set(), set()
    for _ in range(6):
        for parameter in model.parameters():
            parameter.grad.zero_()
        graph.replay()
        losses.add(loss.item())
        gradients.add(next(model.parameters()).grad.sum().item())
    assert len(losses) > 3 and len(gradients) > 3


def test_a_replay_of_fixed_scales_equals_the_eager_step() -> None:
    model, x = network("image", alpha=(0.4, 0.4), beta=(0.7, 0.7)), images().cuda()
    for _ in range(2):
        model.zero_grad()
        step(model, x)
    expected = [p.grad.clone() for p in model.parameters()]
    graphed = torch.cuda.make_graphed_callables(nn.Sequential(model, _Sum()), (x,))
    model.zero_grad()
    graphed(x).backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-4)


class _Sum(nn.Module):
    def forward(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum(out.square().mean() for out in outputs.values())


@pytest.mark.parametrize("gate_level", ["batch", "image"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_step_waits_for_no_device(level, gate_level) -> None:
    model, x = network(level, gate_level=gate_level, survival_prob=0.5), images().cuda()
    step(model, x)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step(model, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
