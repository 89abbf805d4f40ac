"""Replacing a network's own Stochastic Depth by ShakeDrop."""

from __future__ import annotations

import re
from collections.abc import Container

from torch import nn

from shakedrop_det.layers import ShakeDrop, ShakeDropSpec, survival_probs

_TYPES = ("DropPath", "StochasticDepth")
_NAMES = re.compile(r"drop_path\d*|stochastic_depth")


def replace_drop_path(model: nn.Module, spec: ShakeDropSpec) -> nn.Module:
    """Replace each DropPath of a model by :class:`~shakedrop_det.layers.ShakeDrop`, in place.

    This is for networks without detectron2's residual blocks: detectron2's ViT, Swin and MViT, and
    networks of timm and torchvision. Modules are recognized by the name of their class, "DropPath"
    or "StochasticDepth". Where nothing is dropped, usually in the first block, libraries use an
    ``nn.Identity`` or None instead; it is replaced too if it is named ``drop_path``,
    ``drop_path1`` or ``stochastic_depth``. The modules of one block share its survival
    probability. As in the schedules of these libraries, all such blocks count, also those of an
    EfficientNet that have no shortcut and never call the layer. Layers are in the mode, training
    or eval, of the block that holds them.

    Args:
        model: built with any rate of Stochastic Depth above 0; changed in place.
        spec: ShakeDrop's settings. ``erase_relu``, ``skip`` and ``branches`` have no effect.

    Returns:
        nn.Module: ``model``.

    Raises:
        ValueError: if there is nothing to replace, if it was replaced before, or if the level is
            "channel", since these networks differ in which axis holds the channels.
    """
    if spec.level == "channel":
        raise ValueError(
            "level 'channel' is not supported in place of DropPath: networks keep their channels "
            "on different axes; use 'batch', 'image' or 'pixel'"
        )
    dropping = {type(m) for m in model.modules() if any(map(_is_drop_path, m.children()))}
    if not dropping and any(isinstance(module, ShakeDrop) for module in model.modules()):
        raise ValueError(
            f"{type(model).__name__} has layers ShakeDrop already, and no DropPath or "
            "StochasticDepth to replace; apply `replace_drop_path` once, to a newly built model"
        )
    if not dropping:
        raise ValueError(
            f"{type(model).__name__} holds no DropPath or StochasticDepth to replace: build it "
            "with a rate above 0, such as drop_path_rate=0.1"
        )
    blocks = [module for module in model.modules() if _drop_paths(module, dropping)]
    probs = survival_probs(len(blocks), survival_prob=spec.survival_prob, decay=spec.decay)
    for block, survival_prob in zip(blocks, probs, strict=True):
        for name in _drop_paths(block, dropping):
            setattr(block, name, _shakedrop(spec, survival_prob).train(block.training))
    return model


def _drop_paths(block: nn.Module, dropping: Container[type[nn.Module]]) -> list[str]:
    """The names of the attributes of a block that implement Stochastic Depth.

    Args:
        block: any module.
        dropping: the classes of which some instance has a DropPath. In those, None stands for one.
    """
    # named_children() gives shared ones once.
    found = [name for name, child in block._modules.items() if _stands_for_drop_path(name, child)]
    if type(block) in dropping:
        held = {**vars(block), **block._modules}
        found += [name for name, value in held.items() if value is None and _NAMES.fullmatch(name)]
    return found


def _stands_for_drop_path(name: str, child: nn.Module | None) -> bool:
    is_unused = isinstance(child, nn.Identity) and _NAMES.fullmatch(name) is not None
    return child is not None and (_is_drop_path(child) or is_unused)


def _is_drop_path(module: nn.Module) -> bool:
    return type(module).__name__ in _TYPES


def _shakedrop(spec: ShakeDropSpec, survival_prob: float) -> ShakeDrop:
    names = ("alpha", "beta", "level", "gate_level", "inverted")
    return ShakeDrop(survival_prob, **{name: getattr(spec, name) for name in names})
