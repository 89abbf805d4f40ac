"""What a training step keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def saved_bytes(function: Callable[[], object], *, but: nn.Module | None = None) -> int:
    """Bytes that autograd saves in a forward pass, each storage counted once.

    Args:
        function: runs the forward pass.
        but: a module whose parameters and buffers do not count: they are there anyway.
    """
    own = list(but.parameters()) + list(but.buffers()) if but is not None else []
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    saved: dict[int, int] = {}
    alive: list[Tensor] = []  # a freed storage's address could be taken by another

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return sum(saved.values())
