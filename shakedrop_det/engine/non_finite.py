"""Finding the layer that infinite numbers and NaNs come from."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.structures import ImageList
from detectron2.utils import comm
from torch import Tensor, nn


class _FoundError(Exception):
    """Ends the forward pass at the first such number."""


@torch.no_grad()
def describe_non_finite(model: nn.Module, batches: Sequence[Any], *, is_first: bool) -> str:
    """Run a model on batches that gave a loss which is no finite number, to say where it arose.

    Args:
        model: in training mode, with the parameters of that step. Its noise is drawn anew.
        batches: what it was given in that step.
        is_first: whether it was the first step, so that the parameters are those it began with.

    Returns:
        str: the first parameter that is not finite, else the first layer with such an output.
    """
    # Not the buffers: BatchNorm's statistics are of this very step.
    for name, tensor in model.named_parameters():
        if not is_finite(tensor):
            origin = "which it began with" if is_first else "from an earlier step"
            return f"{name!r} holds numbers that are not finite, {origin}"
    if comm.get_world_size() > 1 and any(map(_waits_for_others, model.modules())):
        return "the layer was not looked for, as a synchronized norm would wait for other processes"
    results = (first_non_finite_layer(model, batch) for batch in batches)
    found = next((result for result in results if result is not None), None)
    if found is None:
        return (
            "no layer gave such numbers when the forward pass was repeated, with other random "
            "numbers: they may be from the computation of the loss itself"
        )
    name, kind, is_given = found
    origin = "which it was given" if is_given else "from finite inputs"
    return f"the first layer with such an output is {name!r} ({kind}), {origin}"


def first_non_finite_layer(model: nn.Module, data: Any) -> tuple[str, str, bool] | None:
    """The innermost, first layer whose output is not finite in a forward pass.

    Args:
        model: any module.
        data: its argument.

    Returns:
        The layer's name and type, and whether its input was not finite already; None if there is no
        such layer.
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
    # Further computation with such numbers may fail, as detectron2's checks do, before a layer.
    except (AssertionError, FloatingPointError, RuntimeError):
        return None
    finally:
        for handle in handles:
            handle.remove()
    return None


def is_finite(value: Any) -> bool:
    """Whether all floating point numbers of tensors in nested containers are finite."""
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
