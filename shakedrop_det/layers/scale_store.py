"""How a draw of scales, made once per step, reaches each block: also a recomputed one."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .draw import Draw


class ScaleStore:
    """The draws that blocks may still need.

    While the network that owns the blocks runs, there is one current draw. Activation
    checkpointing runs a block a second time during the backward pass, when later forward passes
    may have drawn anew; the block must then meet the scales of its first run. They are found by
    the storage of the block's input, which a checkpoint keeps alive for exactly that long.
    """

    def __init__(self) -> None:
        self._current: Optional[Draw] = None
        self._last: Optional[Draw] = None
        self._seen: dict[int, list[tuple[StorageWeakRef, Draw]]] = {}

    def open(self, draw: Draw) -> None:
        """A forward pass of the owner begins."""
        self._current = self._last = draw

    def close(self) -> None:
        """The forward pass ended: from now on only recomputation may ask."""
        self._current = None

    def draw(self, block: int, block_input: Tensor) -> Draw:
        """The draw that holds the scales of ``block`` (from 0) for this input.

        Raises:
            RuntimeError: if the block runs by itself, so that nothing was drawn for it.
        """
        if torch.compiler.is_compiling():
            draw = self._current
        else:
            draw = self._current or self._recomputed(block, block_input)
        if draw is None:
            raise RuntimeError(
                f"Block {block + 1} runs in training mode outside the module that draws its "
                "scales. Call that module (usually the ResNet) rather than its blocks, or apply "
                "`shake` to the part of the network that you call."
            )
        if self._current is not None and not torch.compiler.is_compiling():
            self._remember(block, block_input, draw)
        return draw

    def _remember(self, block: int, block_input: Tensor, draw: Draw) -> None:
        if torch._C._functorch.is_functorch_wrapped_tensor(block_input):
            return
        seen = [item for item in self._seen.get(block, ()) if not item[0].expired()]
        seen.append((StorageWeakRef(block_input.untyped_storage()), draw))
        self._seen[block] = seen

    def _recomputed(self, block: int, block_input: Tensor) -> Optional[Draw]:
        if torch._C._current_graph_task_id() == -1:  # not inside a backward pass
            return None
        key = block_input.untyped_storage()._cdata
        for reference, draw in reversed(self._seen.get(block, ())):
            if reference.cdata == key and not reference.expired():
                # What follows in the same checkpoint sees inputs that are new themselves.
                self._last = draw
                return draw
        return self._last

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Copies and pickles of a model carry no draw.

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
