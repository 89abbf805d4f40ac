"""The two factors of a block in one step."""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor


class Scales(NamedTuple):
    """The forward and the backward scale of one block; each broadcasts to (N, C, H, W).

    Attributes:
        forward: s, which multiplies the residual.
        backward: t, which multiplies the gradient that flows into the residual branch.
        gate: b, where it is the same for the whole batch and known without asking a device.
        dropped: whether the forward scale is 0 throughout (True) or nowhere (False), where that
            is known without asking a device.
    """

    forward: Tensor
    backward: Tensor
    gate: Optional[bool] = None
    dropped: Optional[bool] = None

    def to(self, dtype: torch.dtype) -> "Scales":
        """The same in another dtype."""
        return self._replace(forward=self.forward.to(dtype), backward=self.backward.to(dtype))

    def is_dropped(self) -> Optional[bool]:
        """``dropped``, read from the scale where it is not known but can be."""
        return self.dropped if self.dropped is not None else all_zero(self.forward)


def is_eager(device: torch.device) -> bool:
    """Whether Python runs in each step: not once, while a graph is compiled or captured."""
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return device.type != "cuda" or not torch.cuda.is_current_stream_capturing()


def can_read(tensor: Tensor) -> bool:
    """Whether Python may look at values: not on a GPU, which it would have to wait for, not in a
    compiled graph, which it would split, and not under a transform of torch.func."""
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and type(tensor) is Tensor
    )


def all_zero(scale: Tensor) -> Optional[bool]:
    """Whether a scale is 0 throughout (True), nowhere (False), or neither or unknown (None)."""
    if not can_read(scale):
        return None
    nonzeros = torch.count_nonzero(scale).item()
    if nonzeros == 0:
        return True
    return False if nonzeros == scale.numel() else None
