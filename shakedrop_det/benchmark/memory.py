"""Measure the bytes that a training step saves for backward, and its peak memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MemoryCase:
    """Networks whose memory is compared; the first is the baseline.

    Attributes:
        name: name of the case in the table.
        make: function that builds on a device, for each variant, a network and a function that runs
            its forward pass and returns a scalar.
    """

    name: str
    make: Callable[[str], Mapping[str, tuple[nn.Module, Callable[[], Tensor]]]]


@dataclass(frozen=True)
class Memory:
    """Memory of one training step, in bytes.

    Attributes:
        saved: memory that autograd saves in the forward pass, except parameters and buffers.
        peak: peak memory allocated in the forward and backward pass; None on a CPU.
    """

    saved: int
    peak: int | None = None


def measure(case: MemoryCase, *, device: str) -> dict[str, Memory]:
    """Measure the memory of each variant, with the same random seed for all.

    Args:
        case: case to measure.
        device: device to run on.
    """
    found = {}
    for name, (network, forward) in case.make(device).items():
        torch.manual_seed(0)
        saved = saved_bytes(forward, but=network)
        peak = None
        if torch.device(device).type == "cuda":
            torch.manual_seed(0)
            peak = _peak_bytes(forward)
        found[name] = Memory(saved, peak)
    return found


def _peak_bytes(forward: Callable[[], Tensor]) -> int:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    forward().backward()
    return torch.cuda.max_memory_allocated() - before


def saved_bytes(function: Callable[[], object], *, but: nn.Module | None = None) -> int:
    """Return the bytes that autograd saves in a forward pass, counting each storage once.

    Args:
        function: function that runs the forward pass.
        but: module whose parameters and buffers are not counted, since they exist anyway.
    """
    own = list(but.parameters()) + list(but.buffers()) if but is not None else []
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    saved: dict[int, int] = {}
    alive: list[Tensor] = []  # prevents that the address of a freed storage is reused

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return sum(saved.values())
