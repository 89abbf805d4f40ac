"""Weights with other names than the model's: in a wrapping model, or from another library."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .contents import without_shared_prefix
from .state_dict import StateDict

TORCHVISION = "layer1.0.conv1.weight"
"""Name of a weight that every ResNet of torchvision, timm, mmdetection and MoCo has."""


def without_wrapping_model(state: StateDict, model_state: Mapping[str, Tensor]) -> StateDict:
    """Return a model's weights under its names, even if they were saved from a wrapping model.

    Args:
        state: Weights in a file.
        model_state: State dict of the model to load them into.

    Returns:
        The model's weights; ``state`` unchanged if it has their names or none of them.
    """
    state = without_shared_prefix(state, unless=model_state)
    if any(key in state for key in model_state):
        return state
    for name in model_state:
        prefixes = {key.removesuffix(name) for key in state if key.endswith(f".{name}")}
        if prefixes:  # If there are two such models, it is not known which one to use.
            return below(prefixes.pop(), state) if len(prefixes) == 1 else state
    return state


def below(prefix: str, state: StateDict) -> StateDict:
    """Return the weights of a submodule under their names in it."""
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def is_torchvision(key: str) -> bool:
    """Return whether a key is :data:`TORCHVISION`, with any prefix."""
    return key == TORCHVISION or key.endswith(f".{TORCHVISION}")


def refuse_torchvision(
    state: Mapping[str, Tensor], model_state: Mapping[str, Tensor], *, source: str
) -> None:
    """Check that a file does not have torchvision's names of ResNets, unless the model does.

    Args:
        state, model_state: See :func:`without_wrapping_model`.
        source: Path of the file, for the message.

    Raises:
        ValueError: If it does. The message gives the command that converts the file.
    """
    if any(map(is_torchvision, state)) and not any(map(is_torchvision, model_state)):
        raise ValueError(
            f"{source!r} has the names of torchvision's and timm's ResNets, such as layer1 instead "
            f"of detectron2's res2: {_conversion(source)}"
        )


def refuse_library(source: str) -> None:
    """Check that ``MODEL.WEIGHTS`` does not name a network of a library instead of a file.

    Raises:
        ValueError: If it does. The message gives the command that creates a file from it.
    """
    library, _, name = source.partition(":")
    if library in ("torchvision", "timm"):
        name = name.lstrip("/")
        raise ValueError(
            f"MODEL.WEIGHTS {source!r} is a network of {library}, not a file: "
            f"{_conversion(f'{library}:{name}', name)}"
        )


def _conversion(source: str, name: str = "") -> str:
    output = f"weights/{name or Path(source.partition('?')[0]).stem}_detectron2.pth"
    command = shlex.join(["tools/convert_weights.py", source.partition("?")[0], "--output", output])
    return f"convert it with `{command}`, then set MODEL.WEIGHTS {shlex.quote(output)}"
