"""How a draw of scales, made once per step, reaches each block: also a recomputed one."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .draw import Draw

_KEPT_PASSES = 4


class _Pass(NamedTuple):
    """A forward pass of the owner: its draw, and the state that torch's generator was in then."""

    draw: Draw
    rng_state: Optional[Tensor]

    def is_replayed(self) -> bool:
        """Whether the generator is in that state again, as checkpoints put it."""
        return self.rng_state is not None and torch.equal(torch.get_rng_state(), self.rng_state)


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _name(block: int) -> str:
    # Not "block N": a network may hold several owners, and a block several branches.
    return f"Residual branch {block + 1} of those that share a draw"


class ScaleStore:
    """The draws that blocks may still need.

    While the network that owns the blocks runs, there is one current draw. Activation
    checkpointing runs a block a second time during the backward pass, when later forward passes
    may have drawn anew; the block must then meet the scales of its first run. They are found by
    the storage of the block's input, which a checkpoint keeps alive for exactly that long. Where
    that leaves a choice (the same input in two passes, or a checkpoint that begins before the
    block), the generator's state decides, which checkpoints restore; it does so among the last
    four passes. If that fails as well, it is an error rather than a guess.
    """

    def __init__(self) -> None:
        self._current: Optional[_Pass] = None
        self._last: Optional[_Pass] = None
        self._last_block = math.inf
        self._outstanding = 0
        self._recent: deque[_Pass] = deque(maxlen=_KEPT_PASSES)
        self._seen: dict[int, list[tuple[StorageWeakRef, _Pass]]] = {}

    def open(self, draw: Draw) -> None:
        """A forward pass of the owner begins."""
        if torch.compiler.is_compiling():
            self._current = self._last = _Pass(draw, None)
            return
        # What was drawn on a GPU left this generator alone: let its state tell passes apart.
        torch.rand((), device="cpu")
        self._current = self._last = _Pass(draw, torch.get_rng_state())
        if _in_backward():  # The owner itself is recomputed, and blocks in it may be again.
            self._last_block = -1
            return
        if self._last_block != math.inf:  # A backward pass was here.
            self._outstanding = 0
        self._outstanding += 1
        self._last_block = math.inf
        self._recent.append(self._current)

    def close(self) -> None:
        """The forward pass ended: from now on only recomputation may ask."""
        self._current = None

    def draw(self, block: int, block_input: Tensor) -> Draw:
        """The draw that holds the scales of ``block`` (from 0) for this input.

        Raises:
            RuntimeError: if the block runs by itself, so that nothing was drawn for it, or it
                cannot be told which of several draws is meant.
        """
        if torch.compiler.is_compiling():
            owner_pass = self._current
        else:
            owner_pass = self._current or self._recomputed(block, block_input)
        if owner_pass is None:
            raise RuntimeError(
                f"{_name(block)} runs in training mode outside the module that draws its "
                "scales. Call that module (usually the ResNet) rather than its blocks, or apply "
                "`shake` to the part of the network that you call."
            )
        if self._current is not None and not torch.compiler.is_compiling():
            self._remember(block, block_input, owner_pass)
        return owner_pass.draw

    def _remember(self, block: int, block_input: Tensor, owner_pass: _Pass) -> None:
        if torch._C._functorch.is_functorch_wrapped_tensor(block_input):
            return
        key = block_input.untyped_storage()._cdata
        seen = [item for item in self._seen.get(block, ()) if not item[0].expired()]
        # An input that lives on and comes again, step after step, must not add up.
        same = [item for item in seen if item[0].cdata == key]
        if len(same) >= _KEPT_PASSES:
            seen.remove(same[0])
        seen.append((StorageWeakRef(block_input.untyped_storage()), owner_pass))
        self._seen[block] = seen

    def _recomputed(self, block: int, block_input: Tensor) -> Optional[_Pass]:
        if not _in_backward():
            return None
        key = block_input.untyped_storage()._cdata
        seen = [
            owner_pass
            for reference, owner_pass in reversed(self._seen.get(block, ()))
            if reference.cdata == key and not reference.expired()
        ]
        # Checkpoints are recomputed from the last to the first, the blocks in one from first to
        # last. Those after its first see inputs that are new themselves.
        follows = block > self._last_block
        self._last_block = block
        if len(seen) == 1:
            self._last = seen[0]
        elif seen or not follows:
            self._last = self._replayed(block, seen or list(reversed(self._recent)))
        return self._last

    def _replayed(self, block: int, candidates: list[_Pass]) -> Optional[_Pass]:
        """The pass that is run again, of several, the latest first."""
        for owner_pass in candidates:
            if owner_pass.is_replayed():
                return owner_pass
        if self._outstanding > 1:
            raise RuntimeError(
                f"{_name(block)} is recomputed, but it cannot be told for which of the last "
                f"{self._outstanding} forward passes. Let the checkpoint begin with a residual "
                "block and keep preserve_rng_state=True, or call backward after each forward pass."
            )
        return candidates[0] if candidates else None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Copies and pickles of a model carry no draw.

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
