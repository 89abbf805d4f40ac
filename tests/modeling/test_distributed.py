"""DistributedDataParallel in two processes, whose branches are dropped at different times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from shakedrop_det import ShakeDropSpec, shake

from .networks import images, narrow_resnet

STEPS = 4
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "RandomDrop, branches left out": ("FrozenBN", {"beta": (0, 0)}),
    "alpha 0, last convolutions left out": ("FrozenBN", {}),
    "BN, branches left out": ("BN", {"beta": (0, 0), "skip": "always"}),
    "BN, nothing left out": ("BN", {"alpha": (-1, 1)}),
    "per pixel": ("FrozenBN", {"alpha": (-1, 1), "level": "pixel", "gate_level": "image"}),
}


def build(case: str) -> nn.Module:
    norm, settings = CASES[case]
    torch.manual_seed(0)
    return shake(narrow_resnet(18, norm=norm), ShakeDropSpec(**settings)).train()


def gradients(network: nn.Module, *, rank: int, step: int) -> list[Tensor]:
    torch.manual_seed(100 * step + rank)
    network.zero_grad()
    sum(out.square().mean() for out in network(images() + rank).values()).backward()
    return [p.grad.clone() for p in network.parameters()]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found = {}
    for case in CASES:
        for unused in (False, True):
            network = DistributedDataParallel(build(case), find_unused_parameters=unused)
            steps = [gradients(network, rank=rank, step=step) for step in range(STEPS)]
            found[f"{case}, find_unused_parameters={unused}"] = steps
    torch.save(found, f"{folder}/rank{rank}.pth")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_gradients_are_the_mean_of_those_of_the_processes(tmp_path: Path) -> None:
    """Also where a branch runs in one process alone, with and without find_unused_parameters."""
    torch.multiprocessing.spawn(worker, args=(str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"rank{rank}.pth", weights_only=True) for rank in range(2)]
    some_dropped = 0
    for case in CASES:
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
