"""Exchange modules in a network."""

from __future__ import annotations

from typing import Mapping, TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def shallow_copy(module: nn.Module, new_type: type[ModuleT]) -> ModuleT:
    """A module of another type that shares the children, parameters, buffers and hooks of one.

    Each registry is copied, so that replacing a child in one module leaves the other alone; but
    those of hooks are the same, so that handles which were given out still remove their hook.
    """
    copy = new_type.__new__(new_type)
    for name, value in vars(module).items():
        is_registry = isinstance(value, dict) and "_hooks" not in name
        copy.__dict__[name] = value.copy() if is_registry else value
    return copy


def replace_modules(root: nn.Module, replacements: Mapping[int, nn.Module]) -> nn.Module:
    """Put other modules in the place of some, wherever they occur.

    Args:
        root: the network, changed in place.
        replacements: the new module by the ``id`` of the old one.

    Returns:
        nn.Module: ``root``, or its replacement.
    """
    for parent in list(root.modules()):
        # Not named_children(), which leaves out what it has seen under another name.
        for name, child in list(parent._modules.items()):
            if id(child) in replacements:
                setattr(parent, name, replacements[id(child)])
    return replacements.get(id(root), root)
