"""Finding the layer in which infinities and NaNs first occur."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.structures import ImageList
from detectron2.utils import comm
from torch import Tensor, nn


class _FoundError(Exception):
    """Stop the forward pass at the first value that is not finite."""


@torch.no_grad()
def describe_non_finite(model: nn.Module, batches: Sequence[Any], *, is_first: bool) -> str:
    """Repeat a forward pass whose loss was not finite, to find where this began.

    Args:
        model: Model in training mode, with the parameters of that step. Its noise is drawn anew.
        batches: Inputs of the model in that step.
        is_first: Whether it was the first step, so that the parameters are the initial ones.

    Returns:
        Names the first parameter that is not finite, or else the first layer with such an output.
    """
    # Not the buffers: this step has already updated BatchNorm's statistics.
    for name, tensor in model.named_parameters():
        if not is_finite(tensor):
            origin = "from the start" if is_first else "from an earlier step"
            return f"{name!r} has values that are not finite, {origin}"
    if comm.get_world_size() > 1 and any(map(_waits_for_others, model.modules())):
        return "the layer was not searched for: synchronized norms would wait for other processes"
    results = (first_non_finite_layer(model, batch) for batch in batches)
    try:
        found = next((result for result in results if result is not None), None)
    except RuntimeError as error:  # Such as too little memory.
        reason = str(error).strip().partition("\n")[0]
        return f"the search for the layer failed ({type(error).__name__}: {reason})"
    if found is None:
        return (
            "all layers had finite outputs when the forward pass was repeated with other random "
            "numbers: the computation of the loss itself may be the cause"
        )
    name, kind, is_given = found
    origin = "whose input was not finite" if is_given else "from finite inputs"
    return f"the first layer with such an output is {name!r} ({kind}), {origin}"


def first_non_finite_layer(model: nn.Module, data: Any) -> tuple[str, str, bool] | None:
    """Return the innermost, first layer whose output is not finite in a forward pass.

    Args:
        model: Any module.
        data: Argument of the module.

    Returns:
        The layer's name, its type, and whether its input was already not finite; None if there is
        no such layer.

    Raises:
        RuntimeError: If the forward pass fails for another reason, such as too little memory.
    """
    found: list[tuple[str, str, bool]] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not is_finite(output):
                found.append((name, type(module).__name__, not is_finite(inputs)))
                raise _FoundError

        return hook

    handles = [
        module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name
    ]
    try:
        model(data)
    except _FoundError:
        return found[0]
    # Computing with such values may fail before a layer returns, e.g. in detectron2's checks.
    except (AssertionError, FloatingPointError):
        return None
    finally:
        for handle in handles:
            handle.remove()
    return None


def is_finite(value: Any) -> bool:
    """Return whether all floating-point tensors in nested containers are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, ImageList):
        yield value.tensor
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _waits_for_others(module: nn.Module) -> bool:
    return isinstance(module, (nn.SyncBatchNorm, NaiveSyncBatchNorm))
