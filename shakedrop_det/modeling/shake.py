"""``shake``: apply ShakeDrop to any detectron2 model, in place."""

from __future__ import annotations

import contextlib
import logging
from typing import Iterator, Optional

from detectron2.layers import CNNBlockBase
from torch import nn

from shakedrop_det.layers import ShakeDrop, ShakeDropSpec, survival_probs

from .blocks import SHAKEN_BLOCKS, ShakenBlock


def shake(
    module: nn.Module,
    spec: ShakeDropSpec,
    num_blocks: Optional[int] = None,
    *,
    first_block: int = 1,
) -> nn.Module:
    """Apply ShakeDrop to the residual blocks of a detectron2 model, in place.

    Only the class of each block changes. Modules, parameters, buffers and hooks stay the same
    objects, and the keys of the state dict stay those of stock detectron2. Blocks are numbered in
    the order of ``module.modules()`` over the whole module; in a C4 detector, the blocks of the
    res5 head follow those of the backbone.

    Args:
        module: a block, backbone, detector or any other module that contains BasicBlock,
            BottleneckBlock or DeformBottleneckBlock of detectron2, a block of this package's
            networks for CIFAR, or one registered by :func:`register_shaken_block`.
        spec: ShakeDrop's settings.
        num_blocks: L of the survival schedule. Defaults to the number of blocks up to the last one
            found; pass it if ``module`` is only part of a network.
        first_block: number of the first block found, counted from 1.

    Returns:
        nn.Module: ``module``.

    Raises:
        ValueError: if there is no supported block, a block already has ShakeDrop, ``num_blocks``
            is too small, or Shake-Shake is requested for a block with one branch.
    """
    blocks = _find_blocks(module)
    last_block = first_block + len(blocks) - 1
    num_blocks = last_block if num_blocks is None else num_blocks
    if first_block < 1 or num_blocks < last_block:
        raise ValueError(
            f"num_blocks={num_blocks} and first_block={first_block} do not fit the {len(blocks)} "
            f"residual blocks of {type(module).__name__}: first_block must be at least 1 and "
            f"num_blocks at least first_block + {len(blocks)} - 1"
        )
    for block in blocks:  # Before any of them is changed.
        SHAKEN_BLOCKS[type(block)].check(spec)
    probs = survival_probs(num_blocks, survival_prob=spec.survival_prob, decay=spec.decay)
    for block, survival_prob in zip(blocks, probs[first_block - 1 : last_block], strict=True):
        SHAKEN_BLOCKS[type(block)].shake(block, spec=spec, survival_prob=survival_prob)
    return module


def _find_blocks(module: nn.Module) -> list[CNNBlockBase]:
    """All supported residual blocks; warns about the others."""
    found: list[CNNBlockBase] = []
    unknown: dict[str, str] = {}
    for name, child in module.named_modules():
        if isinstance(child, ShakenBlock):
            raise ValueError(
                f"{name or type(module).__name__} already has ShakeDrop; apply `shake` once, "
                "to a newly built model"
            )
        if type(child) in SHAKEN_BLOCKS:
            if "forward" in vars(child):
                raise ValueError(
                    f"{name or type(module).__name__} has a forward method of its own, as wrappers "
                    "for gradient checkpointing set it, which would hide ShakeDrop: apply `shake` "
                    "before such wrappers"
                )
            found.append(child)
        elif _may_be_residual(child) and name.rpartition(".")[2] != "stem":
            unknown.setdefault(type(child).__name__, name)
    if not found:
        kind = f"{type(module).__module__}.{type(module).__name__}"
        known = ", ".join(block.__name__ for block in SHAKEN_BLOCKS)
        others = f"; it holds {', '.join(unknown)}" if unknown else ""
        raise ValueError(
            f"{kind} holds no residual block that ShakeDrop knows ({known}){others}. Register a "
            "block with @shakedrop_det.register_shaken_block, or use replace_drop_path or the "
            "layer ShakeDrop"
        )
    if unknown:
        logging.getLogger(__name__).warning(
            "ShakeDrop does not know these residual blocks. It leaves them unchanged and does not "
            "count them in its schedule: %s. Register them with "
            "@shakedrop_det.register_shaken_block",
            ", ".join(f"{kind} (such as {name})" for kind, name in sorted(unknown.items())),
        )
    return found


def _may_be_residual(module: nn.Module) -> bool:
    return isinstance(module, CNNBlockBase) and getattr(module, "IS_RESIDUAL", True)


@contextlib.contextmanager
def without_noise(module: nn.Module) -> Iterator[None]:
    """Let ShakeDrop in ``module`` behave as at test time, even in training mode.

    Use it for forward passes that only gather statistics, such as those of fvcore's ``PreciseBN``
    and of ``torch.optim.swa_utils.update_bn``.
    """
    blocks = [child for child in module.modules() if isinstance(child, (ShakenBlock, ShakeDrop))]
    before = [block.noise for block in blocks]
    try:
        for block in blocks:
            block.noise = False
        yield
    finally:
        for block, noise in zip(blocks, before, strict=True):
            block.noise = noise
