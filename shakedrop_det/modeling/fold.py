"""``fold``: turn a trained network into a plain one that does not need this package."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shakedrop_det.layers import ShakeDrop

from .blocks import SHAKEN_BLOCKS, ShakenBlock


@torch.no_grad()
def fold(module: nn.Module) -> nn.Module:
    """Remove ShakeDrop from a trained network, in place, without changing its test-time output.

    The expected scale e of each block (eq. 8 of the paper) is multiplied into the last norm of its
    residual branch, or into the last convolution if there is no norm. Blocks that keep their final
    ReLU become detectron2's own, so the state dict is that of a stock network with the same keys.
    Blocks without it become blocks that differ from detectron2's only in that ReLU. Blocks of this
    package's networks for CIFAR, which have no such ReLU, become its plain ones. Layers
    :class:`~shakedrop_det.layers.ShakeDrop`, which do nothing at test time if they are inverted,
    become ``nn.Identity``.

    The result is for inference: further training would start from scaled norms, without noise.

    Args:
        module: a model that :func:`shakedrop_det.shake` or
            :func:`shakedrop_det.replace_drop_path` was applied to; changed in place.

    Returns:
        nn.Module: ``module``.

    Raises:
        ValueError: if there is nothing with ShakeDrop, or if a block or layer cannot be replaced.
            Nothing is changed in that case.
    """
    named = dict(module.named_modules())
    blocks = {name: child for name, child in named.items() if isinstance(child, ShakenBlock)}
    layers = {name: child for name, child in named.items() if isinstance(child, ShakeDrop)}
    if isinstance(module, ShakeDrop):
        raise ValueError("a ShakeDrop layer by itself cannot be folded: fold the model that has it")
    if not blocks and not layers:
        raise ValueError(
            f"{type(module).__name__} holds no block or layer with ShakeDrop to fold: it is a "
            "plain network already, or shake() was not applied to it"
        )
    _check_layers(layers)
    scaled = _scaled_tensors(blocks)
    for block in blocks.values():
        block.plain_type()  # Before anything is changed.
    for tensor, scale in scaled:
        tensor.mul_(scale)
    for block in blocks.values():
        block.unshake()
    for parent in named.values():
        for name, child in parent._modules.items():  # A layer may be shared by several parents.
            if isinstance(child, ShakeDrop):
                setattr(parent, name, nn.Identity())
    return module


def _check_layers(layers: Mapping[str, ShakeDrop]) -> None:
    for name, layer in layers.items():
        if layer.test_scale != 1.0:
            raise ValueError(
                f"{name} is a ShakeDrop layer that multiplies by {layer.test_scale:.4g} at test "
                "time, and what comes before it is unknown: keep the layer, or train with "
                "inverted=True, which needs no test scale"
            )


def _scaled_tensors(blocks: Mapping[str, ShakenBlock]) -> list[tuple[Tensor, float]]:
    """The tensors that take a test scale, with the scale."""
    found: list[tuple[Tensor, float]] = []
    owner: dict[int, str] = {}
    for name, block in blocks.items():
        if type(block) not in SHAKEN_BLOCKS.values():
            raise ValueError(
                f"block {name!r} became a {type(block).__name__}, as wrappers such as fully_shard "
                "make it: fold a model without such wrappers that has the same weights"
            )
        for conv, scale in block.test_scales():
            if scale == 1.0:
                continue
            for tensor in _weight_and_bias(conv, name):
                if id(tensor) in owner:
                    raise ValueError(
                        f"the blocks {owner[id(tensor)]!r} and {name!r} share the weights that "
                        "would take their test scales: give each block weights of its own"
                    )
                owner[id(tensor)] = name
                found.append((tensor, scale))
    return found


def _weight_and_bias(conv: nn.Module, block: str) -> list[Tensor]:
    """The tensors to multiply: those of the last convolution's norm, or of the convolution."""
    if (activation := getattr(conv, "activation", None)) is not None:
        name = getattr(activation, "__name__", type(activation).__name__)
        raise ValueError(
            f"the last convolution of the residual branch of block {block!r} is followed by an "
            f"activation, {name}, and a test scale before it would change the output: train with "
            "inverted=True, which needs no test scale"
        )
    norm = getattr(conv, "norm", None)
    target = conv if norm is None or type(norm) is nn.Identity else norm
    kind = type(target).__name__
    if getattr(target, "weight", None) is None:
        raise ValueError(
            f"The last norm of the residual branch of block {block!r}, {kind}, has no weight that "
            "could take the test scale: use a norm with affine parameters, or train with "
            "inverted=True, which needs no test scale"
        )
    found: list[Tensor] = []
    for name in ("weight", "bias"):
        tensor = getattr(target, name, None)
        if not isinstance(tensor, Tensor):
            continue
        if tensor is not target._parameters.get(name, target._buffers.get(name)):
            raise ValueError(
                f"the {name} of the {kind} that would take the test scale of block {block!r} is "
                "computed from other tensors, as by weight_norm, pruning or a parametrization: "
                "remove that before folding, with remove_weight_norm, prune.remove or "
                "parametrize.remove_parametrizations of torch.nn.utils"
            )
        found.append(tensor)
    return found
