"""Two processes, whose branches are dropped at different times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from shakedrop_det import shake
from shakedrop_det.modeling.cifar import TwoBranchBlock

from ..paper_form import paper_form
from .networks import images, narrow_resnet, randomize_norms, run
from .recording import recorded_scales
from .test_blocks import equations

STEPS = 4
Run = dict[str, Tensor]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "RandomDrop, branches left out": ("FrozenBN", {"beta": (0, 0)}),
    "alpha 0": ("FrozenBN", {}),
    "BN, branches left out": ("BN", {"beta": (0, 0), "skip": "always"}),
    "BN, nothing left out": ("BN", {"alpha": (-1, 1)}),
    "per pixel": ("FrozenBN", {"alpha": (-1, 1), "level": "pixel", "gate_level": "image"}),
}


def in_two_processes(function: Callable[[int], Any], folder: Path) -> list[Any]:
    """What ``function(rank)`` gives in each of them."""
    torch.multiprocessing.spawn(process, args=(function, str(folder)), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(2)]


def process(rank: int, function: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.save(function(rank), f"{folder}/rank{rank}.pth")
    torch.distributed.destroy_process_group()


def build(case: str) -> nn.Module:
    norm, settings = CASES[case]
    torch.manual_seed(0)
    return shake(narrow_resnet(18, norm=norm), paper_form(**settings)).train()


def seed(rank: int, step: int) -> int:
    return 100 * step + rank


def steps_that_differ(network: nn.Module) -> int:
    """In how many steps a block is left alone in one process and not in the other."""

    def survived(rank: int, step: int) -> list[bool]:
        with recorded_scales() as scales:
            gradients(network, rank=rank, step=step)
        return [bool((forward == 1).all()) for forward, _ in scales]

    return sum(survived(0, step) != survived(1, step) for step in range(STEPS))


def gradients(network: nn.Module, *, rank: int, step: int) -> list[Tensor]:
    torch.manual_seed(seed(rank, step))
    network.zero_grad()
    sum(out.square().mean() for out in network(images() + rank).values()).backward()
    return [p.grad.clone() for p in network.parameters()]


def gradients_of_all_cases(rank: int) -> dict[str, list[list[Tensor]]]:
    found = {}
    for case in CASES:
        for unused in (False, True):
            network = DistributedDataParallel(build(case), find_unused_parameters=unused)
            steps = [gradients(network, rank=rank, step=step) for step in range(STEPS)]
            found[f"{case}, find_unused_parameters={unused}"] = steps
    return found


@pytest.mark.slow
def test_gradients_are_the_mean_of_those_of_the_processes(tmp_path: Path) -> None:
    """Also where a branch runs in one process alone, with and without find_unused_parameters."""
    found = in_two_processes(gradients_of_all_cases, tmp_path)
    some_dropped = 0
    for case, (_, settings) in CASES.items():
        if "gate_level" not in settings:
            network = build(case)
            assert steps_that_differ(network) > 1
        for step in range(STEPS):
            alone = [gradients(build(case), rank=rank, step=step) for rank in range(2)]
            some_dropped += sum(bool(a.any()) != bool(b.any()) for a, b in zip(*alone, strict=True))
            for unused in (False, True):
                ours, theirs = (r[f"{case}, find_unused_parameters={unused}"][step] for r in found)
                for got, other, a, b in zip(ours, theirs, *alone, strict=True):
                    assert torch.equal(got, other)
                    torch.testing.assert_close(got, (a + b) / 2, rtol=1e-4, atol=1e-5)
    assert some_dropped > 10, "branches were dropped in one process and not in the other"


@pytest.mark.parametrize("case", CASES)
def test_each_parameter_has_a_gradient_whatever_is_dropped(case) -> None:
    """A parameter without one would stop DistributedDataParallel in its next step."""
    network = build(case)
    for step in range(10):
        torch.manual_seed(step)
        network.zero_grad(set_to_none=True)
        sum(out.sum() for out in network(images()).values()).backward()
        assert not [name for name, p in network.named_parameters() if p.grad is None]


def two_branches(
    stack: nn.Sequential, x: Tensor, scales: list[tuple[Tensor, Tensor]], *, relu: bool
) -> Tensor:
    """Type A of the ShakeDrop paper, with the stock block's modules."""
    for block, (s, t) in zip(stack, scales, strict=True):
        active = x.clamp(min=0)
        f = block.branch1.residual(active) + block.branch2.residual(active)
        f = s * f + (t - s) * (f - f.detach())
        x = f + (x if block.shortcut is None else block.shortcut(active))
    return x


KINDS: dict[str, tuple[Callable[..., nn.Module], dict[str, int], Callable[..., Tensor]]] = {
    "basic": (BasicBlock, {}, equations),
    "bottleneck": (BottleneckBlock, {"bottleneck_channels": 6}, equations),
    "two branches": (TwoBranchBlock, {}, two_branches),
}
"""How to make a block, what else that takes, and the equations of several."""
SETTINGS: dict[str, dict[str, Any]] = {
    "alpha 0": {},
    "RandomDrop, as much left out as possible": {"beta": (0, 0), "skip": "always"},
    "per channel": {"alpha": (-1, 1), "level": "channel"},
}


def synchronized(kind: str) -> nn.Sequential:
    """Stock blocks, each with a norm in its shortcut that is as wide as the last of its branch."""
    make, special, _ = KINDS[kind]
    torch.manual_seed(0)
    channels = [(4, 6), (6, 8), (8, 6)]
    stack = nn.Sequential(*(make(*c, norm=NaiveSyncBatchNorm, **special) for c in channels))
    randomize_norms(stack)
    return stack.double()


def shaken(kind: str, setting: str) -> nn.Module:
    return shake(synchronized(kind), paper_form(survival_prob=0.2, **SETTINGS[setting]))


def steps_of(kind: str, setting: str, rank: int) -> list[tuple[Run, Run]]:
    """Of each step what the network gives, and what the equations give for the same scales."""
    network, stock = shaken(kind, setting).train(), synchronized(kind).train()
    reference = nn.Module()
    reference.stack = stock
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(rank))
    x = (1 + rank) * x + rank
    found = []
    for step in range(STEPS):
        with recorded_scales() as scales:
            got = run(network, x, seed=seed(rank, step))
        equations = partial(KINDS[kind][2], stock, scales=list(scales), relu=True)
        reference.forward = equations
        expected = run(reference, x)
        found.append((got, {name.replace("stack.", ""): t for name, t in expected.items()}))
    return found


def steps_of_all_kinds(rank: int) -> dict[str, list[tuple[Run, Run]]]:
    return {
        f"{kind}, {setting}": steps_of(kind, setting, rank)
        for kind in KINDS
        for setting in SETTINGS
    }


@pytest.mark.slow
def test_norms_over_both_processes_follow_the_equations(tmp_path: Path) -> None:
    """Also where a block is perturbed in one process and in the other runs as in stock: what waits
    for the other process has to come in the same order."""
    both = in_two_processes(steps_of_all_kinds, tmp_path)
    for found in both:
        for case, steps in found.items():
            for got, expected in steps:
                assert got.keys() == expected.keys()
                for name, value in expected.items():
                    torch.testing.assert_close(got[name], value, msg=f"{case}: {name}")
    first, second = (found["basic, alpha 0"][-1][0] for found in both)
    assert torch.equal(first["0.conv1.norm.running_mean"], second["0.conv1.norm.running_mean"])
    assert not torch.equal(first["out"], second["out"])
