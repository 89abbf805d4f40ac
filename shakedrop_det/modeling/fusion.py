"""What may be computed in another way than by calling each module, and what may be left out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import _has_any_global_hook

from shakedrop_det.layers import frozen_affine
from shakedrop_det.layers.junction import KNOWN_NORMS
from shakedrop_det.layers.scales import can_read

_HOLDING = threading.RLock()


def is_plain(conv: nn.Module) -> bool:
    """Whether a convolution of detectron2 may run in another way, and its norm apart from it.

    That is not so for subclasses, quantized modules and weights of another kind, which may compute
    anything, or where somebody hooked convolution or norm to see it run. Nor is it for a norm that
    the junction does not know: one that waits for other processes has to run when it does there.
    """
    if type(conv) is not Conv2d or conv.activation is not None or _is_watched(conv):
        return False
    if type(conv.weight) not in (Tensor, nn.Parameter):
        return False
    return conv.norm is None or (type(conv.norm) in KNOWN_NORMS and not _is_watched(conv.norm))


def conv_without_norm(conv: Conv2d, x: Tensor) -> Tensor:
    """What ``conv`` hands to its norm."""
    return _conv2d(conv, x, conv.weight, conv.bias)


def conv_with_frozen_norm(conv: Conv2d, x: Tensor) -> Tensor:
    """What ``conv`` gives, its FrozenBatchNorm2d being part of weight and bias."""
    weight, bias = frozen_affine(conv.norm)
    bias = bias.view(-1)
    if conv.bias is not None:
        bias = bias + conv.bias * weight.view(-1)
    return _conv2d(conv, x, conv.weight * weight.view(-1, 1, 1, 1), bias)


def _conv2d(conv: Conv2d, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    """As detectron2's Conv2d, which pads with zeros whatever its ``padding_mode``."""
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def can_join_conv(conv: Conv2d, x: Tensor) -> bool:
    """Whether :func:`conv_junction` can compute a convolution of ``x``, its norm and what follows.

    On a GPU, in compiled graphs and under autocast it is not used: there a junction by itself is
    one kernel.
    """
    return (
        _has_separable_gradient(conv)
        and can_read(x)
        and keeps_dtype(x)
        and conv.weight.dtype == x.dtype
    )


def _has_separable_gradient(conv: Conv2d) -> bool:
    """Whether the gradient through a convolution and its norm needs no output of it.

    So it is for FrozenBatchNorm2d; other norms need their input again in the backward pass.
    """
    frozen = type(conv.norm) is FrozenBatchNorm2d
    return frozen and conv.bias is None and not isinstance(conv.padding, str)


def keeps_dtype(x: Tensor) -> bool:
    """Whether a convolution of ``x`` gives its dtype, and not another because of autocast."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):
        return True
    return not torch.is_autocast_enabled(kind) or x.dtype == torch.get_autocast_dtype(kind)


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
            _has_separable_gradient(last_conv)
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
    return known and not _is_watched(module) and not _waits(module)


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


def _is_watched(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
        or _has_any_global_hook()
    )
