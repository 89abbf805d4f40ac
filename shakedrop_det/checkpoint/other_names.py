"""Weights under names other than the model's: inside another model, or of another library."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .contents import without_shared_prefix
from .state_dict import StateDict

TORCHVISION = "layer1.0.conv1.weight"
"""A weight that each ResNet of torchvision, timm, mmdetection and MoCo has, by its name there."""


def without_wrapping_model(state: StateDict, model_state: Mapping[str, Tensor]) -> StateDict:
    """The weights that a model has, under its names, if others wrapped it where they were saved.

    Args:
        state: of a file.
        model_state: the state_dict of the model to load it into.

    Returns:
        dict: ``state`` as it is, if it has weights of the model under their names or none at all.
    """
    state = without_shared_prefix(state, unless=model_state)
    if any(key in state for key in model_state):
        return state
    for name in model_state:
        prefixes = {key.removesuffix(name) for key in state if key.endswith(f".{name}")}
        if prefixes:  # Of two such models none is known to be the one.
            return below(prefixes.pop(), state) if len(prefixes) == 1 else state
    return state


def below(prefix: str, state: StateDict) -> StateDict:
    """The weights of a part of a model, by their names in it."""
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def is_torchvision(key: str) -> bool:
    """Whether it is, in whatever model, :data:`TORCHVISION`."""
    return key == TORCHVISION or key.endswith(f".{TORCHVISION}")


def refuse_torchvision(
    state: Mapping[str, Tensor], model_state: Mapping[str, Tensor], *, source: str
) -> None:
    """Stop if a file has the names of torchvision's ResNets, and the model has not.

    Args:
        state, model_state: see :func:`without_wrapping_model`.
        source: path of the file, for the message.

    Raises:
        ValueError: with the command that converts the file.
    """
    if any(map(is_torchvision, state)) and not any(map(is_torchvision, model_state)):
        raise ValueError(
            f"{source!r} has the names of torchvision's and timm's ResNets, as layer1, where "
            f"detectron2's have res2: {_conversion(source)}"
        )


def refuse_library(source: str) -> None:
    """Stop if ``MODEL.WEIGHTS`` names a network of a library rather than a file.

    Raises:
        ValueError: with the command that makes a file of it.
    """
    library, _, name = source.partition(":")
    if library in ("torchvision", "timm"):
        name = name.lstrip("/")
        raise ValueError(
            f"MODEL.WEIGHTS {source!r} is a network of {library}, and no file: "
            f"{_conversion(f'{library}:{name}', name)}"
        )


def _conversion(source: str, name: str = "") -> str:
    output = f"weights/{name or Path(source.partition('?')[0]).stem}_detectron2.pth"
    command = shlex.join(["tools/convert_weights.py", source.partition("?")[0], "--output", output])
    return f"convert it with `{command}`, then set MODEL.WEIGHTS {shlex.quote(output)}"
