"""Bytes saved for the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shakedrop_det.benchmark.memory import MemoryCase, measure, saved_bytes


def test_each_saved_storage_counts_once() -> None:
    x = torch.randn(10, 10, requires_grad=True)  # 400 bytes, saved by both products
    assert saved_bytes(lambda: x * x) == 400
    assert saved_bytes(lambda: (x * x) * x) == 800
    assert saved_bytes(lambda: x + x) == 0


def test_tensors_that_are_freed_on_the_way_count_all_the_same() -> None:
    x = torch.randn(1000, requires_grad=True)
    assert saved_bytes(lambda: [x.exp() for _ in range(5)] and None) == 5 * 4000


def test_parameters_and_buffers_do_not_count() -> None:
    layer, x = nn.Linear(10, 20), torch.randn(4, 10, requires_grad=True)
    assert saved_bytes(lambda: layer(x), but=layer) == x.nbytes
    assert saved_bytes(lambda: layer(x)) == x.nbytes + layer.weight.nbytes


def test_all_variants_meet_the_same_random_numbers() -> None:
    layer, x = nn.Identity(), torch.randn(100, requires_grad=True)

    def forward() -> Tensor:
        size = int(torch.randint(1, 100, ()))
        return (x[:size] * torch.rand(size)).sum()

    case = MemoryCase("random", lambda device: dict.fromkeys(("a", "b"), (layer, forward)))
    found = measure(case, device="cpu")
    assert found["a"] == found["b"] and found["a"].saved > 0 and found["a"].peak is None
