"""The residual branch of a block: whether it may be left out of a pass, and what it holds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.layers import Conv2d, NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from .fusion import has_separable_gradient, is_watched, keeps_dtype

_HOLDING = threading.RLock()


class Branch:
    """The modules of a residual block's branch: all but those of the shortcut.

    Args:
        block: a residual block.
    """

    def __init__(self, block: nn.Module) -> None:
        self.modules: list[nn.Module] = []
        for name, child in block.named_children():
            if name != "shortcut":
                self.modules.extend(child.modules())
        self._parameters = [(m._parameters, dict(m._parameters)) for m in self.modules]
        self._buffers = [(m._buffers, dict(m._buffers)) for m in self.modules]

    def parameters(self) -> list[Tensor]:
        """All parameters that the branch had when this object was made, each once."""
        found = (p for _, held in self._parameters for p in held.values() if p is not None)
        return list(dict.fromkeys(found))

    @contextlib.contextmanager
    def holding(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Within this context the branch has these in place of :meth:`parameters`, and the buffers
        of then, whatever it has by now: others after ``functional_call``, say. One thread at a
        time, or one would find and leave behind what another put there."""
        place: dict[Any, Any] = dict(zip(self.parameters(), tensors, strict=True))
        tables: list[tuple[dict[str, Any], dict[str, Any]]] = [*self._parameters, *self._buffers]
        with _HOLDING:
            by_now = [dict(table) for table, _ in tables]
            for table, held in tables:
                table.update((name, place.get(tensor, tensor)) for name, tensor in held.items())
            try:
                yield
            finally:
                for (table, _), now in zip(tables, by_now, strict=True):
                    table.clear()
                    table.update(now)

    def can_be_skipped(self, x: Tensor, skip: str) -> bool:
        """Whether nobody notices if the branch does not run in a step.

        Args:
            x: the block's input, (N, C, H, W).
            skip: "always" if running statistics that do not move count as nothing, else "exact".
        """
        if skip != "always" and any(map(_gathers_statistics, self.modules)):
            return False
        return keeps_dtype(x) and all(map(_can_be_left_out, self.modules))

    def can_be_postponed(self, last_conv: Conv2d, x: Tensor) -> bool:
        """Whether nobody notices if the branch runs in the backward pass.

        Args:
            last_conv: the convolution that ends the branch.
            x: the block's input, (N, C, H, W).
        """
        return (
            has_separable_gradient(last_conv)
            and self.can_be_skipped(x, "exact")
            and not any(isinstance(m, _DRAWING) and m.training for m in self.modules)
        )


_KNOWN_PACKAGES = ("torch.nn.modules.", "detectron2.layers.", f"{__name__.split('.')[0]}.")

_DRAWING = (nn.modules.dropout._DropoutNd, nn.RReLU)
"""Modules whose numbers would differ between two backward passes through one forward pass."""


def _can_be_left_out(module: nn.Module) -> bool:
    """Whether nothing tells a step in which a module does not run, where it runs later or never,
    and all that takes a gradient through it is a parameter of its own."""
    known = _is_known(module) and not _hides_tensors(module)
    return known and not is_watched(module) and not _waits(module)


def _is_known(module: nn.Module) -> bool:
    """Whether torch, detectron2 or this package defines what a module does when it is called.

    Others may keep a state, use what is not theirs, or wait for other processes.
    """
    return type(module).__module__.startswith(_KNOWN_PACKAGES)


def _hides_tensors(module: nn.Module) -> bool:
    """Whether some are neither parameters nor buffers, like the weights of DataParallel's copies of
    a module."""
    return any(isinstance(value, Tensor) for value in vars(module).values())


def _gathers_statistics(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.training and module.track_running_stats


def _waits(module: nn.Module) -> bool:
    """Whether a norm waits for all processes to run it, in each step."""
    synchronized = isinstance(module, (nn.SyncBatchNorm, NaiveSyncBatchNorm))
    return synchronized and module.training and comm.get_world_size() > 1
