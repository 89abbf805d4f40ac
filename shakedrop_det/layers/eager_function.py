"""Applying an autograd Function that has a ``setup_context`` without what that costs."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


def apply(function: type[torch.autograd.Function], *inputs: Any, eager: bool) -> Tensor:
    """``function.apply``, in less time where Python runs in each step.

    A Function with a ``setup_context`` first binds its default arguments by ``inspect``, which
    takes three times as long as the rest. Only torch.func and compilers need such a Function.

    Args:
        function: a Function with a ``setup_context``.
        inputs: all inputs of its forward pass.
        eager: see :func:`~shakedrop_det.layers.scales.runs_python`.
    """
    return (_with_context(function) if eager else function).apply(*inputs)


@cache
def _with_context(function: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """The same Function, whose forward pass takes the context."""

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = function.forward(*inputs)
        function.setup_context(ctx, inputs, output)
        return output

    methods = {"forward": staticmethod(forward), "backward": staticmethod(function.backward)}
    return type(function.__name__, (torch.autograd.Function,), methods)
